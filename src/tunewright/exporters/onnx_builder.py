"""Runs onnxruntime-genai's builder with the patches it needs; `tunewright.exporters.onnx` starts it as a process.

For weights that are already quantised: the builder would look for more to quantise, and copy the whole model twice for
it. There is nothing more to quantise.

For configs of transformers 5 (onnxruntime-genai 0.18): the builder reads windows only from `layer_types` and misses the
`type` of a long rotary encoding. It stretches both of Gemma 3's encodings, though only that of the full-attention
layers is stretched, and Ministral 3's by bounds that transformers rounds. It knows Ministral 3 only with its vision
part. The decoder alone is a Mistral, except that its queries grow beyond `original_max_position_embeddings`: up to that
length the model can be used.
"""

from __future__ import annotations

from typing import Any

from tunewright.models.architectures import SLIDING, windows_of


def main() -> None:
    from onnxruntime_genai.models import builder

    (base,) = (each for each in builder.LlamaModel.__mro__ if "to_nbits" in vars(each))

    def unchanged(model: Any) -> Any:
        return model.model

    base.to_nbits = unchanged
    builder.AutoConfig = _Configs
    arguments = builder.get_args()
    options = builder.parse_extra_options(
        arguments.model_name,
        arguments.input,
        arguments.output,
        arguments.precision,
        arguments.execution_provider,
        arguments.cache_dir,
        arguments.extra_options,
    )
    builder.create_model(
        arguments.model_name,
        arguments.input,
        arguments.output,
        arguments.precision,
        arguments.execution_provider,
        arguments.cache_dir,
        **options,
    )


class _Configs:
    """Takes the place of transformers' AutoConfig."""

    @staticmethod
    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        from transformers import AutoConfig

        return _in_older_form(AutoConfig.from_pretrained(*args, **kwargs))


def _in_older_form(config: Any) -> Any:
    """Change a config to the form that the builder reads, and patch the builder where that is not enough."""
    from onnxruntime_genai.models import builder
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope, windows = config.rope_parameters, windows_of(config.to_dict())
    if any(windows):
        config.layer_types = [SLIDING if window else "full_attention" for window in windows]
    match config.model_type:
        case "phi3" if rope["rope_type"] == "longrope":
            rope["type"] = "longrope"
        case "ministral":
            config.architectures = ["MistralForCausalLM"]
        case "ministral3":
            config.architectures = ["MistralForCausalLM"]
            stretched, _ = ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu")
            builder.MistralModel.make_inv_freq_rescaled = lambda *_: stretched
        case "gemma3_text":
            config.rope_local_base_freq = rope["sliding_attention"]["rope_theta"]
            config.rope_parameters = dict(rope["full_attention"])
            builder.Gemma3Model.make_rotary_embedding_multi_cache = _two_encodings
    return config


def _two_encodings(model: Any) -> None:
    """Make Gemma 3's encodings: that of the full-attention layers, then that of the others."""
    make = super(type(model), model).make_rotary_embedding_caches
    model.cos_cache_global_name, model.sin_cache_global_name = "cos_cache_global", "sin_cache_global"
    make(cos_cache_name=model.cos_cache_global_name, sin_cache_name=model.sin_cache_global_name)
    model.rope_attrs |= {"create_caches": True, "theta": model.rope_local_theta, "rescale_factors": 1}
    model.cos_cache_local_name, model.sin_cache_local_name = "cos_cache_local", "sin_cache_local"
    make(cos_cache_name=model.cos_cache_local_name, sin_cache_name=model.sin_cache_local_name)


if __name__ == "__main__":
    main()

"""onnxruntime-genai's builder, run as a process by `tunewright.exporters.onnx`, with what it lacks.

Weights that are quantised already: it would look for more to quantise, and copies the whole model twice for it. There
is nothing more.

Configs of transformers 5 (onnxruntime-genai 0.18): it takes windows from `layer_types` alone and misses a long rotary
encoding's `type`. It stretches both of Gemma 3's encodings, where only that of the layers that see everything is, and
Ministral 3's by bounds that transformers rounds. It knows Ministral 3 only with its eyes. The decoder alone is a
Mistral, but for queries that grow beyond `original_max_position_embeddings`: so far it may be asked.
"""

from __future__ import annotations

from typing import Any

from tunewright.models.architectures import SLIDING, windows_of


def main() -> None:
    from onnxruntime_genai.models import builder

    (base,) = (each for each in builder.LlamaModel.__mro__ if "to_nbits" in vars(each))

    def as_it_is(model: Any) -> Any:
        return model.model

    base.to_nbits = as_it_is
    builder.AutoConfig = _Configs
    asked = builder.get_args()
    options = builder.parse_extra_options(
        asked.model_name,
        asked.input,
        asked.output,
        asked.precision,
        asked.execution_provider,
        asked.cache_dir,
        asked.extra_options,
    )
    builder.create_model(
        asked.model_name,
        asked.input,
        asked.output,
        asked.precision,
        asked.execution_provider,
        asked.cache_dir,
        **options,
    )


class _Configs:
    """In place of transformers' AutoConfig."""

    @staticmethod
    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        from transformers import AutoConfig

        return _in_older_words(AutoConfig.from_pretrained(*args, **kwargs))


def _in_older_words(config: Any) -> Any:
    """A config as the builder reads it; it is changed, and so is the builder where that is not enough."""
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
    """Gemma 3's: that of the layers that see everything, then that of the others."""
    make = super(type(model), model).make_rotary_embedding_caches
    model.cos_cache_global_name, model.sin_cache_global_name = "cos_cache_global", "sin_cache_global"
    make(cos_cache_name=model.cos_cache_global_name, sin_cache_name=model.sin_cache_global_name)
    model.rope_attrs |= {"create_caches": True, "theta": model.rope_local_theta, "rescale_factors": 1}
    model.cos_cache_local_name, model.sin_cache_local_name = "cos_cache_local", "sin_cache_local"
    make(cos_cache_name=model.cos_cache_local_name, sin_cache_name=model.sin_cache_local_name)


if __name__ == "__main__":
    main()

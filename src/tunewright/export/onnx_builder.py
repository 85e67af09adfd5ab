"""onnxruntime-genai's builder for weights that are quantised already: `tunewright.export.onnx` runs it as a process.

The builder would look for more to quantise, and copies the whole model twice for it. There is nothing more.
"""

from __future__ import annotations

from typing import Any


def main() -> None:
    from onnxruntime_genai.models import builder

    (base,) = (each for each in builder.LlamaModel.__mro__ if "to_nbits" in vars(each))

    def as_it_is(model: Any) -> Any:
        return model.model

    base.to_nbits = as_it_is
    asked = builder.get_args()
    options = builder.parse_extra_options(
        asked.model_name, asked.input, asked.output, asked.precision, asked.execution_provider, asked.cache_dir,
        asked.extra_options,
    )  # fmt: skip
    builder.create_model(
        asked.model_name, asked.input, asked.output, asked.precision, asked.execution_provider, asked.cache_dir,
        **options,
    )  # fmt: skip


if __name__ == "__main__":
    main()

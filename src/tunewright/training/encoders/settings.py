"""Translates an encoder's settings into the keys that every training has."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.config import Spec
from tunewright.models.line_ends import LINE_END
from tunewright.tasks import Example

_BATCH, _FEW_BATCH, _FEW_DOCUMENTS = 32, 8, 500
"""Texts in a batch, and in a batch of records with few documents, which would otherwise have too few steps to learn
what marks a field. Labels with few texts did not gain from smaller batches (docs/encoders.md)."""
_LINES = 0.5
"""The share of texts with several lines from which a line's end is a token."""
_OWN = {"head_lr", "label_smoothing", "consistency"}
"""Settings that only encoders have."""


def for_encoder(spec: Spec, texts: int) -> Spec:
    """A spec with an encoder's settings in the keys of `train` that every training has.

    Args:
        texts: number of training texts or documents; irrelevant if the batch size is set, as in a spec that this
            function returned.
    """
    encoder = spec.train.encoder
    few = spec.task.kind == "extract" and texts < _FEW_DOCUMENTS
    encoder = encoder.model_copy(update={"batch_size": encoder.batch_size or (_FEW_BATCH if few else _BATCH)})
    changes = encoder.model_dump(exclude=_OWN) | {
        "encoder": encoder,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
    }
    return spec.model_copy(update={"train": spec.train.model_copy(update=changes)})


def reads_lines(spec: Spec, examples: Sequence[Example]) -> bool:
    """Whether a line's end is a token: for records, if enough training texts have several lines to learn it from."""
    lines = sum(LINE_END in example.request.strip() for example in examples)
    return spec.task.kind == "extract" and lines >= _LINES * max(len(examples), 1)

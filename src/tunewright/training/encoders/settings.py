"""What an encoder's training goes by, in the keys that every training has."""

from __future__ import annotations

from tunewright.config import Spec

_BATCH, _FEW_BATCH, _FEW_DOCUMENTS = 32, 8, 500
"""Texts of a batch; fewer where records of few documents are taught, because there would be too few steps to learn what
marks a field. Labels of few texts did not gain by it (docs/encoders.md)."""
_OWN = {"head_lr", "label_smoothing", "consistency"}
"""What no other training has a key for."""


def for_encoder(spec: Spec, texts: int) -> Spec:
    """A spec whose `train` is as an encoder is trained: its own settings in the keys that every training has.

    Args:
        texts: how many are taught, or documents; of no matter where the batch is settled, as in what this returns.
    """
    own = spec.train.encoder
    few = spec.task.kind == "extract" and texts < _FEW_DOCUMENTS
    own = own.model_copy(update={"batch_size": own.batch_size or (_FEW_BATCH if few else _BATCH)})
    changes = own.model_dump(exclude=_OWN) | {
        "encoder": own,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
    }
    return spec.model_copy(update={"train": spec.train.model_copy(update=changes)})

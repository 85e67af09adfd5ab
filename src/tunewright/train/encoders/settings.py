"""What an encoder's training goes by, in the keys that every training has."""

from __future__ import annotations

from tunewright.spec import Spec

_BATCH, _FEW_BATCH, _FEW_DOCUMENTS = 32, 8, 500
"""Texts of a batch; fewer where records of few documents are taught, because there would be too few steps to learn what
marks a field. Labels of few texts did not gain by it (docs/encoders.md)."""


def for_encoder(spec: Spec, texts: int) -> Spec:
    """A spec whose `train` is as an encoder is trained.

    Args:
        texts: how many are taught, or documents.
    """
    own = spec.train.encoder
    few = spec.task.kind == "extract" and texts < _FEW_DOCUMENTS
    own = own.model_copy(update={"batch_size": own.batch_size or (_FEW_BATCH if few else _BATCH)})
    train = spec.train.model_copy(update={"encoder": own})
    return spec.model_copy(update={"train": train.for_encoder()})

"""An encoder's settings, translated into a training's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import make_spec
from tunewright.training.encoders.settings import for_encoder

SCHEMA = {"type": "object", "properties": {"total": {"type": "string"}}}
RECORDS = {"kind": "extract", "instruction": "Read.", "schema": SCHEMA}


@pytest.mark.parametrize(
    ("task", "texts", "train", "batch"),
    [
        (RECORDS, 499, {}, 8),
        (RECORDS, 500, {}, 32),
        (None, 10, {}, 32),
        (RECORDS, 499, {"encoder": {"batch_size": 16}}, 16),
    ],
)
def test_records_of_few_documents_are_taught_in_small_batches(
    task: dict[str, Any] | None, texts: int, train: dict[str, Any], batch: int
) -> None:
    spec = for_encoder(make_spec(train=train, **({"task": task} if task else {})), texts)
    assert spec.train.batch_size == spec.train.encoder.batch_size == batch
    assert spec.train.epochs == spec.train.encoder.epochs

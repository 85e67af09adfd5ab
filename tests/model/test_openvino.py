"""SmolLM2 in OpenVINO."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.model.conftest import ShortRun
from tunewright.data import load_dataset
from tunewright.evaluate.calibration import UNCALIBRATED
from tunewright.evaluate.evidence import load_records
from tunewright.export.bundle import load_bundle
from tunewright.export.openvino import build_openvino
from tunewright.models.paged_model import PagedNextToken


def test_the_real_model_in_int8_answers_as_it_was_taught(short_run: ShortRun, tmp_path: Path) -> None:
    """Against the merged weights in torch, on all test examples of the short run."""
    exported = short_run.latest("export")
    bundle = load_bundle(exported / "bundle")
    build_openvino(exported / "merged", tmp_path / "openvino", "int8")
    model = PagedNextToken(tmp_path / "openvino", context=bundle.info.context)
    asked = replace(bundle, calibration=UNCALIBRATED).language_model(model)
    texts = {row.meta.id: row.request for part in load_dataset(short_run.latest("split")).test.values() for row in part}
    records = load_records(short_run.latest("evaluate") / "answers" / "merged.jsonl")
    with ThreadPoolExecutor(model.at_once) as askers:
        found = list(askers.map(lambda record: asked.answer(texts[record.id]), records))
    same = [answer.text == record.answer for answer, record in zip(found, records, strict=True)]
    gaps = [abs(answer.confidence - record.uncalibrated) for answer, record in zip(found, records, strict=True)]
    assert sum(same) / len(same) >= 0.97
    assert float(np.median(gaps)) < 0.01

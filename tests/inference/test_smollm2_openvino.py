"""SmolLM2 in OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.fixtures.short_run import ShortRun
from tunewright.data import load_dataset
from tunewright.exporters.onnx import build_onnx
from tunewright.inference.bundle import load_bundle
from tunewright.inference.runtimes.openvino.model import PagedNextToken
from tunewright.inference.runtimes.ort_model import OrtNextToken
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


def log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    exact = logits.astype(np.float64)
    return exact - np.logaddexp.reduce(exact)


def test_int8_is_close_to_the_merged_weights_in_openvino_and_in_onnx_runtime(
    short_run: ShortRun, tmp_path: Path
) -> None:
    """By the Kullback-Leibler divergence of the next token's distribution behind sixteen prompts. ONNX Runtime has a
    scale for each 64 inputs, OpenVINO one for each output."""
    exported = short_run.latest("export")
    bundle = load_bundle(exported / "bundle")
    build_onnx(exported / "merged", tmp_path / "onnx", "int8")
    merged = TorchNextToken(load_torch_model(exported / "merged"))
    openvino = PagedNextToken(exported / "bundle" / "openvino", context=bundle.info.context)
    onnx = OrtNextToken(tmp_path / "onnx", context=bundle.info.context)
    asked = bundle.language_model(openvino)
    examples = next(iter(load_dataset(short_run.latest("split")).test.values()))[:16]
    divergences = []
    for example in examples:
        (prompt,) = asked.prompts(example.request)
        right = log_softmax(merged(prompt))
        divergences.append([(np.exp(right) * (right - log_softmax(model(prompt)))).sum() for model in (openvino, onnx)])
    ours, theirs = np.mean(divergences, 0)
    assert ours < 0.02
    assert theirs < ours

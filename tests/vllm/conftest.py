"""The contract with the real vLLM, on its CPU build, with the real SmolLM2-135M: `make test-vllm`.

It needs an environment of its own (3.3 GB), 8 GB of memory and ten minutes on two cores, so it is not in `make test`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.serving.test_adapters import peft_adapter
from tunewright.exporters.bundle import write_bundle
from tunewright.exporters.steps import link_weights
from tunewright.inference.bundle import load_bundle
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.runtimes.vllm_model import PYTHON
from tunewright.models.resolve import resolve

MODEL = "smollm2-135m"
TASKS: dict[str, dict[str, Any]] = {
    "classify": {
        "kind": "classify",
        "instruction": "Which kind of request is it? {labels}",
        "labels": ["refund", "delivery of an order", "delivery of a bill", "defect", "praise"],
    },
    "extract": {
        "kind": "extract",
        "instruction": "Read the invoice. {fields}",
        "schema": {
            "type": "object",
            "required": ["vendor", "total"],
            "additionalProperties": False,
            "properties": {
                "vendor": {"type": "string", "maxLength": 30},
                "total": {"type": "number"},
                "due": {"type": "string", "format": "date"},
            },
        },
    },
    "generate": {"kind": "generate", "instruction": "Answer in one sentence.", "max_tokens": 40},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if Path(item.fspath).parent == Path(__file__).parent]
    for item in here:
        item.add_marker(pytest.mark.vllm)
    if PYTHON not in os.environ:
        skip = pytest.mark.skip(reason=f"{PYTHON} names no Python that has vLLM: make test-vllm")
        for item in here:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    spec = make_spec(model=MODEL)
    return resolve(spec.model, spec.folder).folder


@pytest.fixture(scope="session")
def adapter(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter that does something, of rank 4."""
    folder = tmp_path_factory.mktemp("adapter")
    peft_adapter(smollm2, 1, 4, folder, scale=0.05)
    return folder


@pytest.fixture(scope="session")
def make_bundle(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kind of task -> a bundle of the base as it is."""

    def make(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind)
        spec = make_spec(
            name=kind, model=MODEL, task=TASKS[kind], train={"max_length": 512}, export={"runtime": "vllm"}
        )
        link_weights(smollm2, folder / "vllm")
        write_bundle(spec, resolve(spec.model, spec.folder), folder, 24)
        save_calibration(UNCALIBRATED, folder)
        assert load_bundle(folder).info.precision == "16-bit"
        return folder

    return cache(make)

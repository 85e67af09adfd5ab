"""The small files of bundles, damaged: a bundle, or one paragraph. Weights are not loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.conftest import TOKENIZER, make_spec
from tests.drift.made import reference
from tests.fuzz.linear import linear_bundle
from tests.fuzz.mutation import json_of, mutated, names, seeds
from tests.fuzz.running import Check, Input
from tunewright.core.errors import UserError
from tunewright.drift.reference import load_reference
from tunewright.exporters.bundle import write_bundle
from tunewright.inference.bundle import load_bundle
from tunewright.inference.calibration import Calibration, save_calibration
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel

EXTRACT = {
    "kind": "extract",
    "instruction": "Read.",
    "schema": {
        "type": "object",
        "properties": {"total": {"type": "number"}, "of": {"type": "string"}},
        "required": ["total"],
    },
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of a linear model, and one whose model writes records; its weights are a few bytes."""
    folder = tmp_path_factory.mktemp("bundles")
    linear, writing = linear_bundle(folder / "linear"), folder / "writing"
    (writing / "onnx").mkdir(parents=True)
    (writing / "onnx" / "model.onnx").write_bytes(b"weights")
    write_bundle(make_spec(task=EXTRACT), LocalModel("tiny", TOKENIZER, ChatTemplate.named("chatml")), writing, 5)
    save_calibration(Calibration(temperature=2, in_scope=0.3), writing)
    reference().save(writing)
    # What is held against checksums never gets as far as a parser.
    for each in (linear, writing):
        (each / "checksums.json").unlink(missing_ok=True)
    return {"linear": linear, "writing": writing}


@pytest.fixture
def check(bundles: dict[str, Path], tmp_path: Path) -> Check:
    """Puts a file into a copy of the bundle that has it; `bundle.json` of both."""

    def check(name: str, content: bytes) -> None:
        for kind, whole in bundles.items():
            place = next((path.relative_to(whole) for path in whole.rglob(name)), None)
            if place is None and name != "checksums.json":
                continue
            folder = tmp_path / kind
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            (folder / (place or name)).write_bytes(content)
            with suppress(UserError):
                load_bundle(folder).flags(0.5)
            load_reference(folder)

    return check


def _small_files(bundles: dict[str, Path]) -> tuple[Input, ...]:
    kept = (".json", ".jinja", ".npz")
    return tuple(
        (path.name, path.read_bytes())
        for whole in bundles.values()
        for path in sorted(whole.rglob("*"))
        if path.suffix in kept
    )


@pytest.mark.parametrize("seed", seeds("bundle"), ids=names("bundle"))
def test_kept(seed: Input, check: Check, keep: Callable[..., None]) -> None:
    keep(check, seed)


def test_mutated_files(check: Check, bundles: dict[str, Path], fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("bundle", _small_files(bundles)), 60)


def test_files_that_hold_anything(check: Check, bundles: dict[str, Path], fuzz: Callable[..., None]) -> None:
    known = {name: json.loads(content) for name, content in _small_files(bundles) if name.endswith(".json")}
    examples = st.sampled_from(sorted(known)).flatmap(lambda name: json_of([known[name]], name))
    fuzz(check, examples, 60)

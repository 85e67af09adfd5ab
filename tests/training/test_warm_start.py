"""A training that begins with another one's adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import make_spec
from tests.training.test_families import rows
from tunewright.core.errors import UserError
from tunewright.pipeline.fingerprint import fingerprint
from tunewright.pipeline.steps import STEPS
from tunewright.training.loop.soup_training import curve_of, save_adapter
from tunewright.training.loop.trainer import build_trainer

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

MakeTinyModel = Callable[[str], tuple[str, Path]]
SETTINGS = {
    "precision": "float32",
    "lr": 0.01,
    "batch_size": 2,
    "num_checkpoints": 0,
    "schedule": "constant",
    "warmup_ratio": 0.0,
}


@pytest.fixture(scope="module")
def trained(make_tiny_model: MakeTinyModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """An adapter, and the loss of each step that led to it."""
    folder = tmp_path_factory.mktemp("trained")
    losses, trainer = losses_of(make_tiny_model, folder, max_steps=8)
    save_adapter(trainer, folder / "adapter")
    return folder / "adapter", losses


def losses_of(make_tiny_model: MakeTinyModel, folder: Path, **train: object) -> tuple[list[float], object]:
    family, base = make_tiny_model("llama3")
    spec = make_spec(folder, model=str(base), train={**SETTINGS, **train})
    trainer = build_trainer(spec, base, rows(family, base), folder / "checkpoints", seed=3)
    trainer.train()
    return [row["loss"] for row in curve_of(trainer.state.log_history, 0)], trainer


def test_it_goes_on_where_the_other_one_ended(
    trained: tuple[Path, list[float]], make_tiny_model: MakeTinyModel, tmp_path: Path
) -> None:
    adapter, cold = trained
    warm, _ = losses_of(make_tiny_model, tmp_path, max_steps=2, init_adapter=str(adapter))
    assert cold[-1] < 0.9 * cold[0], "the adapter has learnt something"
    assert abs(warm[0] - cold[-1]) < abs(warm[0] - cold[0])
    assert warm[0] < 0.9 * cold[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lora": {"r": 4}}, "rank 16 and alpha 32, this training 4 and 32.*Set train.lora.r=16"),
        ({"init_adapter": "nothing"}, "no adapter to start from"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    changes: dict[str, object],
    said: str,
    trained: tuple[Path, list[float]],
    make_tiny_model: MakeTinyModel,
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=said):
        losses_of(make_tiny_model, tmp_path, max_steps=1, **{"init_adapter": str(trained[0]), **changes})


def test_an_adapter_of_another_base_is_refused(
    trained: tuple[Path, list[float]], make_tiny_model: MakeTinyModel, tmp_path: Path
) -> None:
    family, base = make_tiny_model("phi3")
    spec = make_spec(tmp_path, model=str(base), train={**SETTINGS, "max_steps": 1, "init_adapter": str(trained[0])})
    with pytest.raises(UserError, match="belongs to another base model"):
        build_trainer(spec, base, rows(family, base), tmp_path / "checkpoints", seed=3)


def test_the_adapters_bytes_are_part_of_the_training_and_its_place_is_not(
    trained: tuple[Path, list[float]], make_tiny_model: MakeTinyModel, tmp_path: Path
) -> None:
    base = str(make_tiny_model("llama3")[1])

    def pinned(start: Path | None, step: str = "train") -> str:
        spec = make_spec(tmp_path, model=base, train={"init_adapter": str(start)} if start else {})
        return fingerprint(spec, STEPS[step], {})["fingerprint"]

    for name, alpha in (("same", 32), ("other", 64)):
        (tmp_path / name).mkdir()
        for file in trained[0].iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
        config = json.loads((tmp_path / name / "adapter_config.json").read_text())
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": alpha}))
    assert len({pinned(None), pinned(tmp_path / "same"), pinned(tmp_path / "other")}) == 3
    (tmp_path / "same").rename(tmp_path / "moved")
    before = pinned(tmp_path / "moved")
    (tmp_path / "moved").rename(tmp_path / "again")
    assert pinned(tmp_path / "again") == before
    assert pinned(tmp_path / "again", "export") == pinned(None, "export")

"""The trainer's arguments, its number of steps, and its checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.training_args import OptimizerNames

from tests.conftest import make_spec
from tunewright.training.encoders.trainer import _arguments as encoder_arguments
from tunewright.training.loop import trainer as trainer_module
from tunewright.training.loop.soup_training import _last_checkpoint
from tunewright.training.loop.trainer import _arguments, planned_steps

pytestmark = pytest.mark.slow  # its libraries take seconds to import


def planned(rows: int, **train: float) -> int:
    return planned_steps(make_spec(train=train), rows)


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs"),
    [(100, 8, 1, 1), (101, 10, 2, 2), (9, 2, 4, 3), (7, 16, 1, 0.5), (130, 4, 3, 1.5)],
)
def test_planned_steps_are_those_that_transformers_takes(
    rows: int, batch: int, accumulation: int, epochs: float, tmp_path: Path
) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs,
        use_cpu=True,
        report_to="none",
    )
    trainer = Trainer(torch.nn.Linear(1, 1), arguments, train_dataset=list(range(rows)))
    *_, steps = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
    assert planned(rows, batch_size=batch, gradient_accumulation_steps=accumulation, epochs=epochs) == steps


@pytest.mark.parametrize(("max_steps", "steps"), [(3, 3), (1000, 20), (None, 20)])
def test_max_steps_makes_no_training_longer(max_steps: int | None, steps: int, tmp_path: Path) -> None:
    spec = make_spec(train={"max_steps": max_steps, "batch_size": 10, "epochs": 2, "precision": "float32"})
    assert planned_steps(spec, 100) == steps
    for arguments in (
        _arguments(spec, tmp_path, steps, seed=0, passes=1),
        encoder_arguments(spec, tmp_path, 0, steps, float16=False),
    ):
        trainer = Trainer(torch.nn.Linear(1, 1), arguments, train_dataset=list(range(100)))
        *_, taken = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())
        assert taken == steps


def test_several_processes_share_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = planned(10_000, batch_size=32, epochs=2)
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert planned(10_000, batch_size=4, epochs=2) == alone


def test_a_constant_rate_is_warmed_up_too(tmp_path: Path) -> None:
    spec = make_spec(train={"schedule": "constant", "warmup_ratio": 0.5, "precision": "float32"})
    arguments = _arguments(spec, tmp_path, steps=10, seed=0, passes=1)
    trainer = Trainer(torch.nn.Linear(1, 1), arguments)
    scheduler = trainer.create_scheduler(10, torch.optim.SGD(trainer.model.parameters(), lr=spec.train.lr))
    assert scheduler.get_last_lr() == [0.0]


@pytest.mark.parametrize(
    ("requested", "gpu", "pages", "optimizer", "reported"),
    [
        ("auto", True, True, "adamw_torch_fused", False),
        ("adamw", True, True, "adamw_torch_fused", False),
        ("paged_adamw", True, True, "paged_adamw_32bit", False),
        ("paged_adamw", True, False, "adamw_torch_fused", True),
        ("paged_adamw", False, False, "adamw_torch_fused", True),
        ("paged_adamw_8bit", True, True, "paged_adamw_8bit", False),
        ("paged_adamw_8bit", True, False, "adamw_8bit", True),
        ("paged_adamw_8bit", False, False, "adamw_torch_fused", True),
    ],
)
def test_nothing_is_paged_where_the_device_can_not(
    requested: str, gpu: bool, pages: bool, optimizer: str, reported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a vGPU bitsandbytes ends the process if it has to page."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(trainer_module, "can_page", lambda: pages)
    settings = make_spec(train={"optimizer": requested, "method": "qlora"}).train
    assert trainer_module.optimizer_name(settings) == optimizer
    assert optimizer in set(OptimizerNames)
    assert bool(trainer_module.unpaged(settings)) == reported


def test_an_incomplete_checkpoint_is_skipped(tmp_path: Path) -> None:
    for step, state in ((2, "{}"), (10, '{"global_st')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert _last_checkpoint(tmp_path) == tmp_path / "checkpoint-2"

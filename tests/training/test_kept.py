"""What a training keeps: measurements through interruptions, and whether they chose an adapter."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunewright.core.artifacts import write_jsonl
from tunewright.training.diagnosis.history import CURVE, kept_early


def measured(seed_number: int, step: int, kept: bool) -> dict[str, object]:
    return {"seed_number": seed_number, "step": step, "primary_metric": 0.5, "kept": kept}


@pytest.mark.parametrize(
    ("rows", "early"),
    [
        ([measured(0, 5, True), measured(0, 10, True)], False),
        ([measured(0, 5, True), measured(0, 10, False)], True),
        # An adapter that was worse for a while and is the kept one in the end.
        ([measured(0, 5, True), measured(0, 10, False), measured(0, 15, True)], False),
        # One of two averaged adapters.
        ([measured(0, 10, True), measured(1, 10, False)], True),
        # Nothing was held out, so the validation part chose nothing.
        ([{"seed_number": 0, "step": 1, "loss": 2.0}], False),
    ],
)
def test_whether_the_validation_part_chose_an_adapter(rows: list[dict], early: bool, tmp_path: Path) -> None:
    write_jsonl(tmp_path / CURVE, rows)
    assert kept_early(tmp_path) == early


@pytest.mark.slow
def test_a_measurement_that_was_put_off_survives_a_second_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of step 5 was saved before its measurement; the training was killed before the next checkpoint."""
    from transformers import TrainerControl, TrainerState

    from tunewright.training.loop import callbacks
    from tunewright.training.loop.validation import ValidationScore

    score = ValidationScore([1.0, 0.0], [0.1, 0.9], 2)
    part: Any = SimpleNamespace(score=lambda *_, **__: score, right=lambda _: {}, measure="accuracy", groups=["a", "b"])
    monkeypatch.setattr(callbacks, "_keep", lambda *_: None)
    for _ in range(2):
        state = TrainerState(global_step=5, max_steps=10, log_history=[{"loss": 1.0, "step": 5}])
        log = state.log_history
        trainer = SimpleNamespace(
            model_wrapped=None, engine=None, log=lambda row, log=log: log.append(row | {"step": 5})
        )
        callback = callbacks.Validation(trainer, part, tmp_path, 2, callbacks.Eviction())
        callback.on_train_begin(None, state, TrainerControl())
        assert log[-1].get("primary_metric") == 0.5
    callback.on_train_begin(None, state, TrainerControl())
    assert len(log) == 2, "it is measured once"


@pytest.mark.slow
def test_no_checkpoint_gets_old_because_a_machine_may_go_without_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import TrainerControl, TrainerState

    from tunewright.training.loop import callbacks

    now = [0.0]
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    timely, eviction, state = callbacks.TimelyCheckpoints(), callbacks.Eviction(), TrainerState()

    def is_saved(seconds: float, *, ends: bool = False) -> bool:
        now[0] += seconds
        control = TrainerControl(should_training_stop=ends)
        for each in (timely, eviction):
            each.on_step_end(None, state, control)
        if control.should_save:
            timely.on_save(None, state, control)
        return control.should_save

    now[0] = 1e6
    timely.on_train_begin(None, state, TrainerControl())
    assert not is_saved(callbacks.SAVED_SECONDS)
    assert is_saved(1.0), "a quarter of an hour after the training began"
    assert not is_saved(callbacks.SAVED_SECONDS)
    assert not is_saved(1.0, ends=True), "a finished training needs none"

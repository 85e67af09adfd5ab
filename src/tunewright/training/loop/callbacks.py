"""Callbacks of a training: progress, diagnosis, validation, the best adapter so far, and a machine that is taken
away."""

from __future__ import annotations

import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.core.processes import is_leader, process_count
from tunewright.core.progress import Tracker, say, say_at_once
from tunewright.training.diagnosis.diagnosis import CannotTrain
from tunewright.training.diagnosis.diverging import is_number, no_number
from tunewright.training.diagnosis.history import History
from tunewright.training.diagnosis.rules import diagnose
from tunewright.training.loop.distributed import agreed, any_of
from tunewright.training.loop.soup_training import save_adapter
from tunewright.training.loop.tracking import Tracking
from tunewright.training.loop.validation import SCORES, ValidationPart, ValidationScore, chosen, kept_score

KEPT = "kept"
SAVED_SECONDS = 15 * 60.0
"""How old the last checkpoint of a training may get, where the spec lets it have any."""
_CHECKS = 100
"""How often a training's curve is diagnosed, at most; each check reads all of it."""
_PATIENCE = 2
"""Measurements in a row that must be worse than the best before the training stops."""


class TrainingFollower(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Moves the progress bar; earlier adapters took `before` steps."""

    def __init__(self, tracker: Tracker, before: int):
        self._tracker, self._before = tracker, before

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        if logs and "loss" in logs:
            self._tracker.update(self._before + state.global_step, f"loss {float(logs['loss']):.3f}")


class CurveRecorder(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Sends the curve of one adapter to MLflow; earlier adapters took `before` steps."""

    def __init__(self, tracking: Tracking, before: int):
        self._tracking, self._before = tracking, before

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        self._tracking.metrics(logs or {}, self._before + state.global_step)


class Diagnosing(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Reports each diagnosis once, as soon as it is certain, and ends a training that can't go on.

    Args:
        history: makes a history of the trainer's log.
    """

    def __init__(self, history: Callable[[list[dict[str, Any]]], History]):
        self._history, self._reported = history, set[str]()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._check(state)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        due = state.global_step % max(1, state.max_steps // _CHECKS) == 0
        if due or "loss" not in logs or not is_number(logs, half=False):
            self._check(state)

    def _check(self, state: Any) -> None:
        history = self._history(state.log_history)
        if (fatal := no_number(history)) is not None:
            raise CannotTrain(fatal)
        for diagnosis in diagnose(history):
            if diagnosis.code not in self._reported:
                for line in diagnosis.lines():
                    say(f"  {line}")
            self._reported.add(diagnosis.code)


class Validation(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Measures the adapter `times` times, evenly spaced and at the end, and keeps the best so far in `home/kept`.

    The training stops once two measurements in a row are worse than the best, beyond chance. If the machine is about to
    be taken away, a measurement is put off until the training resumes.
    """

    def __init__(self, trainer: Any, part: ValidationPart, home: Path, times: int, eviction: Eviction):
        self._trainer, self._part, self._home, self._times = trainer, part, home, times
        self._eviction = eviction

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        # The checkpoint's own log decides: one that was saved before a measurement lacks it whatever scores.jsonl has.
        measured = any("primary_metric" in row and row["step"] == state.global_step for row in state.log_history)
        if agreed(not measured and state.global_step in measured_steps(state.max_steps, self._times)):
            self._measure(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if state.global_step in measured_steps(state.max_steps, self._times):
            self._measure(state, control)

    def _measure(self, state: Any, control: Any) -> None:
        score = None
        with self._eviction.deferrable(control) as due_now:
            if due_now:
                score = self._part.score(self._trainer.model_wrapped, self._trainer.engine, divided=True)
        # The leader's score, so that processes with other rounding decide alike.
        if score := agreed(score):
            self._record(score, state, control)

    def _record(self, score: ValidationScore, state: Any, control: Any) -> None:
        measured = f"{self._part.measure} {100 * score.primary_metric:.1f} %, loss {score.loss:.3f}"
        say(f"  step {state.global_step}: validation {measured}")
        rows = {at: row for at, row in self._rows().items() if at < state.global_step}
        scores = [*map(kept_score, rows.values()), score]
        if is_leader():
            write_jsonl(self._home / SCORES, [*rows.values(), {"step": state.global_step, **vars(score)}])
        log_too = control.should_log
        right = self._part.right(score)
        since_kept = len(scores) - 1 - chosen(scores, self._part.groups)
        kept = since_kept == 0
        measurement = {
            "validation_loss": score.loss,
            "primary_metric": score.primary_metric,
            "right": right,
            "kept": kept,
        }
        self._trainer.log(measurement | {"scores": score.scores, "losses": score.losses})
        control.should_log = log_too  # the step's loss is still to be logged
        if kept:
            _keep(self._trainer, self._home / KEPT)
        if since_kept >= _PATIENCE:
            say(
                f"  {_PATIENCE} times in a row worse than the best, beyond chance: stopping at step {state.global_step}"
            )
            control.should_training_stop = True

    def _rows(self) -> dict[int, dict[str, Any]]:
        """The measurements so far, including those before an interruption, by step and in order."""
        file = self._home / SCORES
        return {row["step"]: row for row in read_jsonl(file)} if file.exists() else {}


def measured_steps(steps: int, times: int) -> set[int]:
    """The steps after which the validation part is answered."""
    return {math.ceil(steps * k / times) for k in range(1, times + 1)} if times else set()


def _keep(trainer: Any, kept: Path) -> None:
    """Replace the kept adapter. If a kill interrupts it, the resumed training makes it again."""
    fresh = kept.with_name(f".{kept.name}")
    save_adapter(trainer, fresh)
    if is_leader():
        shutil.rmtree(kept, ignore_errors=True)
        fresh.rename(kept)


class TimelyCheckpoints(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Saves a checkpoint where the last one is `SAVED_SECONDS` old: a spot machine may go away without any notice.

    It must come before `Eviction`, which leaves out the checkpoint of a finished training.
    """

    def __init__(self) -> None:
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._saved = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if any_of(time.monotonic() - self._saved > SAVED_SECONDS):
            control.should_save = True


class Eviction(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """On SIGTERM, which announces that a spot machine is taken away, ends the training after the current step with a
    checkpoint.

    It must come after the callbacks that may end a training: a finished training needs no checkpoint, because its
    adapter is saved at once.
    """

    def __init__(self) -> None:
        self.announced = self.stopped = False
        self._may_leave = False

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Handle SIGTERM inside the block; a second one is handled as before.

        Raises:
            KeyboardInterrupt: at the end of the block, if SIGTERM came.
        """
        before = signal.getsignal(signal.SIGTERM)

        def announce(*_: Any) -> None:
            say_at_once("  SIGTERM: saving a checkpoint after this step")
            self.announced = True
            signal.signal(signal.SIGTERM, before)
            if self._may_leave:
                raise _MeasurementInterrupted

        signal.signal(signal.SIGTERM, announce)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.announced:
            raise KeyboardInterrupt

    @contextmanager
    def deferrable(self, control: Any) -> Iterator[bool]:
        """Wrap work that can be put off: yields whether to do it, and leaves the block if SIGTERM comes meanwhile.

        Work at the end of a training is never put off. Neither is work of several processes: none may leave the others
        in the middle.
        """
        if control.should_training_stop:
            yield True
            return
        if any_of(self.announced):
            yield False
            return
        self._may_leave = process_count() == 1
        with suppress(_MeasurementInterrupted):
            yield True
        self._may_leave = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        if control.should_training_stop:
            control.should_save = False
        elif any_of(self.announced):
            self.stopped = control.should_save = control.should_training_stop = True


class _MeasurementInterrupted(Exception):
    """SIGTERM came during work that can be put off."""

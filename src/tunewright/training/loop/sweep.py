"""Searches the settings that matter most: rank, scale, learning rate and epochs; only the last two where the training
starts from another adapter; for an encoder both learning rates, epochs and label smoothing.

Optuna proposes settings (tree-structured Parzen estimators) and prunes trials that fall behind the median of the others
at the same measurement. Each trial is one model, judged by its real answers to the validation part. Optuna's journal on
disk makes the sweep resumable: an interrupted trial resumes from its own checkpoint. Of a trial that has ended only the
scores and the curve stay.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl, sha256_json, write_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say, track
from tunewright.models.encoders import LocalEncoder
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import is_encoder
from tunewright.tasks import task_of
from tunewright.tasks.measures import wilson_limits
from tunewright.training.diagnosis.diagnosis import CannotTrain
from tunewright.training.diagnosis.history import CURVE
from tunewright.training.encoders.settings import for_encoder
from tunewright.training.loop.prepare import prepare
from tunewright.training.loop.soup_training import Soup
from tunewright.training.loop.trainer import planned_steps
from tunewright.training.loop.validation import SCORES, ValidationScore, chosen, kept_score

_JOURNAL = "journal.log"
_FAILED = "failed"
"""A trial's attribute in Optuna's journal: the code of its diagnosis, or "memory" if it took too much."""
_ENCODER = "train.encoder."
_LORA = "train.lora."
_TRIALS, _MEMBER = "trials", "member-0"
_ONE_SIDED = NormalDist().inv_cdf(0.95)
_WITHOUT_PRUNING = 4
"""Trials that run to their end before any is pruned."""


@dataclass(frozen=True)
class SweepTrial:
    overrides: dict[str, Any]
    """Spec keys and their values, as the user types them."""
    state: str
    """complete; pruned: it fell behind and was stopped; failed: its loss was not a number, or it took too much
    memory."""
    primary_metric: float | None
    """The task's primary metric on the validation part, of the adapter that was kept, or at the last measurement
    before the trial was pruned; None if it failed."""
    loss: float | None


@dataclass(frozen=True)
class Sweep:
    trials: list[SweepTrial]
    """The best first."""
    measure: str
    """The name of the task's primary metric."""
    examples: int
    """Validation examples that each trial was judged on."""
    groups: int
    """The groups of these examples; an example without a group is one of its own."""

    @property
    def noise(self) -> float:
        """How far below the best primary metric a trial may lie by chance, at most.

        It reaches to the lower end of Wilson's one-sided 95 % interval, where each group counts as one example. The
        variance is that of two trials that err independently of each other; those on the same examples differ by less.
        """
        best = self.trials[0].primary_metric or 0.0
        low, _ = wilson_limits(best, self.groups / 2, _ONE_SIDED)
        return best - float(low)


def run_sweep(spec: Spec, split: Path, folder: Path, trials: int) -> Sweep:
    """Run `trials` trials, including those of earlier calls in the same folder, and write `sweep.json`.

    Args:
        split: a dataset.
        folder: for Optuna's journal and the trials' checkpoints.

    Raises:
        UserError: there is no validation part to judge by.
    """
    import optuna
    import torch
    from optuna.trial import FixedTrial

    if spec.model == LINEAR:
        raise UserError(
            "A linear model has no settings to search.",
            where="model",
            fix="Name another model, such as model=all-minilm.",
        )
    soup = _prepared_soup(spec, split, folder / _TRIALS)
    suggest = _encoder_settings if isinstance(soup.base, LocalEncoder) else _adapter_settings
    if soup.validation is None or not spec.train.num_evaluations:
        raise UserError(
            "A sweep needs a validation part to judge by.",
            fix="Type: tunewright train … --sweep data.validation_fraction=0.1 train.num_evaluations=4",
        )
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(spec, folder)
    for number in range(len(_finished(study)) + 1, trials + 1):
        trial = study.ask()
        overrides = suggest(trial, spec)
        say(f"[{number}/{trials}] {written(overrides)}")
        try:
            primary_metric = _train_trial(soup, overrides, trial)
        except optuna.TrialPruned:
            say("  stopped: it is behind the median of the others")
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        except CannotTrain as error:
            _fail(study, trial, error.diagnosis.code, error.what)
        except torch.OutOfMemoryError:
            _fail(study, trial, "memory", "it takes more than the memory of the GPU")
        else:
            study.tell(trial, primary_metric)
        _delete_models(_home(soup.home, overrides))
    proposed = [(each, suggest(FixedTrial(each.params), spec)) for each in _finished(study)]
    result = _result(proposed, spec, folder, soup.validation.groups)
    write_json(folder / "sweep.json", {"noise": result.noise, "trials": [vars(trial) for trial in result.trials]})
    return result


def _fail(study: Any, trial: Any, code: str, why: str) -> None:
    """Record a trial that can't be trained. The failure is a result too: the sampler learns to avoid these settings."""
    say(f"  failed: {why}")
    trial.set_user_attr(_FAILED, code)
    study.tell(trial, 0.0)


def _study(spec: Spec, folder: Path) -> Any:
    """The study in the folder's journal. Trials that a kill left unfinished are queued again."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(folder / _JOURNAL))),
        study_name=spec.name,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_WITHOUT_PRUNING),
        load_if_exists=True,
    )
    # Use another seed after each interruption: the same one would propose the same first trials again.
    seed = spec.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_WITHOUT_PRUNING)
    for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _finished(study: Any) -> list[Any]:
    """The trials that ran to an end. Interrupted ones run again and don't count."""
    import optuna

    states = optuna.trial.TrialState
    return list(study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED)))


def written(overrides: dict[str, Any]) -> str:
    """Settings as the user types them."""
    return " ".join(f"{key}={value:g}" for key, value in overrides.items())


def _prepared_soup(spec: Spec, split: Path, home: Path) -> Soup:
    if not is_encoder(spec.model, spec.folder):
        return prepare(spec, split, home)
    from tunewright.training.encoders.steps import prepare_encoder

    return prepare_encoder(spec, split, home)


def _encoder_settings(trial: Any, spec: Spec) -> dict[str, Any]:
    """Propose settings of an encoder around the spec's."""
    settings = spec.train.encoder
    rates = {
        name: trial.suggest_float(name, usual / 4, usual * 4, log=True)
        for name, usual in (("lr", settings.lr), ("head_lr", settings.head_lr))
    }
    times = trial.suggest_categorical("epochs", [0.5, 1.0, 2.0])
    smoothing = trial.suggest_categorical("label_smoothing", sorted({0.0, settings.label_smoothing, 0.1}))
    return {
        **{f"{_ENCODER}{name}": float(f"{rate:.2g}") for name, rate in rates.items()},
        f"{_ENCODER}epochs": settings.epochs * times,
        f"{_ENCODER}label_smoothing": smoothing,
    }


def _adapter_settings(trial: Any, spec: Spec) -> dict[str, Any]:
    """Propose settings of an adapter around the spec's; the adapter of `train.init_adapter` has its rank and scale."""
    settings = spec.train
    shape = {} if settings.init_adapter else _adapter_shape(trial, settings.lora.r)
    lr = trial.suggest_float("lr", settings.lr / 4, settings.lr * 4, log=True)
    times = trial.suggest_categorical("epochs", [0.5, 1.0, 2.0])
    return {
        **shape,
        "train.lr": float(f"{lr:.2g}"),
        "train.epochs": settings.epochs * times,
    }


def _adapter_shape(trial: Any, rank: int) -> dict[str, Any]:
    """Propose rank and scale around a rank."""
    r = trial.suggest_categorical("r", sorted({max(1, rank // 2), rank, 2 * rank, 4 * rank}))
    scale = trial.suggest_categorical("scale", [1.0, 2.0, 4.0])
    return {f"{_LORA}r": r, f"{_LORA}alpha": scale * r}


def _train_trial(soup: Soup, overrides: dict[str, Any], trial: Any) -> float:
    """Train one trial's model, unless one with the same settings was trained to its end; return its primary metric on
    the validation part."""
    import optuna
    from transformers import TrainerCallback

    from tunewright.training.loop.callbacks import measured_steps

    class Pruning(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            if logs and "primary_metric" in logs:
                # Report by the measurement's number, not by step, so that trials of different length are compared at
                # the same place.
                steps = sorted(measured_steps(state.max_steps, soup.spec.train.num_evaluations))
                trial.report(logs["primary_metric"], steps.index(state.global_step))
                if trial.should_prune():
                    raise optuna.TrialPruned

    spec = _with_settings(soup.spec, overrides)
    home = _home(soup.home, overrides)
    if not (home / _MEMBER / CURVE).exists():
        with track("trial", planned_steps(spec, len(soup.rows)), "steps") as tracker:
            replace(soup, spec=spec, home=home).train(0, tracker, [Pruning()])
    assert soup.validation
    return _score(home, soup.validation.groups).primary_metric


def _with_settings(spec: Spec, overrides: dict[str, Any]) -> Spec:
    encoder_settings = {
        key.removeprefix(_ENCODER): value for key, value in overrides.items() if key.startswith(_ENCODER)
    }
    if encoder_settings:
        settings = spec.train.model_copy(
            update={"encoder": spec.train.encoder.model_copy(update=encoder_settings), "num_seeds": 1}
        )
        return for_encoder(spec.model_copy(update={"train": settings}), 0)
    shape = {key.removeprefix(_LORA): value for key, value in overrides.items() if key.startswith(_LORA)}
    lora = spec.train.lora.model_copy(update=shape)
    changes = {"lora": lora, "lr": overrides["train.lr"], "epochs": overrides["train.epochs"], "num_seeds": 1}
    return spec.model_copy(update={"train": spec.train.model_copy(update=changes)})


def _home(trials: Path, overrides: dict[str, Any]) -> Path:
    """The folder of the trial with these settings."""
    return trials / sha256_json(overrides)[:12]


def _delete_models(home: Path) -> None:
    """Delete the checkpoints and models of a trial that has ended, so that a sweep takes the disk of one training."""
    for path in (home / _MEMBER).glob("*"):
        if path.is_dir():
            shutil.rmtree(path)


def _score(home: Path, groups: Sequence[str]) -> ValidationScore:
    """The score of the adapter that was kept, or of the last measurement before the trial was stopped.

    Args:
        groups: the group of each validation example.
    """
    rows = {row["step"]: row for row in read_jsonl(home / _MEMBER / SCORES)}
    scores = [kept_score(row) for _, row in sorted(rows.items())]
    return scores[chosen(scores, groups)]


def _result(ended: Sequence[tuple[Any, dict[str, Any]]], spec: Spec, folder: Path, groups: Sequence[str]) -> Sweep:
    """The trials as a result, the best first.

    Args:
        ended: each trial that ran to an end, with its settings.
        groups: the group of each validation example.
    """
    trials = []
    for trial, overrides in ended:
        home = _home(folder / _TRIALS, overrides)
        if _FAILED in trial.user_attrs:
            trials.append(SweepTrial(overrides, "failed", None, None))
            continue
        score = _score(home, groups)
        trials.append(SweepTrial(overrides, trial.state.name.lower(), score.primary_metric, score.loss))
    trials.sort(key=lambda trial: (trial.state != "complete", -(trial.primary_metric or 0), trial.loss or math.inf))
    return Sweep(trials, task_of(spec.task).primary_metric, len(groups), len(set(groups)))

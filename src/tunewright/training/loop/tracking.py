"""Records a training in MLflow: its settings, its curve while it trains, its diagnosis.

It records if MLFLOW_TRACKING_URI is set, as in Azure ML's jobs, or if the caller has opened a run, and never otherwise.
Metrics are sent in the background, so that a slow or absent tracking server does not cost a training.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from tunewright.config import Spec
from tunewright.core.errors import missing_extra
from tunewright.core.processes import is_leader
from tunewright.core.progress import say
from tunewright.tasks import task_of
from tunewright.training.diagnosis.diagnosis import Diagnosis

_URI = "MLFLOW_TRACKING_URI"
_METRICS = ("loss", "learning_rate", "grad_norm", "validation_loss")


class Tracking:
    """A training's record in MLflow; without `mlflow` it sends nothing.

    Args:
        primary_metric: the name that MLflow shows for the task's primary metric.
    """

    def __init__(self, mlflow: Any = None, primary_metric: str = ""):
        self._mlflow = mlflow
        self._names = {
            **dict(zip(_METRICS, _METRICS, strict=True)),
            "primary_metric": re.sub(r"\W", "_", primary_metric),
        }

    def metrics(self, logged: Mapping[str, Any], step: int) -> None:
        """Send the finite numbers that a trainer logged at a step."""
        values = {sent_as: float(logged[name]) for name, sent_as in self._names.items() if name in logged}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if finite:
            self.attempt(lambda mlflow: mlflow.log_metrics(finite, step=step, synchronous=False))

    def diagnosis(self, diagnoses: Sequence[Diagnosis]) -> None:
        """Send `diagnosis.json`, and a tag for each code."""
        tags = {f"tunewright.{diagnosis.code}": diagnosis.title for diagnosis in diagnoses}
        tags["tunewright.diagnosis"] = " ".join(diagnosis.code for diagnosis in diagnoses) or "nothing found"
        self.attempt(lambda mlflow: mlflow.set_tags(tags))
        content = {"diagnoses": [asdict(diagnosis) for diagnosis in diagnoses]}
        self.attempt(lambda mlflow: mlflow.log_dict(content, "diagnosis.json"))

    def settings(self, spec: Spec) -> None:
        """Send the training's settings."""
        train = spec.train.model_dump(mode="json")
        inner = {f"{name}.{key}": value for name in ("lora", "encoder") for key, value in train.pop(name).items()}
        chosen = {f"train.{key}": value for key, value in (train | inner).items()}
        self.attempt(lambda mlflow: mlflow.log_params({"model": spec.model, "seed": spec.seed, **chosen}))

    def attempt(self, send: Callable[[Any], object]) -> None:
        """Call `send` with MLflow's module. The first failure is reported by its type only, since its text may hold
        an address with a password, and nothing is sent after it."""
        if self._mlflow is None:
            return
        try:
            send(self._mlflow)
        except Exception as error:  # noqa: BLE001 (a tracking server or its plugin may raise anything)
            say(f"  MLflow does not answer ({type(error).__name__}): this training is recorded on disk only")
            self._mlflow = None


@contextmanager
def tracked(spec: Spec) -> Iterator[Tracking]:
    """Record the training inside the block, in the open run, the one that MLFLOW_RUN_ID names, or a new one.

    Raises:
        UserError: MLFLOW_TRACKING_URI is set, and the extra [mlflow] is not installed.
    """
    if not is_leader() or not (os.environ.get(_URI) or "mlflow" in sys.modules):
        yield Tracking()
        return
    if importlib.util.find_spec("mlflow") is None:
        raise missing_extra("mlflow", "mlflow")
    import mlflow

    callers_run = mlflow.active_run()
    if callers_run is None and not os.environ.get(_URI):
        yield Tracking()
        return
    tracking = Tracking(mlflow, task_of(spec.task).primary_metric)
    if callers_run is None:
        tracking.attempt(lambda mlflow: mlflow.start_run(run_name=spec.name))
    tracking.settings(spec)
    status = "FAILED"
    try:
        yield tracking
        status = "FINISHED"
    finally:
        tracking.attempt(lambda mlflow: mlflow.flush_async_logging())
        if callers_run is None:
            tracking.attempt(lambda mlflow: mlflow.end_run(status))

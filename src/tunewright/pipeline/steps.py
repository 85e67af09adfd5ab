"""The steps: one record each, with everything that the rest of the program needs to know about it.

    raw files -> check -> split [-> baseline] -> train -> export -> evaluate -> parity [-> judge] -> verdict -> bundle

`export` stands before `evaluate` because the verdict speaks of the quantised model that will really be served, so that
is one of the models to be evaluated. A new step needs one record here and the functions that the record names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.config import Spec
from tunewright.config.sections import ApiSpec, JudgeSpec
from tunewright.core.artifacts import Output

StepFunction = Callable[[Spec, Mapping[str, Path], Output], None]

_MORE_MEMORY = "Run it on a machine with more memory."
_FEWER_ROWS = "What it holds grows with the number of rows: give it fewer, or more memory."
_SMALLER_STEP = (
    "Set train.method=qlora or train.gradient_checkpointing=true, or take half of train.batch_size with twice "
    "train.gradient_accumulation_steps; for an encoder take half of train.encoder.batch_size. tunewright plan … says "
    "what fits."
)
_FEWER_CANDIDATES = (
    "Ask fewer candidates, and shorter prompts: evaluate.few_shot=0; ask fewer examples: evaluate.max_examples=200; or "
    "train an adapter with train.method=qlora, whose candidates have a base in 4 bits."
)
_SMALLER_SERVER = "Serve fewer bytes: export.precision=int8, or, but of an encoder, int4; or take a smaller base model."
_NEEDS, _TIMES = "tunewright.pipeline.planning.needs", "tunewright.pipeline.planning.times"


@dataclass(frozen=True)
class Step:
    """One step of the pipeline. A function is named as `module:name`, and imported only when it is called.

    Args:
        function: the step itself; see `StepFunction`.
        package: the package it lives in. A step runs again where the source of this package changes, or that of one
            below it.
        inputs: the steps whose outputs it reads.
        sections: the spec's sections, and single keys of others, that it depends on.
        files: the user's files that it reads: keys of `Spec.sources`, or their first words. `Spec.sources` says how
            each is hashed.
        resumes: names in its unfinished output that a later try continues from.
        only_with: an attribute of the spec; the step is left out where that is empty.
        divided: a function (spec, inputs) that says in how many processes of one machine to run it.
        needs_gpu: what of it computes on a GPU where there is one: torch, or vLLM where the spec serves with that.
        needs_secret: the attribute of the spec that holds the APIs which it asks.
        trains: it trains a model. That takes most of a budget and may run on low-priority machines and on several
            nodes; the training plan counts its memory and time.
        memory: a function (spec, sizes, machine) that says what it needs of a machine.
        seconds: a function (job, machine, speed) that says how long it takes; empty where nothing but a plan or a
            measurement can.
        less_memory: what a user can do so that it needs less memory.
    """

    name: str
    function: str
    package: str
    inputs: tuple[str, ...]
    sections: tuple[str, ...]
    files: tuple[str, ...] = ()
    resumes: tuple[str, ...] = ()
    only_with: str = ""
    divided: str = ""
    needs_gpu: Literal["", "torch", "vllm"] = ""
    needs_secret: str = ""
    trains: bool = False
    memory: str = f"{_NEEDS}:small"
    seconds: str = ""
    less_memory: str = _MORE_MEMORY

    def is_in(self, spec: Spec) -> bool:
        """Whether it is a step of this spec's pipeline."""
        return not self.only_with or bool(getattr(spec, self.only_with))

    def reads_from(self, key: str) -> bool:
        """Whether it depends on the bytes of what a spec names under a key of `Spec.sources`, or under `model`."""
        if key == "model":
            return self.reads_model
        return any(key == read or key.startswith(f"{read}.") for read in self.files)

    @property
    def reads_model(self) -> bool:
        """Whether it reads something of the base model."""
        return "model" in self.sections

    @property
    def reads_weights(self) -> bool:
        """Whether it reads the base model's weights, which are fetched where this machine does not have them."""
        return self.reads_model and bool(self.needs_gpu)

    def inputs_of(self, spec: Spec) -> tuple[str, ...]:
        """The steps of this spec's pipeline whose outputs it reads."""
        return tuple(name for name in self.inputs if STEPS[name].is_in(spec))

    def asked_apis(self, spec: Spec) -> Iterable[ApiSpec | JudgeSpec]:
        """The APIs that it asks."""
        found = getattr(spec, self.needs_secret) if self.needs_secret else None
        return found.values() if isinstance(found, dict) else [found] if found else []


STEPS = {
    step.name: step
    for step in (
        Step(
            "check",
            "tunewright.data.steps:run_check",
            "data",
            inputs=(),
            sections=("task", "data", "model", "train.max_length", "goal"),
            files=("data.train", "data.test", "data.corrections"),
            memory=f"{_NEEDS}:data",
            seconds=f"{_TIMES}:data",
            less_memory=_FEWER_ROWS,
        ),
        Step(
            "split",
            "tunewright.data.steps:run_split",
            "data",
            inputs=("check",),
            sections=("task", "data", "seed"),
            files=("data.frozen",),
            memory=f"{_NEEDS}:data",
            seconds=f"{_TIMES}:data",
            less_memory=_FEWER_ROWS,
        ),
        Step(
            "baseline",
            "tunewright.evaluation.api.baseline:run_baseline",
            "evaluation",
            inputs=("split",),
            sections=("task", "data", "api", "apis", "baseline", "evaluate", "seed"),
            files=("recorded", "prices"),
            only_with="measured_apis",
            needs_secret="asked_apis",
            seconds=f"{_TIMES}:baseline",
        ),
        Step(
            "train",
            "tunewright.training.run:run_train",
            "training",
            inputs=("split",),
            sections=("task", "model", "train", "seed"),
            files=("train.init_adapter",),
            resumes=("checkpoints",),
            divided="tunewright.training.planning.division:processes_for",
            needs_gpu="torch",
            trains=True,
            memory=f"{_NEEDS}:train",
            less_memory=_SMALLER_STEP,
        ),
        Step(
            "export",
            "tunewright.exporters.steps:run_export",
            "exporters",
            inputs=("split", "train"),
            sections=("name", "task", "model", "train", "export"),
            needs_gpu="vllm",
            memory=f"{_NEEDS}:export",
            seconds=f"{_TIMES}:export",
            less_memory=_SMALLER_SERVER,
        ),
        Step(
            "evaluate",
            "tunewright.evaluation.steps:run_evaluate",
            "evaluation",
            inputs=("split", "train", "export"),
            sections=("task", "model", "train", "evaluate", "seed"),
            resumes=("answers",),
            needs_gpu="torch",
            memory=f"{_NEEDS}:evaluate",
            seconds=f"{_TIMES}:evaluate",
            less_memory=_FEWER_CANDIDATES,
        ),
        Step(
            "parity",
            "tunewright.parity.step:run_parity",
            "parity",
            inputs=("split", "export", "evaluate"),
            sections=("task", "evaluate", "export", "seed"),
            needs_gpu="vllm",
            memory=f"{_NEEDS}:parity",
            seconds=f"{_TIMES}:parity",
            less_memory=_SMALLER_SERVER,
        ),
        Step(
            "judge",
            "tunewright.evaluation.api.judge:run_judge",
            "evaluation",
            inputs=("split", "parity"),
            sections=("task", "judge", "evaluate", "seed"),
            files=("judge.human",),
            only_with="judge",
            needs_secret="judge",
            seconds=f"{_TIMES}:judge",
        ),
        Step(
            "verdict",
            "tunewright.evaluation.steps:run_verdict",
            "evaluation",
            inputs=("check", "split", "baseline", "train", "export", "evaluate", "parity", "judge"),
            sections=(
                "name",
                "task",
                "goal",
                "api",
                "apis",
                "today",
                "traffic",
                "costs",
                "export",
                "seed",
                "monitor.keep_days",
                "monitor.reviews_to_retrain",
                "azure.gpu",
                "azure.cpu",
            ),
            files=("prices",),
            seconds=f"{_TIMES}:verdict",
        ),
        Step(
            "bundle",
            "tunewright.exporters.steps:run_bundle",
            "exporters",
            inputs=("split", "export", "parity", "verdict"),
            sections=(),
            seconds=f"{_TIMES}:bundle",
        ),
    )
}

WATCHING_STEPS = {
    step.name: step
    for step in (
        Step(
            "drift",
            "tunewright.monitoring.steps:run_drift",
            "monitoring",
            inputs=("bundle",),
            sections=("task",),
            files=("monitor.captures",),
        ),
    )
}
"""Steps that no run leads to: they look at what a run made while that is served."""


def steps_to(spec: Spec, to: str) -> list[Step]:
    """A step and all that come before it, in their order."""
    needed = _needed(spec, to)
    return [step for name, step in STEPS.items() if name in needed]


def _needed(spec: Spec, to: str) -> set[str]:
    """A step and all whose outputs it needs, as far as they are steps of this spec's pipeline."""
    if not STEPS[to].is_in(spec):
        return set()
    return {to}.union(*(_needed(spec, name) for name in STEPS[to].inputs_of(spec)))


def resolve(place: str) -> Any:
    """The function that a step names as `module:name`."""
    module, _, name = place.partition(":")
    return getattr(__import__(module, fromlist=[name]), name)

"""The steps: one record each, with everything that the rest of the program needs to know about the step.

    raw files -> check -> split [-> baseline] -> train -> export -> evaluate -> parity [-> judge] -> verdict -> bundle

`export` comes before `evaluate` because the verdict is about the quantized model that will be served, so that model
must be evaluated, too. A new step needs one record here and the functions that the record names.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunewright.config import Spec
from tunewright.config.sections import ApiSpec, JudgeSpec
from tunewright.core.artifacts import Output

StepFunction = Callable[[Spec, Mapping[str, Path], Output], None]

_MORE_MEMORY = "Run it on a machine with more memory."
_FEWER_ROWS = "Its memory grows with the number of rows: use fewer rows, or a machine with more memory."
_SMALLER_STEP = (
    "Set train.method=qlora or train.gradient_checkpointing=true, or halve train.batch_size and double "
    "train.gradient_accumulation_steps; for an encoder halve train.encoder.batch_size. `tunewright plan …` says what "
    "fits."
)
_FEWER_CANDIDATES = (
    "Evaluate fewer candidates with shorter prompts: evaluate.few_shot=0; or fewer examples: "
    "evaluate.max_examples=200; or train with train.method=qlora, whose candidates have a base in 4 bits."
)
_SMALLER_SERVER = (
    "Serve fewer bytes: export.precision=int8, or int4 (not for encoders); or choose a smaller base model."
)
_NEEDS, _TIMES = "tunewright.pipeline.planning.needs", "tunewright.pipeline.planning.times"


@dataclass(frozen=True)
class Step:
    """One step of the pipeline. Functions have the form `module:name` and are imported only when they are called.

    Args:
        function: the step itself; see `StepFunction`.
        package: the step's package. The step runs again if the source of this package or of one below it changes.
        inputs: the steps whose outputs it reads.
        optional: those of its inputs that it does without if its command line says so, because only a machine with an
            API's key can make them.
        sections: the sections and single keys of the spec on which it depends.
        files: the user's files that it reads, as keys of `Spec.sources` or their first words. `source_kind` says how
            each is hashed.
        resumes: names in its unfinished output from which a later try continues.
        only_with: an attribute of the spec; the step is left out if it is empty.
        divided: a function (spec, inputs) that returns how many processes of one machine should run the step.
        needs_gpu: the library that uses a GPU if there is one: torch, or vLLM if the spec serves with it.
        needs_secret: the attribute of the spec that holds the APIs that the step calls.
        trains: the step trains a model. Training takes most of a budget and may run on low-priority machines and on
            several nodes; the training plan counts its memory and time.
        memory: a function (spec, sizes, machine) that returns the memory and disk that the step needs.
        seconds: a function (job, machine, speed) that returns the time; empty if only a plan or a measurement can tell.
        less_memory: the advice that reduces the step's memory.
    """

    name: str
    function: str
    package: str
    inputs: tuple[str, ...]
    sections: tuple[str, ...]
    optional: tuple[str, ...] = ()
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
        """Whether this spec's pipeline has the step."""
        return not self.only_with or bool(getattr(spec, self.only_with))

    def reads_from(self, key: str) -> bool:
        """Whether the step depends on the content of a path of the spec, by its key in `Spec.sources` or `model`."""
        if key == "model":
            return self.reads_model
        return any(key == read or key.startswith(f"{read}.") for read in self.files)

    @property
    def reads_model(self) -> bool:
        """Whether the step reads any part of the base model."""
        return "model" in self.sections

    @property
    def reads_weights(self) -> bool:
        """Whether the step reads the base model's weights, which are fetched if this machine lacks them."""
        return self.reads_model and bool(self.needs_gpu)

    def inputs_of(self, spec: Spec, without: Container[str] = ()) -> tuple[str, ...]:
        """The steps of this spec's pipeline, but for some, whose outputs the step reads."""
        return tuple(name for name in self.inputs if STEPS[name].is_in(spec) and name not in without)

    def asked_apis(self, spec: Spec) -> Iterable[ApiSpec | JudgeSpec]:
        """The APIs that the step calls."""
        apis = getattr(spec, self.needs_secret) if self.needs_secret else None
        return apis.values() if isinstance(apis, dict) else [apis] if apis else []


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
            optional=("baseline", "judge"),
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
            sections=("task", "api", "apis"),
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
"""Steps outside of runs: they monitor a run's output while it is served."""


def steps_to(spec: Spec, to: str) -> list[Step]:
    """A step and all steps that it depends on, in order."""
    needed = _needed(spec, to)
    return [step for name, step in STEPS.items() if name in needed]


def _needed(spec: Spec, to: str) -> set[str]:
    """The names of a step and of all steps that it depends on, within this spec's pipeline."""
    if not STEPS[to].is_in(spec):
        return set()
    return {to}.union(*(_needed(spec, name) for name in STEPS[to].inputs_of(spec)))


def resolve(reference: str) -> Any:
    """The function of a reference `module:name`."""
    module, _, name = reference.partition(":")
    return getattr(__import__(module, fromlist=[name]), name)

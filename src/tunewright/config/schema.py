"""The whole spec (`Spec`), and the parts of it that `tunewright assess` and the data checks need."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join, quote
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from tunewright.config.descriptions import described_schema
from tunewright.config.names import CORRECTIONS, FROZEN, RECORDED, SPEC_FILE
from tunewright.config.record_schema import record_schema
from tunewright.config.sections import (
    ApiSpec,
    AzureSpec,
    BaselineSpec,
    CostsSpec,
    DataSpec,
    EvaluateSpec,
    ExportSpec,
    ExtractSpec,
    GoalSpec,
    JudgeSpec,
    LabelSpec,
    MonitorSpec,
    MultiLabelSpec,
    SearchSpec,
    Section,
    TaskSpec,
    ToolsSpec,
    TrafficSpec,
    TrainSpec,
)
from tunewright.config.tool_list import tool_list
from tunewright.core.artifacts import sha256_json
from tunewright.core.regular import resolved


class _Anchored(Section):
    """A spec whose paths are relative to the folder of its file."""

    _folder: Path = PrivateAttr(default_factory=Path.cwd)

    @model_validator(mode="before")
    @classmethod
    def _first_candidate(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if "models" in data:
            raise ValueError("models is called candidates")
        candidates = data.get("candidates")
        if isinstance(candidates, str):
            raise ValueError(f"candidates is a list, such as [{candidates}]")
        if not isinstance(candidates, (list, tuple)) or not candidates:
            return data
        if repeated := [name for name, count in Counter(map(str, candidates)).items() if count > 1]:
            raise ValueError(f"candidates names '{repeated[0]}' twice")
        if data.get("model", candidates[0]) != candidates[0]:
            raise ValueError("model names one model, candidates several: name one of the two")
        return data | {"model": candidates[0]}

    @property
    def folder(self) -> Path:
        """The folder of the spec file; relative paths in the spec start here."""
        return self._folder

    def path(self, relative: Path) -> Path:
        """A path of the spec, made absolute.

        Raises:
            UserError: the operating system can't look the path up.
        """
        return resolved(self.folder, relative, "Check the paths in the spec.")


class _WithApis(_Anchored):
    """A spec that compares APIs: the one in use today (`api`), or a list of them (`apis`)."""

    api: ApiSpec = ApiSpec()
    """The API that you pay for today, unless `apis` lists it."""
    apis: tuple[ApiSpec, ...] = ()
    """Every API that you consider, the one that you pay for today included, in place of `api`. Without a list \
Tunewright also considers the cheapest APIs of the price book, and the verdict asks you to measure them."""
    today: str | None = None
    """The name of the API in `apis` that you pay for today. By default the first."""

    @model_validator(mode="after")
    def _one_is_paid_for_today(self) -> Self:
        names = [each.label for each in self.apis]
        if not names:
            if self.today is not None:
                raise ValueError("today names one of `apis`, but the spec has no `apis`")
            return self
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two of `apis` are called '{repeated[0]}': give one of them another `name`")
        if self.today is not None and self.today not in names:
            raise ValueError(f"today is '{self.today}', but `apis` has only {', '.join(names)}")
        current = self.apis[names.index(self.today) if self.today else 0]
        if "api" in self.model_fields_set and self.api != current:
            raise ValueError("`api` is one API, `apis` a list that includes the one you pay for today: use one of them")
        self.api = current
        return self

    @property
    def candidate_apis(self) -> dict[str, ApiSpec]:
        """The APIs of the spec by name, the one in use today first."""
        return {self.api.label: self.api} | {each.label: each for each in self.apis}

    def section_of_api(self, name: str) -> str:
        """The place of an API in the spec, for error messages."""
        return f"apis, {name}" if self.apis else "api"

    @property
    def measured_apis(self) -> dict[str, ApiSpec]:
        """The APIs whose answers exist or can be requested."""
        return {name: each for name, each in self.candidate_apis.items() if each.measured}

    @property
    def asked_apis(self) -> dict[str, ApiSpec]:
        """The APIs that have an endpoint to call."""
        return {name: each for name, each in self.candidate_apis.items() if each.url}


class Spec(_WithApis):
    """One job: its task, data, model, training, goal and price."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
    """The short name of the job, which the served model carries."""
    task: TaskSpec
    """The task, by its `kind`: classify, multi_label, extract, generate or tools."""
    data: DataSpec
    """The training and test data, and how their rows are read and split."""
    model: str = "smollm2-135m"
    """The base model: a catalogue name (`tunewright models ls`), a Hugging Face folder, a .gguf file or a hub id; or \
`linear`, a linear model without a base."""
    candidates: tuple[str, ...] = ()
    """Several models in place of `model`, cheapest first, such as linear, an encoder, a small language model and a \
larger one. `tunewright run` tries each one until one does the job. The other commands use the first."""
    search: SearchSpec = SearchSpec()
    """The limits on time and money for trying candidates."""
    train: TrainSpec = TrainSpec()
    """How the model is trained."""
    evaluate: EvaluateSpec = EvaluateSpec()
    """How the candidates are compared on the test examples."""
    export: ExportSpec = ExportSpec()
    """The form in which the model is served, and the gates that it must pass."""
    label: LabelSpec | None = None
    """How requests without answers get them: from teachers, and a sample of them from people."""
    baseline: BaselineSpec = BaselineSpec()
    """How the APIs answer the test examples."""
    traffic: TrafficSpec = TrafficSpec()
    """The traffic that the job serves, and the machine that serves it."""
    costs: CostsSpec = CostsSpec()
    """What it costs to build, review and keep an own model."""
    prices: Path | None = None
    """Your own price book (YAML), which overrides the built-in one. `tunewright models prices --refresh` writes one; \
docs/economics.md lists its keys."""
    goal: GoalSpec = GoalSpec()
    """The accuracy and latency that the job needs."""
    judge: JudgeSpec | None = None
    """A large model that compares the served answers with the data's. The verdict never rests on it."""
    azure: AzureSpec = AzureSpec()
    """The workspace and machines that run the steps with `--on azure`."""
    monitor: MonitorSpec = MonitorSpec()
    """How captures of served requests are kept, and when retraining and alarms follow from them."""
    seed: int = 0
    """The seed of the split, the training and the bootstrap."""

    _file: str = PrivateAttr(default=SPEC_FILE)
    _overrides: tuple[str, ...] = PrivateAttr(default=())
    _recipe: str | None = PrivateAttr(default=None)
    _allow_code: bool = PrivateAttr(default=False)

    @field_validator("train")
    @classmethod
    def _fits_the_task(cls, train: TrainSpec, info: ValidationInfo) -> TrainSpec:
        task = info.data.get("task")
        if train.loss == "labels" and task is not None and task.kind != "classify":
            raise ValueError(f"the loss 'labels' is for classify only; this task is {task.kind}: leave it at 'tokens'")
        if train.num_swapped_copies and task is not None and task.kind != "extract":
            raise ValueError(f"num_swapped_copies is for extract only; this task is {task.kind}: leave it at 0")
        return train

    @field_validator("data")
    @classmethod
    def _separable(cls, data: DataSpec, info: ValidationInfo) -> DataSpec:
        task, separator = info.data.get("task"), data.separator
        if separator is None or task is None:
            return data
        if not isinstance(task, MultiLabelSpec):
            raise ValueError(f"a separator is for the task multi_label, but this task is {task.kind}")
        if inside := [label for label in task.labels if (separator.strip() or separator) in label]:
            raise ValueError(f"the label '{inside[0]}' contains the separator {separator!r}: use lists of labels")
        return data

    @property
    def project_argument(self) -> str:
        """What to type for this spec in a command, quoted: its folder, or its file if that has a name of its own."""
        return quote(str(self.folder if self._file == SPEC_FILE else self.folder / self._file))

    def project_arguments(self, *, with_recipe: bool = True) -> str:
        """What to type for this spec in a command that takes overrides, quoted: `project_argument`, and what the spec
        was read with.

        Args:
            with_recipe: whether that command takes a recipe.
        """
        recipe = ["--recipe", self._recipe] if self._recipe and with_recipe else []
        read_with = [*self._overrides, *recipe, *(["--allow-code"] if self._allow_code else [])]
        return " ".join(filter(None, [self.project_argument, join(read_with)]))

    def anchored(
        self,
        folder: Path,
        *,
        file: str = SPEC_FILE,
        overrides: Sequence[str] = (),
        recipe: str | None = None,
        allow_code: bool = False,
    ) -> Spec:
        """Resolve this spec's paths against a folder, and read the schema or the tools that its task names.

        Args:
            file: the name of the spec's file in that folder.
            overrides, recipe: those with which the spec was read, for `project_arguments`.
            allow_code: import the module that `task.schema` names, if it names one.

        Raises:
            UserError: the task's schema or tools can't be read or used, or need `allow_code`.
        """
        self._folder, self._file = folder.resolve(), file
        self._overrides, self._recipe, self._allow_code = tuple(overrides), recipe, allow_code
        if isinstance(self.task, ExtractSpec):
            self.task.record = record_schema(self.task.record, self._folder, allow_code=allow_code)
        elif isinstance(self.task, ToolsSpec):
            self.task.tools = tool_list(self.task.tools, self._folder)
        return self

    @property
    def frozen_folder(self) -> Path | None:
        """The folder of the frozen test; None if the spec names none and none exists beside it."""
        if self.data.frozen is not None:
            return self.path(self.data.frozen)
        default = self.path(Path(FROZEN))
        return (
            default if any(default.glob("[0-9]*")) else None
        )  # a killed first freezing leaves a folder without versions

    @property
    def corrections_folder(self) -> Path:
        """The folder of the corrections, which need not exist."""
        return self.path(self.data.corrections or Path(CORRECTIONS))

    @property
    def documents_root(self) -> Path | None:
        """The folder in which documents must lie; None: the folder of the data file that names them."""
        return self.path(self.data.documents_root) if self.data.documents_root else None

    @property
    def model_name(self) -> str:
        """The base model's name, without its folder on this machine."""
        return Path(self.model).name if self.path(Path(self.model)).exists() else self.model

    @property
    def each_candidate(self) -> list[Spec]:
        """One spec per candidate, in the order in which `run` tries them."""
        return [
            self.model_copy(update={"model": model, "candidates": ()}) for model in self.candidates or (self.model,)
        ]

    @property
    def sources(self) -> dict[str, Path]:
        """The absolute path of every file, folder or pattern that the spec names, by its key."""
        named: dict[str, Path | None] = {"data.train": self.data.train}
        named |= {f"data.test.{name}": path for name, path in self.data.test.items()}
        corrections = self.corrections_folder
        named |= {"data.corrections": corrections if any(corrections.glob("[0-9]*")) else None}
        named |= {"data.frozen": self.frozen_folder, "prices": self.prices}
        named |= {f"{RECORDED}{name}": each.recorded for name, each in self.candidate_apis.items()}
        named |= {
            "judge.human": self.judge.human if self.judge else None,
            "judge.human_marks": self.judge.human_marks if self.judge else None,
            "train.init_adapter": self.train.init_adapter,
        }
        captures = self.path(self.monitor.captures)
        holds = captures.is_dir() and any(each.is_file() for each in captures.rglob("*"))
        named |= {"monitor.captures": captures if holds else None}
        return {key: self.path(path) for key, path in named.items() if path is not None}

    def save(self, folder: Path, model: str | None = None, sources: Mapping[str, str] | None = None) -> Path:
        """Write the whole spec with all defaults and absolute paths, so that it can be read in any folder.

        Args:
            model: the base model as other folders or machines find it; by default as the spec names it.
            sources: a new path for each key of `self.sources`, for a spec that another machine reads.
        """
        data = self.model_dump(mode="json") | {"model": model or self.model, "candidates": []}
        # Another machine has only the documents inside the folder of the data.
        root = self.documents_root if sources is None else None
        data["data"]["documents_root"] = str(root) if root else None
        apis = data["apis"] or [data["api"]]
        if data["apis"]:
            del data["api"]  # it is one of the list
        for key, path in self.sources.items():
            section, _, rest = key.partition(".")
            location = str(path) if sources is None else sources[key]
            if key.startswith(RECORDED):
                position = next(n for n, each in enumerate(self.apis or (self.api,)) if each.label == rest)
                apis[position]["recorded"] = location
            elif not rest:
                data[section] = location
            elif rest.startswith("test."):
                data[section]["test"][rest.removeprefix("test.")] = location
            else:
                data[section][rest] = location
        file = folder / SPEC_FILE
        file.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
        return file

    @property
    def price_file(self) -> Path | None:
        """The user's own price book."""
        return self.path(self.prices) if self.prices else None


class MoneySpec(_WithApis):
    """The part of a spec that `tunewright assess` needs: prices, costs and traffic. Everything else is optional."""

    name: str
    model: str | None = None
    """The base model to assess. By default some of each size."""
    candidates: tuple[str, ...] = ()
    """Several models to assess, in place of `model`."""
    traffic: TrafficSpec = TrafficSpec()
    costs: CostsSpec = CostsSpec()
    prices: Path | None = None
    goal: GoalSpec = GoalSpec()
    task: Any = None
    data: Any = None
    train: Any = None
    evaluate: Any = None
    baseline: Any = None
    export: Any = None
    label: Any = None
    search: Any = None
    judge: Any = None
    azure: Any = None
    monitor: MonitorSpec = MonitorSpec()
    seed: int = 0

    _allow_code: bool = PrivateAttr(default=False)

    def anchored(self, folder: Path, *, allow_code: bool = False) -> MoneySpec:
        self._folder, self._allow_code = folder.resolve(), allow_code
        return self

    def job(self) -> Spec:
        """The whole spec, if task and data are given.

        Raises:
            ValidationError: task or data are missing or wrong.
        """
        spec = Spec(name=self.name, task=self.task, data=self.data)
        return spec.anchored(self.folder, allow_code=self._allow_code)

    @property
    def price_file(self) -> Path | None:
        return self.path(self.prices) if self.prices else None


class FileSpec(Section):
    """The part of a spec that the data checks need, for data files without a spec."""

    data: DataSpec
    model: str | None = None
    """The base model whose tokenizer counts. Without one, lengths are not checked."""
    train: TrainSpec = TrainSpec()
    goal: GoalSpec = GoalSpec()


_MARKING = ("least_mark", "human_marks", "budget_usd", "priced_as")
"""Keys of `judge` that change no step's output: what `tunewright data judge` alone reads, which is no step, and what
may be paid."""
SourceKind = Literal["data", "corrections", "folder", "file"]
_SOURCE_KINDS: dict[str, SourceKind] = {
    "data.train": "data",
    "data.test": "data",
    "data.corrections": "corrections",
    "data.frozen": "folder",
    "prices": "file",
    RECORDED.rstrip("."): "data",
    "judge.human": "data",
    "judge.human_marks": "data",
    "train.init_adapter": "folder",
    "monitor.captures": "folder",
}


def source_kind(key: str) -> SourceKind:
    """The kind of a path of `Spec.sources`: data (rows with their documents), corrections (a chain of versions), any
    other folder, or a file."""
    return next(kind for start, kind in _SOURCE_KINDS.items() if key == start or key.startswith(f"{start}."))


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of `tunewright.yaml`, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described_schema(Spec)}


def spec_sha256(spec: Spec, *sections: str) -> str:
    """SHA-256 of the spec, or only of the named sections (`train`) and keys (`train.max_length`).

    The hash excludes the paths of the user's files and of the base model, because each step hashes their content
    (`tunewright.pipeline.fingerprint`). It also excludes what changes no step's output: `azure`, `monitor`, and some
    keys of `judge`.
    """
    whole = spec.model_dump(mode="json")
    data = spec.model_dump(
        mode="json",
        exclude={
            "model": True,
            "candidates": True,
            "search": True,
            "prices": True,
            "azure": True,
            "monitor": True,
            "data": {"train", "frozen", "corrections", "documents_root"},
            "train": {"init_adapter"},
            "judge": {"human", *_MARKING},
            "api": {"recorded"},
            "apis": {"__all__": {"recorded"}},
        },
    )
    data["data"]["test"] = list(data["data"]["test"])
    if not sections:
        return sha256_json(data)
    named: dict[str, Any] = {}
    for section, _, key in (name.partition(".") for name in sections if name in data or "." in name):
        named[f"{section}.{key}" if key else section] = whole[section][key] if key else data[section]
    return sha256_json(named)

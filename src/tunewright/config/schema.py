"""The spec as a whole: what `tunewright.yaml` holds, and what less of it some commands need."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

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
    MonitorSpec,
    MultiLabelSpec,
    SearchSpec,
    Section,
    TaskSpec,
    TrafficSpec,
    TrainSpec,
)
from tunewright.core.artifacts import sha256_json
from tunewright.core.regular import unreadable

SPEC_FILE = "tunewright.yaml"
RUNS = "runs"
"""Folder beside the spec where outputs go."""
FROZEN = "frozen_test"
"""Folder beside the spec where the frozen test lies, unless `data.frozen` names another."""
RECORDED = "recorded."
"""Before an API's name, the key of the file of its recorded answers among a spec's sources."""
CORRECTIONS = "corrections"
"""Folder beside the spec where corrections lie, unless `data.corrections` names another."""


class _Anchored(Section):
    """What has paths, relative to the folder of its file."""

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
        if twice := [name for name, count in Counter(map(str, candidates)).items() if count > 1]:
            raise ValueError(f"candidates names '{twice[0]}' twice")
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
            UserError: it is none that the system can look for, whether something is there or not.
        """
        try:
            found = (self.folder / relative.expanduser()).resolve()
            found.lstat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # told by what reads it
        except (OSError, RuntimeError, ValueError) as error:
            raise unreadable(relative, error, "Check the paths in the spec.") from None
        return found


class _WithApis(_Anchored):
    """What weighs APIs: the one that is paid for today, or a list of those that come into question."""

    api: ApiSpec = ApiSpec()
    """The API that is paid for today, where `apis` does not say so."""
    apis: tuple[ApiSpec, ...] = ()
    """In place of `api`, every API that comes into question, with the one that is paid for today. Without a list the \
cheapest of the price book come into question too, and the verdict asks for their measurement."""
    today: str | None = None
    """Which of `apis` is paid for today, by its name; by default the first."""

    @model_validator(mode="after")
    def _one_is_paid_for_today(self) -> Self:
        names = [each.label for each in self.apis]
        if not names:
            if self.today is not None:
                raise ValueError("today names one of `apis`, and there is no such list")
            return self
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two of `apis` are called '{twice[0]}': give one of them another `name`")
        if self.today is not None and self.today not in names:
            raise ValueError(f"today is '{self.today}', and `apis` has only {', '.join(names)}")
        chosen = self.apis[names.index(self.today) if self.today else 0]
        if "api" in self.model_fields_set and self.api != chosen:
            raise ValueError("`api` is one API, `apis` a list of them with the one paid for today: use one of the two")
        self.api = chosen
        return self

    @property
    def candidate_apis(self) -> dict[str, ApiSpec]:
        """The APIs that the spec names, by their names, the one paid for today first."""
        return {self.api.label: self.api} | {each.label: each for each in self.apis}

    def section_of_api(self, name: str) -> str:
        """Where one of them stands in the spec, for error messages."""
        return f"apis, {name}" if self.apis else "api"

    @property
    def measured_apis(self) -> dict[str, ApiSpec]:
        """Those of them whose answers are there, or will be asked for."""
        return {name: each for name, each in self.candidate_apis.items() if each.measured}

    @property
    def asked_apis(self) -> dict[str, ApiSpec]:
        """Those of them that are asked."""
        return {name: each for name, each in self.candidate_apis.items() if each.url}


class Spec(_WithApis):
    """One job: its task, data, model, training, goal and price."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
    """Short name of the job; the served model carries it."""
    task: TaskSpec
    """What the model must do, by its `kind`: classify, multi_label, extract or generate."""
    data: DataSpec
    model: str = "smollm2-135m"
    """Base model: a catalogue name (`tunewright models ls`), a Hugging Face folder, a .gguf file or a hub id; or \
linear, a linear model that begins with none."""
    candidates: tuple[str, ...] = ()
    """In place of `model`, several from the cheapest on, such as linear, an encoder, a small language model and a \
larger one: `tunewright run` tries the first, and the next only where that one does not do the job. The other commands \
take the first."""
    search: SearchSpec = SearchSpec()
    """What trying candidates may take."""
    train: TrainSpec = TrainSpec()
    evaluate: EvaluateSpec = EvaluateSpec()
    export: ExportSpec = ExportSpec()
    baseline: BaselineSpec = BaselineSpec()
    """How the APIs are asked the test examples."""
    traffic: TrafficSpec = TrafficSpec()
    costs: CostsSpec = CostsSpec()
    prices: Path | None = None
    """A price book of your own (YAML), laid over the built-in one: `tunewright models prices --refresh` writes one; \
docs/economics.md has its keys."""
    goal: GoalSpec = GoalSpec()
    judge: JudgeSpec | None = None
    """A large model that compares the served answers with the data's. The verdict never rests on it."""
    azure: AzureSpec = AzureSpec()
    """Where `--on azure` runs the steps, and on what."""
    monitor: MonitorSpec = MonitorSpec()
    """What is kept of what is served, and what follows from it."""
    seed: int = 0
    """Seed of the split, the training and the bootstrap."""

    @field_validator("train")
    @classmethod
    def _loss_of_the_task(cls, train: TrainSpec, info: ValidationInfo) -> TrainSpec:
        task = info.data.get("task")
        if train.loss == "labels" and task is not None and task.kind != "classify":
            raise ValueError(f"the loss 'labels' is for classify only; this task is {task.kind}: leave it at 'tokens'")
        return train

    @field_validator("data")
    @classmethod
    def _separable(cls, data: DataSpec, info: ValidationInfo) -> DataSpec:
        task, separator = info.data.get("task"), data.separator
        if separator is None or task is None:
            return data
        if not isinstance(task, MultiLabelSpec):
            raise ValueError(f"a separator parts several labels a row, and this task is {task.kind}")
        if inside := [label for label in task.labels if (separator.strip() or separator) in label]:
            raise ValueError(f"the separator {separator!r} stands in the label '{inside[0]}': lists are needed")
        return data

    def anchored(self, folder: Path, *, allow_code: bool = False) -> Spec:
        """This spec, its paths relative to a folder, and what its task is about read.

        Args:
            allow_code: import the module that `task.schema` names, if it names one.

        Raises:
            UserError: the schema that the task names can't be read, or needs `allow_code`.
        """
        self._folder = folder.resolve()
        if isinstance(self.task, ExtractSpec):
            self.task.record = record_schema(self.task.record, self._folder, allow_code=allow_code)
        return self

    @property
    def frozen_folder(self) -> Path | None:
        """The folder of the frozen test; None where the spec names none and there is none beside it."""
        if self.data.frozen is not None:
            return self.path(self.data.frozen)
        usual = self.path(Path(FROZEN))
        return usual if any(usual.glob("[0-9]*")) else None  # what a kill left of the first freezing is none

    @property
    def corrections_folder(self) -> Path:
        """The folder of the corrections, whether there are any or not."""
        return self.path(self.data.corrections or Path(CORRECTIONS))

    @property
    def documents_root(self) -> Path | None:
        """The folder in which documents must lie; None: that of the data that names them."""
        return self.path(self.data.documents_root) if self.data.documents_root else None

    @property
    def model_name(self) -> str:
        """The base model, without the folder it lies in on this machine."""
        return Path(self.model).name if self.path(Path(self.model)).exists() else self.model

    @property
    def each_candidate(self) -> list[Spec]:
        """A spec for each candidate, in the order they are tried."""
        return [
            self.model_copy(update={"model": model, "candidates": ()}) for model in self.candidates or (self.model,)
        ]

    @property
    def sources(self) -> dict[str, Path]:
        """Every file, folder or pattern of the user's that the spec names, made absolute, by its key."""
        named: dict[str, Path | None] = {"data.train": self.data.train}
        named |= {f"data.test.{name}": path for name, path in self.data.test.items()}
        corrections = self.corrections_folder
        named |= {"data.corrections": corrections if any(corrections.glob("[0-9]*")) else None}
        named |= {"data.frozen": self.frozen_folder, "prices": self.prices}
        named |= {f"{RECORDED}{name}": each.recorded for name, each in self.candidate_apis.items()}
        named |= {
            "judge.human": self.judge.human if self.judge else None,
            "train.init_adapter": self.train.init_adapter,
        }
        captures = self.path(self.monitor.captures)
        named |= {"monitor.captures": captures if captures.is_dir() else None}
        return {key: self.path(path) for key, path in named.items() if path is not None}

    def save(self, folder: Path, model: str | None = None, sources: Mapping[str, str] | None = None) -> Path:
        """Write the whole spec, defaults filled in and paths absolute, as a file that stands for this one anywhere.

        Args:
            model: the base model as it is to be found from anywhere; the spec's own words by default.
            sources: where what `sources` names is to be found, in place of where it lies here.
        """
        data = self.model_dump(mode="json") | {"model": model or self.model, "candidates": []}
        # Elsewhere, what lies outside the folder of the data is not there.
        root = self.documents_root if sources is None else None
        data["data"]["documents_root"] = str(root) if root else None
        listed = data["apis"] or [data["api"]]
        if data["apis"]:
            del data["api"]  # one of the list
        for key, path in self.sources.items():
            section, _, rest = key.partition(".")
            place = str(path) if sources is None else sources[key]
            if key.startswith(RECORDED):
                found = next(n for n, each in enumerate(self.apis or (self.api,)) if each.label == rest)
                listed[found]["recorded"] = place
            elif not rest:
                data[section] = place
            elif rest.startswith("test."):
                data[section]["test"][rest.removeprefix("test.")] = place
            else:
                data[section][rest] = place
        file = folder / SPEC_FILE
        file.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
        return file

    @property
    def price_file(self) -> Path | None:
        """The user's own price book."""
        return self.path(self.prices) if self.prices else None


class MoneySpec(_WithApis):
    """What `tunewright assess` needs of a spec: money and traffic. The rest may be there or not."""

    name: str
    model: str | None = None
    """The base model to assess; by default some of each size."""
    candidates: tuple[str, ...] = ()
    """In place of `model`, several to assess."""
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
        """The whole spec, where task and data are there.

        Raises:
            ValidationError: they are not what a spec has.
        """
        spec = Spec(name=self.name, task=self.task, data=self.data)
        return spec.anchored(self.folder, allow_code=self._allow_code)

    @property
    def price_file(self) -> Path | None:
        return self.path(self.prices) if self.prices else None


class FileSpec(Section):
    """What the data checks need of a spec, where there is none but the files themselves."""

    data: DataSpec
    model: str | None = None
    """Base model whose tokenizer counts; without one, lengths are not checked."""
    train: TrainSpec = TrainSpec()
    goal: GoalSpec = GoalSpec()


SourceKind = Literal["data", "corrections", "folder", "file"]
_SOURCE_KINDS: dict[str, SourceKind] = {
    "data.train": "data",
    "data.test": "data",
    "data.corrections": "corrections",
    "data.frozen": "folder",
    "prices": "file",
    RECORDED.rstrip("."): "data",
    "judge.human": "data",
    "train.init_adapter": "folder",
    "monitor.captures": "folder",
}


def source_kind(key: str) -> SourceKind:
    """What lies under a key of `Spec.sources`: rows of data, whose documents belong to them; a chain of corrections;
    any other folder; or a file."""
    return next(kind for start, kind in _SOURCE_KINDS.items() if key == start or key.startswith(f"{start}."))


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of `tunewright.yaml`, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Spec.model_json_schema()}


def spec_sha256(spec: Spec, *sections: str) -> str:
    """SHA-256 of what the spec says, or of the named sections (`train`) and keys (`train.max_length`) only.

    It leaves out where the user's files and the base model lie, because each step hashes their bytes
    (`tunewright.pipeline.fingerprint`). It also leaves out where steps run, and what happens to what is served.
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
            "judge": {"human"},
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

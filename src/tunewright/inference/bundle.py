"""Reading a bundle: one folder with everything that serving needs, and nothing that training needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tunewright.config.sections import TaskSpec
from tunewright.core.artifacts import sha256_file, sha256_json, sha256_tree, write_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.inference.calibration import Calibration, load_calibration
from tunewright.inference.checksums import (
    BUNDLE_FILE,
    SECOND,
    Checksums,
    Verification,
    amend,
    is_beside_weights,
    read_checksums,
)
from tunewright.inference.predictors import EncoderPredictor, LanguageModel, encoder_predictor, language_model
from tunewright.inference.runtimes.base import (
    ADAPTER_FOLDER,
    FOLDERS,
    ClassifyingRuntime,
    NextTokenRuntime,
    Runtime,
    RuntimeName,
    WritingRuntime,
    is_classifier,
    load_runtime,
)
from tunewright.models.chat import ChatTemplate
from tunewright.models.files import read_bytes
from tunewright.models.linear_model import LINEAR, Ngrams
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Task, task_of

CASCADE = " → "
"""Between the names of a cascade's two models."""
_VERSION = 12
"""Characters of a hash that tell versions apart."""


class BundleInfo(BaseModel):
    """`bundle.json`."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    schema_version: int = 1
    name: str
    base_model: str
    """What it was made of; of a cascade both, with `CASCADE` between them."""
    runtime: RuntimeName
    """What its weights are for; see `tunewright.inference.runtimes.base`."""
    precision: str
    task: TaskSpec
    longest_answer: int
    """Tokens of the longest answer that was taught."""
    answer_lead: str
    """What stands before an answer in the tokens the model was taught."""
    label_tokens: dict[str, str] = {}
    """For each answer what the model was taught to write in its place; empty where answers are written out."""
    outputs: list[str] = []
    """Of an encoder that marks values, what the logits of a token stand for; see `tunewright.tasks.spans.tags`."""
    version: str
    """Of its weights: the same only where they are."""
    context: int
    """Tokens a request may have, prompt and answer together."""
    template_sha256: str | None
    """Of the chat template; None of an encoder and of a linear model, which have none."""
    threshold: float | None = None
    """Confidence below which a request is to be escalated; None where none was found, or none was looked for yet."""
    guaranteed: bool = False
    """Whether the threshold was proven on the validation part; see `tunewright.evaluation.candidates.cascade`."""
    second_below: float | None = None
    """Confidence below which the bundle in `second/` answers in its place; None where there is none."""

    @model_validator(mode="before")
    @classmethod
    def _as_of_0_1(cls, data: Any) -> Any:
        """Read what Tunewright 0.1 wrote, whose bundles still serve: two of its keys have other names now."""
        if isinstance(data, dict) and "answer_codes" in data:
            data = {"label_tokens" if key == "answer_codes" else key: value for key, value in data.items()}
            if isinstance(task := data.get("task"), dict):
                task = {"single_token_labels" if key == "codes" else key: value for key, value in task.items()}
                data["task"] = task
        return data


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    folder: Path
    info: BundleInfo
    task: Task
    chat: ChatTemplate | None
    """The chat template; None of an encoder and of a linear model."""
    reader: TextTokenizer | Ngrams
    """What turns a text into what the model reads."""
    calibration: Calibration
    second: Bundle | None = None
    """Of a cascade the one that answers what this one is not sure enough of."""
    checksums: Checksums | None = None
    """What its files are to be; None where it was made before there were any, or is not verified."""
    verification: Verification = field(default_factory=Verification)

    @property
    def template(self) -> ChatTemplate:
        """The chat template of a bundle that has one."""
        assert self.chat, "what chooses a label has no chat template"
        return self.chat

    @property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer of a bundle that has one."""
        assert isinstance(self.reader, TextTokenizer), "a linear model has no tokenizer"
        return self.reader

    @property
    def is_classifier(self) -> bool:
        """Whether it is an encoder's or a linear model's."""
        return is_classifier(self.info.runtime)

    def load(self, threads: int | None = None, streams: int = 1) -> Runtime:
        """Its model, loaded into its runtime; arguments as of `tunewright.inference.runtimes.base.load_runtime`.

        Raises:
            UserError: as `verify`.
        """
        self.verify()
        return load_runtime(
            self.info.runtime,
            self.folder,
            context=self.info.context,
            threads=threads,
            streams=streams,
            tokenizer=self.reader if isinstance(self.reader, TextTokenizer) else None,
        )

    def verify(self) -> None:
        """See that its weights are those that it was made with, unless it was read not to be verified. The second one
        of a cascade does so for itself.

        Raises:
            UserError: they are not.
        """
        if not self.verification.on:
            return
        if self.checksums:
            self.checksums.check(self.folder, [name for name in self.checksums.files if not is_beside_weights(name)])
        else:
            _check_version(self.folder, self.info)

    @property
    def weight_bytes(self) -> int:
        """Of the files that its runtime loads, and of those of the second's."""
        weights = self.folder / FOLDERS[self.info.runtime]
        own = sum(file.stat().st_size for file in weights.rglob("*") if file.is_file())
        return own + (self.second.weight_bytes if self.second else 0)

    def predictor(self, model: Runtime) -> LanguageModel | EncoderPredictor:
        """Its model, that of `load`, as what answers requests."""
        if isinstance(model, ClassifyingRuntime):
            return encoder_predictor(
                model.logits, self.task, self.reader, self.info.outputs, self.info.context, self.calibration
            )
        return self.language_model(model)

    def language_model(self, model: NextTokenRuntime | WritingRuntime) -> LanguageModel:
        return language_model(
            model,
            self.task,
            self.template,
            self.tokenizer,
            self.folder,
            self.info.longest_answer,
            calibration=self.calibration,
        )

    def flags(self, confidence: float | None) -> dict[str, Any]:
        """What a server says beside an answer.

        Returns: `confidence`; `escalate`, whether the request is better asked elsewhere; `in_scope`, whether it is like
        those the model was taught. The latter two are None where the bundle knows no threshold for them.
        """
        sure, least, scope = confidence or 0.0, self.info.threshold, self.calibration.in_scope
        return {
            "confidence": confidence,
            "escalate": None if least is None else sure < least,
            "in_scope": None if scope is None else sure >= scope,
        }


def version_of(weights: Path) -> str:
    """What tells the weights in a folder from others."""
    return sha256_tree(weights)[0][:_VERSION]


def _check_version(folder: Path, info: BundleInfo) -> None:
    """Hold the weights of a bundle that has no checksums against its version, which has 48 bits of their hash: enough
    to find what was damaged, not what was made to fit.

    Raises:
        UserError: they are others.
    """
    weights, alone = folder / FOLDERS[info.runtime], (FOLDERS[info.runtime], ADAPTER_FOLDER)
    again = "Make it anew, with checksums: tunewright export YOUR_PROJECT"
    # An adapter in a folder of many has its weights elsewhere, and a cascade's version is made of both of its parts'.
    if not weights.is_dir() or info.second_below is not None:
        say(f"  note: {folder} was made before bundles had checksums, and can't be verified. {again}")
        return
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in files.items() if name.parts[0] in alone and len(name.parts) > 1}
    with ThreadPoolExecutor() as readers:
        found = dict(zip(files, readers.map(sha256_file, files.values()), strict=True))
    inside = {name.relative_to(weights.name): each for name, each in found.items() if name.parts[0] == weights.name}
    # The base of a folder of adapters is called by what lies in the folder of its weights.
    versions = [sha256_json([(name.as_posix(), each) for name, each in of.items()]) for of in (found, inside)]
    if info.version not in (version[:_VERSION] for version in versions):
        raise UserError(
            "The weights are not those that the bundle was made with.",
            where=weights,
            why=f"Their hash is {versions[0][:_VERSION]}; by {BUNDLE_FILE} it was {info.version}.",
            fix=f"Copy the bundle again from where it was made. {again}",
        )
    say(f"  note: {folder} was made before bundles had checksums: only its weights were verified. {again}")


def write_info(folder: Path, info: BundleInfo) -> None:
    """Write `bundle.json` of a bundle, and what it is now into the checksums, where there are some."""
    write_json(folder / BUNDLE_FILE, info.model_dump(mode="json"))
    amend(folder, BUNDLE_FILE)


def read_info(folder: Path) -> BundleInfo:
    """`bundle.json` of a bundle.

    Raises:
        FileNotFoundError: it has none.
        UserError: it can't be read.
    """
    try:
        return BundleInfo.model_validate_json(read_bytes(folder / BUNDLE_FILE))
    except ValidationError as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: ValidationError) -> UserError:
    return UserError(
        f"A file of the bundle can't be read as {error.title}: {error.errors()[0]['msg']}.",
        where=folder,
        fix="Make the bundle again with: tunewright export YOUR_PROJECT",
    )


def load_bundle(
    folder: Path, tokenizer: TextTokenizer | None = None, verification: Verification | None = None
) -> Bundle:
    """Read a bundle, but for its weights.

    Args:
        tokenizer: its tokenizer, where that is loaded already.
        verification: what is asked of it; by default what the environment says.

    Raises:
        UserError: the folder is no bundle, a file is absent or is not the one that the bundle was made with, or the
            chat template is not the one it was trained with.
    """
    verification = verification or Verification.by_environment()
    checksums = read_checksums(folder) if verification.on else None
    if verification.pin:
        _check_pin(folder, checksums, verification.pin)
    if checksums:
        checksums.check_names(folder)
        checksums.check(folder, [name for name in checksums.files if is_beside_weights(name)])
    try:
        info = read_info(folder)
        source = "" if is_classifier(info.runtime) else _text(folder / "chat_template.jinja")
        if checksums and info.runtime == LINEAR:
            checksums.check(folder, [name for name in checksums.files if not is_beside_weights(name)])
        reader = Ngrams.load(folder / FOLDERS[LINEAR]) if info.runtime == LINEAR else tokenizer or TextTokenizer(folder)
        calibration = load_calibration(folder)
    except FileNotFoundError as error:
        raise UserError(
            "This folder is no bundle.",
            where=folder,
            why=f"It has no {Path(error.filename).name}.",
            fix="Make one with: tunewright export YOUR_PROJECT",
        ) from None
    except ValidationError as error:
        raise _unreadable(folder, error) from None
    # What is pinned names the second one's checksums, so that it is pinned too.
    behind = Verification(verification.on)
    second = load_bundle(folder / SECOND, verification=behind) if info.second_below is not None else None
    if is_classifier(info.runtime):
        return Bundle(folder, info, task_of(info.task), None, reader, calibration, second, checksums, verification)
    template = ChatTemplate(source, str(folder / "chat_template.jinja"))
    if template.sha256 != info.template_sha256:
        raise UserError(
            "The chat template is not the one the model was trained with.",
            where=template.name,
            why="A model served with another template loses accuracy without a word.",
            fix="Restore the file, or export again.",
        )
    task = task_of(info.task, info.answer_lead, info.label_tokens)
    return Bundle(folder, info, task, template, reader, calibration, second, checksums, verification)


def _check_pin(folder: Path, checksums: Checksums | None, pin: str) -> None:
    if checksums is None:
        raise UserError(
            "This bundle has no checksums, so that it can't be held against a pin.",
            where=folder,
            fix="Make it anew with: tunewright export YOUR_PROJECT",
        )
    if checksums.digest != pin:
        raise UserError(
            "This is not the bundle that is pinned.",
            where=folder,
            why=f"Its digest is {checksums.digest[:_VERSION]}…, the pin {pin[:_VERSION]}….",
            fix="Serve the bundle that the pin was taken of. If this one is right, pin its digest.",
        )


def _text(file: Path) -> str:
    """Of a file in UTF-8.

    Raises:
        UserError: it is none.
    """
    try:
        return read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"This is no text in UTF-8: {error}.", where=file, fix="Copy the bundle again.") from None

"""Reading a bundle: one folder with everything that serving needs, and nothing that only training needs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    require_no_linked_folders,
)
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
from tunewright.models.files import read_bytes
from tunewright.models.linear_model import LINEAR, Ngrams
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Task, task_of
from tunewright.tasks.spans.habits import NONE_KNOWN, Habits

# What answers is imported where it is needed: a server begins to load weights first, and does both at a time.
if TYPE_CHECKING:
    from tunewright.inference.predictors import EncoderPredictor, LanguageModel
    from tunewright.models.chat import ChatTemplate

CASCADE = " → "
"""Separates the names of a cascade's two models."""
_VERSION = 12
"""Characters of a hash that identify a version."""


class BundleInfo(BaseModel):
    """`bundle.json`."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    schema_version: int = 1
    name: str
    base_model: str
    """The base model; for a cascade both, with `CASCADE` between them."""
    runtime: RuntimeName
    """The runtime of its weights; see `tunewright.inference.runtimes.base`."""
    precision: str
    task: TaskSpec
    longest_answer: int
    """Tokens of the longest training answer."""
    answer_lead: str
    """The text before an answer, as the model was trained."""
    label_tokens: dict[str, str] = {}
    """The single token that the model writes for each label; empty if labels are written out."""
    outputs: list[str] = []
    """The names of the outputs of an encoder that marks values; see `tunewright.tasks.spans.tags`."""
    habits: Habits = NONE_KNOWN
    """What the records have in common that such an encoder was trained on."""
    version: str
    """The version of its weights. Equal versions mean equal weights."""
    context: int
    """Tokens a request may have, prompt and answer together."""
    template_sha256: str | None
    """SHA-256 of the chat template; None for encoders and linear models, which have none."""
    threshold: float | None = None
    """Confidence below which a request should be escalated; None if there is no threshold, or none was computed yet."""
    guaranteed: bool = False
    """Whether the threshold was proven on the validation part; see `tunewright.evaluation.candidates.cascade`."""
    system_prompts: list[str] | None = None
    """The hashes of the system prompts that clients may send; see `tunewright.tasks.system_prompts`. None: any."""
    second_below: float | None = None
    """Confidence below which the bundle in `second/` answers instead; None if there is no second bundle."""

    @model_validator(mode="before")
    @classmethod
    def _as_of_0_1(cls, data: Any) -> Any:
        """Accept the bundles of Tunewright 0.1, which named two keys differently."""
        if isinstance(data, dict) and "answer_codes" in data:
            data = {"label_tokens" if key == "answer_codes" else key: value for key, value in data.items()}
            if isinstance(task := data.get("task"), dict):
                task = {"single_token_labels" if key == "codes" else key: value for key, value in task.items()}
                data["task"] = task
        return data


@dataclass(frozen=True)
class BundleWeights:
    """The weights of a bundle. They can be loaded before the rest of the bundle is read."""

    folder: Path
    """The bundle's folder."""
    info: BundleInfo
    checksums: Checksums | None
    """See `Bundle`."""
    verification: Verification

    def load(self, threads: int | None = None, streams: int = 1, tokenizer: TextTokenizer | None = None) -> Runtime:
        """Load them, verified or not, into their runtime. See `tunewright.inference.runtimes.base.load_runtime`."""
        return load_runtime(
            self.info.runtime,
            self.folder,
            context=self.info.context,
            threads=threads,
            streams=streams,
            tokenizer=tokenizer,
        )

    def verify(self) -> None:
        """Check that they are those that the bundle was made with, unless verification is off.

        Raises:
            UserError: they have changed.
        """
        if not self.verification.on:
            return
        if self.checksums:
            self.checksums.check(self.folder, [name for name in self.checksums.files if not is_beside_weights(name)])
        else:
            _check_version(self.folder, self.info)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and is complete."""

    folder: Path
    info: BundleInfo
    task: Task
    chat: ChatTemplate | None
    """The chat template; None for encoders and linear models."""
    reader: TextTokenizer | Ngrams
    """Turns a text into the model's input."""
    calibration: Calibration
    second: Bundle | None = None
    """The second bundle of a cascade. It answers if the confidence of this one is too low."""
    checksums: Checksums | None = None
    """The checksums of its files; None if the bundle is older than checksums, or is not verified."""
    verification: Verification = field(default_factory=Verification)

    @property
    def template(self) -> ChatTemplate:
        """The chat template of a bundle that has one."""
        assert self.chat, "encoders and linear models have no chat template"
        return self.chat

    @property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer of a bundle that has one."""
        assert isinstance(self.reader, TextTokenizer), "a linear model has no tokenizer"
        return self.reader

    @property
    def is_classifier(self) -> bool:
        """Whether its model is an encoder or a linear model."""
        return is_classifier(self.info.runtime)

    @property
    def weights(self) -> BundleWeights:
        return BundleWeights(self.folder, self.info, self.checksums, self.verification)

    def load(self, threads: int | None = None, streams: int = 1) -> Runtime:
        """Verify its model and load it into its runtime; for the arguments see
        `tunewright.inference.runtimes.base.load_runtime`.

        Raises:
            UserError: the weights have changed, or can't be loaded.
        """
        self.verify()
        return self.weights.load(threads, streams, self.reader if isinstance(self.reader, TextTokenizer) else None)

    def verify(self) -> None:
        """See `BundleWeights.verify`. The second bundle of a cascade is verified when it is loaded."""
        self.weights.verify()

    @property
    def weight_bytes(self) -> int:
        """Bytes of the files that its runtime loads, those of a second bundle included."""
        weights = self.folder / FOLDERS[self.info.runtime]
        own = sum(file.stat().st_size for file in weights.rglob("*") if file.is_file())
        return own + (self.second.weight_bytes if self.second else 0)

    def predictor(self, model: Runtime) -> LanguageModel | EncoderPredictor:
        """The predictor of its loaded model."""
        from tunewright.inference.predictors import encoder_predictor

        if isinstance(model, ClassifyingRuntime):
            info = self.info
            return encoder_predictor(
                model.logits, self.task, self.reader, info.outputs, info.context, self.calibration, info.habits
            )
        return self.language_model(model)

    def language_model(self, model: NextTokenRuntime | WritingRuntime) -> LanguageModel:
        from tunewright.inference.predictors import language_model

        return language_model(
            model,
            self.task,
            self.template,
            self.tokenizer,
            self.info.longest_answer,
            calibration=self.calibration,
        )

    def flags(self, confidence: float | None) -> dict[str, Any]:
        """The fields that a server adds to an answer.

        Returns: `confidence`; `escalate`: whether another model should answer; `in_scope`: whether the request is like
        the training data. The latter two are None if the bundle has no threshold for them.
        """
        value, threshold, scope = confidence or 0.0, self.info.threshold, self.calibration.in_scope
        return {
            "confidence": confidence,
            "escalate": None if threshold is None else value < threshold,
            "in_scope": None if scope is None else value >= scope,
        }


def version_of(weights: Path) -> str:
    """The version of the weights in a folder."""
    return sha256_tree(weights)[0][:_VERSION]


def _check_version(folder: Path, info: BundleInfo) -> None:
    """Compare the weights of a bundle without checksums with its version. The version has 48 bits of their hash: enough
    to detect damage, not an attack.

    Raises:
        UserError: the weights have changed.
    """
    weights, weight_folders = folder / FOLDERS[info.runtime], (FOLDERS[info.runtime], ADAPTER_FOLDER)
    again = "Make it anew, with checksums: tunewright export YOUR_PROJECT"
    # An adapter in a folder of many has its weights elsewhere, and a cascade's version covers both of its bundles.
    if not weights.is_dir() or info.second_below is not None:
        say(f"  note: {folder} was made before bundles had checksums, and can't be verified. {again}")
        return
    require_no_linked_folders(folder / each for each in weight_folders)
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: path for name, path in files.items() if name.parts[0] in weight_folders and len(name.parts) > 1}
    with ThreadPoolExecutor() as readers:
        hashes = dict(zip(files, readers.map(sha256_file, files.values()), strict=True))
    base = {name.relative_to(weights.name): each for name, each in hashes.items() if name.parts[0] == weights.name}
    # The version of the base of a folder of adapters covers only its folder of weights.
    versions = [sha256_json([(name.as_posix(), each) for name, each in of.items()]) for of in (hashes, base)]
    if info.version not in (version[:_VERSION] for version in versions):
        raise UserError(
            "The weights are not those that the bundle was made with.",
            where=weights,
            why=f"Their hash is {versions[0][:_VERSION]}; by {BUNDLE_FILE} it was {info.version}.",
            fix=f"Copy the bundle again from where it was made. {again}",
        )
    say(f"  note: {folder} was made before bundles had checksums: only its weights were verified. {again}")


def write_info(folder: Path, info: BundleInfo) -> None:
    """Write a bundle's `bundle.json`, and update its checksum if the bundle has checksums."""
    # Left out where there are none, so that an earlier Tunewright reads the bundles of other models.
    unused = {"habits"} if info.habits == NONE_KNOWN else None
    write_json(folder / BUNDLE_FILE, info.model_dump(mode="json", exclude=unused))
    amend(folder, BUNDLE_FILE)


def read_info(folder: Path) -> BundleInfo:
    """Read a bundle's `bundle.json`.

    Raises:
        FileNotFoundError: the folder has none.
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
    folder: Path,
    tokenizer: TextTokenizer | None = None,
    verification: Verification | None = None,
    early: Callable[[BundleWeights], None] | None = None,
) -> Bundle:
    """Read a bundle without its weights.

    Args:
        tokenizer: its tokenizer, if it is loaded already.
        verification: the checks; by default those that the environment sets.
        early: gets the weights before the tokenizer is read, which takes a while.

    Raises:
        UserError: the folder is not a bundle, a file is missing or has changed, or the chat template is not the one
            that the model was trained with.
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
        if early:
            early(BundleWeights(folder, info, checksums, verification))
        source = "" if is_classifier(info.runtime) else _text(folder / "chat_template.jinja")
        if checksums and info.runtime == LINEAR:
            checksums.check(folder, [name for name in checksums.files if not is_beside_weights(name)])
        reader = Ngrams.load(folder / FOLDERS[LINEAR]) if info.runtime == LINEAR else tokenizer or TextTokenizer(folder)
        calibration = load_calibration(folder)
    except FileNotFoundError as error:
        raise UserError(
            "This folder is not a bundle.",
            where=folder,
            why=f"It has no {Path(error.filename).name}.",
            fix="Make one with: tunewright export YOUR_PROJECT",
        ) from None
    except ValidationError as error:
        raise _unreadable(folder, error) from None
    # The checksums include those of the second bundle, so the pin covers it too.
    of_second = Verification(verification.on)
    second = load_bundle(folder / SECOND, verification=of_second) if info.second_below is not None else None
    if is_classifier(info.runtime):
        return Bundle(folder, info, task_of(info.task), None, reader, calibration, second, checksums, verification)
    from tunewright.models.chat import ChatTemplate

    template = ChatTemplate(source, str(folder / "chat_template.jinja"))
    if template.sha256 != info.template_sha256:
        raise UserError(
            "The chat template is not the one the model was trained with.",
            where=template.name,
            why="A model served with another template loses accuracy, and nothing shows it.",
            fix="Restore the file, or export again.",
        )
    task = task_of(info.task, info.answer_lead, info.label_tokens)
    return Bundle(folder, info, task, template, reader, calibration, second, checksums, verification)


def _check_pin(folder: Path, checksums: Checksums | None, pin: str) -> None:
    if checksums is None:
        raise UserError(
            "This bundle has no checksums, so it can't be checked against a pin.",
            where=folder,
            fix="Make it anew with: tunewright export YOUR_PROJECT",
        )
    if checksums.digest != pin:
        raise UserError(
            "This is not the pinned bundle.",
            where=folder,
            why=f"Its digest is {checksums.digest[:_VERSION]}…, the pin is {pin[:_VERSION]}….",
            fix="Serve the bundle that has the pin's digest. If this one is right, pin its digest.",
        )


def _text(file: Path) -> str:
    """The text of a file.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        return read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise UserError(f"This file is not UTF-8 text: {error}.", where=file, fix="Copy the bundle again.") from None

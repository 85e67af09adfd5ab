"""The bundle: one folder with everything serving needs, and nothing that training needed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tunewright.artifacts import sha256_file, sha256_json, sha256_tree, write_json
from tunewright.errors import UserError
from tunewright.evaluate.calibration import Calibration, load_calibration
from tunewright.evaluate.predictors import EncoderPredictor, LanguageModel, encoder_predictor, language_model
from tunewright.export.checksums import BUNDLE_FILE as BUNDLE_FILE
from tunewright.export.checksums import SECOND as SECOND
from tunewright.export.checksums import Checksums, Verification, amend, is_beside_weights, read_checksums
from tunewright.limits import MOST_NGRAMS
from tunewright.models.architectures import longest_exact
from tunewright.models.beside import BESIDE
from tunewright.models.chat import ChatTemplate
from tunewright.models.encoders import LocalEncoder
from tunewright.models.files import read_bytes
from tunewright.models.linear_model import LINEAR, Ngrams
from tunewright.models.resolve import LocalModel
from tunewright.models.runtime import (
    ADAPTER_FOLDER,
    FOLDERS,
    ClassifyingRuntime,
    NextTokenRuntime,
    Runtime,
    RuntimeName,
    WritingRuntime,
    is_classifier,
    is_of_encoder,
    load_runtime,
    runtime_in,
)
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.writing import room_for
from tunewright.progress import say
from tunewright.spec import Spec
from tunewright.spec.sections import TaskSpec
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
    """What its weights are for; see `tunewright.models.runtime`."""
    precision: str
    task: TaskSpec
    longest_answer: int
    """Tokens of the longest answer that was taught."""
    answer_lead: str
    """What stands before an answer in the tokens the model was taught."""
    answer_codes: dict[str, str] = {}
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
    """Whether the threshold was proven on the validation part; see `tunewright.evaluate.cascade`."""
    second_below: float | None = None
    """Confidence below which the bundle in `second/` answers in its place; None where there is none."""


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
        """Its model, loaded into its runtime; arguments as of `tunewright.models.runtime.load_runtime`.

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


def write_bundle(spec: Spec, base: LocalModel, folder: Path, longest: int) -> BundleInfo:
    """Complete a folder that already holds the weights into a bundle.

    Args:
        longest: tokens of the longest answer that was taught.
    """
    tokenizer = TextTokenizer(base.folder)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    known = longest_exact(json.loads((base.folder / "config.json").read_text("utf-8"))) or sys.maxsize
    info = _write(
        spec,
        folder,
        precision=spec.export.weights,
        context=min(known, spec.train.max_length + room_for(task.constraint, longest)),
        longest_answer=longest,
        answer_lead=task.lead,
        answer_codes=dict(task.codes),
        template_sha256=base.template.sha256,
    )
    shutil.copy(base.folder / "tokenizer.json", folder / "tokenizer.json")
    (folder / "chat_template.jinja").write_text(base.template.source, "utf-8")
    return info


def write_encoder_bundle(
    spec: Spec, base: LocalEncoder, encoder: Path, outputs: Sequence[str], folder: Path
) -> BundleInfo:
    """As `write_bundle`, of an encoder.

    Args:
        encoder: the folder of the tuned one.
        outputs: what the logits of a token stand for; none where its logits are those of the labels.
    """
    context = min(base.window, spec.train.max_length)
    info = _write(spec, folder, precision=spec.export.weights, context=context, outputs=list(outputs))
    shutil.copy(encoder / "tokenizer.json", folder / "tokenizer.json")
    return info


def write_linear_bundle(spec: Spec, folder: Path) -> BundleInfo:
    """As `write_bundle`, of a linear model."""
    return _write(spec, folder, precision="fp32", context=MOST_NGRAMS)


def _write(
    spec: Spec,
    folder: Path,
    *,
    precision: str,
    context: int,
    longest_answer: int = 0,
    answer_lead: str = "",
    template_sha256: str | None = None,
    **more: Any,
) -> BundleInfo:
    """Write `bundle.json` and the card into a folder that holds nothing but the weights, which the version pins.

    Args:
        more: further fields of `BundleInfo`; the defaults are those of what writes no answers.
    """
    info = BundleInfo(
        name=spec.name,
        base_model=spec.model_name,
        runtime=runtime_in(folder),
        precision=precision,
        task=spec.task,
        longest_answer=longest_answer,
        answer_lead=answer_lead,
        version=version_of(folder),
        context=context,
        template_sha256=template_sha256,
        **more,
    )
    (folder / "README.md").write_text(_model_card(spec, info, folder), "utf-8")
    write_info(folder, info)
    return info


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
    task = task_of(info.task, info.answer_lead, info.answer_codes)
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


def _model_card(spec: Spec, info: BundleInfo, folder: Path) -> str:
    train = spec.train
    training = f"{train.method}, rank {train.lora.r}, {train.epochs:g} epochs, lr {train.lr:g}"
    if is_of_encoder(info.runtime):
        training = f"all weights, {train.encoder.epochs:g} epochs, lr {train.encoder.lr:g}"
        if (folder / FOLDERS[info.runtime] / BESIDE).is_dir():
            training += "; a linear model beside it, whose logits are added"
    elif info.runtime == LINEAR:
        training = "TF-IDF of words and parts of words under a linear support vector machine"
    card: dict[str, Any] = {
        "Base model": info.base_model,
        "Task": f"{info.task.kind}, {task_of(info.task).summary}",
        "Training": training,
        "Weights": f"{info.precision} for {info.runtime}, version {info.version}",
        "Context": f"{info.context} tokens",
    }
    if info.template_sha256:
        card["Chat template"] = f"SHA-256 {info.template_sha256}"
    rows = "\n".join(f"| {key} | {value} |" for key, value in card.items())
    return (
        f"# {info.name}\n\nMade with Tunewright. How well it answers and the parity of these "
        f"weights with the trained model are in the run's report.\n\n| | |\n|---|---|\n{rows}\n\n"
        f"Serve it: `tunewright serve {info.name}/bundle`\n"
    )

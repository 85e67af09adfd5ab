"""The files of a run that go to a hub or a registry: weights, the files that other engines read beside them, and a
card; or the bundle.

Only files with known names go. None of them has a row of the data. They have the system prompt and the labels in it,
because the model answers nothing else. A linear model has every word of the training texts, and the summary says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from typing import Literal

from tunewright.config import Spec
from tunewright.core.artifacts import LATEST, link_file, output_folder, read_manifest, sha256_json
from tunewright.core.errors import UserError
from tunewright.exporters.gguf.export import LIST_FILE
from tunewright.exporters.other_engines import CHOICES, GRAMMAR, SYSTEM_PROMPT, asking_in, bundle_card, card, read_json
from tunewright.inference.bundle import load_bundle, read_info
from tunewright.inference.calibration import CALIBRATION
from tunewright.inference.checksums import BUNDLE_FILE, CHECKSUMS, SECOND
from tunewright.inference.runtimes.base import ADAPTER_FOLDER, FOLDERS, is_classifier
from tunewright.models.linear_model import NGRAMS

Form = Literal["merged", "adapter", "gguf", "bundle"]
_DIGITS = 16
"""Hexadecimal digits of a hash that name a version."""
_BESIDE = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "chat_template.jinja",
    SYSTEM_PROMPT,
    CHOICES,
)
_CARD = "README.md"
_OF: Mapping[Form, tuple[str, ...]] = {
    "merged": ("*.safetensors", "*.safetensors.index.json", *_BESIDE, _CARD),
    "adapter": ("adapter_model.safetensors", "adapter_config.json", _CARD),
    "gguf": ("*.gguf", "Modelfile", SYSTEM_PROMPT, GRAMMAR, _CARD),
    "bundle": (
        BUNDLE_FILE,
        CHECKSUMS,
        CALIBRATION,
        "tokenizer.json",
        "chat_template.jinja",
        _CARD,
        *(f"{folder}/*" for folder in sorted({*FOLDERS.values(), ADAPTER_FOLDER, SECOND})),
    ),
}
_WITH_ADAPTER = tuple(name for name in _BESIDE if name not in ("config.json", "generation_config.json"))
_MAKES: Mapping[Form, str] = {
    "merged": "tunewright export",
    "adapter": "tunewright train",
    "gguf": "tunewright export --to gguf",
    "bundle": "tunewright run",
}


@dataclass(frozen=True)
class Parcel:
    """Files to upload together, by their target name."""

    form: Form
    files: Mapping[str, Path | bytes]
    content: str
    """The hash of the output with the weights."""

    @property
    def version(self) -> str:
        """A hash of the output with the weights and of the files beside them."""
        beside = {name: sha256(each).hexdigest() for name, each in self.files.items() if isinstance(each, bytes)}
        named = {name: each.stat().st_size for name, each in self.files.items() if isinstance(each, Path)}
        return sha256_json([self.form, self.content, beside, named])[:_DIGITS]

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return sum(self.sizes.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Each file's size in bytes."""
        return {name: _size(each) for name, each in sorted(self.files.items())}

    def lines(self) -> Iterator[str]:
        """A line for each file, and a warning where a file holds words of the data."""
        for name, size in self.sizes.items():
            yield f"{size / 1e6:10.1f} MB  {name}"
        if any(name.endswith(NGRAMS) for name in self.files):
            yield f"{NGRAMS} has all words of the training texts, each by itself: names and numbers too."

    def belongs(self, name: str) -> bool:
        """Whether this form may have a file of this name."""
        return _is_known(name, _OF[self.form] + (_WITH_ADAPTER if self.form == "adapter" else ()))

    def lay_out(self, folder: Path) -> None:
        """Put the files into an empty folder. Large files become links where possible, which take no space again."""
        for name, each in self.files.items():
            if isinstance(each, bytes):
                (folder / name).write_bytes(each)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                link_file(each, folder / name)


def parcel_of(spec: Spec, runs: Path, form: Form | None = None) -> Parcel:
    """The files of a project's latest outputs to upload.

    Args:
        runs: the folder of the outputs.
        form: by default "merged"; "bundle" for an encoder or a linear model.

    Raises:
        UserError: there is no such output, it is incomplete, or the model has no such form.
    """
    exported = (runs / LATEST / "export").resolve()
    only_bundle = any(
        (exported / "bundle" / FOLDERS[runtime]).is_dir() for runtime in FOLDERS if is_classifier(runtime)
    )
    form = form or ("bundle" if only_bundle else "merged")
    if only_bundle and form != "bundle":
        raise UserError(
            f"This project's latest model is no language model, and has no form {form}.",
            where=exported,
            why="No other library reads the file of its classification head; its bundle has all of it.",
            fix="Send the bundle: --form bundle",
        )
    step = {"merged": "export", "adapter": "train", "gguf": "gguf", "bundle": "bundle"}[form]
    folder = (runs / LATEST / step).resolve()
    manifest = read_manifest(exported if form == "gguf" else folder)
    files: dict[str, Path | bytes] = {}
    if manifest is not None:
        inside = folder if form in ("gguf", "bundle") else folder / form
        files |= _known(inside, _OF[form])
        if form == "adapter":
            files |= _of_adapter(spec, exported, manifest.content)
        elif form == "bundle":
            files[_CARD] = bundle_card(folder, read_info(folder)).encode()
    if manifest is None or not any(name.endswith((".safetensors", ".gguf", BUNDLE_FILE)) for name in files):
        raise UserError(f"This project has no whole {form}.", where=folder, fix=f"Make it: {_MAKES[form]} …")
    if form == "gguf" and folder != output_folder(folder.parent, "gguf", manifest.content):
        raise UserError(
            "The GGUF files belong to an earlier export.",
            where=folder,
            fix=f"Bring them up to date: {_MAKES[form]} …",
        )
    return Parcel(form, files, manifest.content)


def _of_adapter(spec: Spec, exported: Path, trained: str) -> dict[str, Path | bytes]:
    """The files beside an adapter: the card, and the merged model's files other than its weights.

    Args:
        trained: the content of the adapter's training.

    Raises:
        UserError: the adapter was not exported.
    """
    manifest = read_manifest(exported)
    if manifest is None:
        raise UserError("The adapter's other files were not exported.", where=exported, fix="Type: tunewright export …")
    if manifest.inputs.get("train") != trained:
        raise UserError(
            "The export belongs to an earlier training.",
            where=exported,
            why="The adapter's tokenizer, prompt and labels come from it.",
            fix="Type: tunewright export …",
        )
    asking = asking_in(exported / "merged", load_bundle(exported / "bundle"))
    return {**_known(exported / "merged", _WITH_ADAPTER), _CARD: card(spec, asking, "adapter").encode()}


def _known(folder: Path, patterns: Sequence[str]) -> dict[str, Path]:
    listed = None
    if (folder / LIST_FILE).is_file():
        listed = read_json(folder / LIST_FILE)["files"]  # only complete GGUF files
    named = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {
        name: file
        for name, file in named.items()
        if _is_known(name, patterns) and (listed is None or file.suffix != ".gguf" or name in listed)
    }


def _is_known(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches a file; only a pattern with a folder matches files in folders."""
    return any(fnmatch(name, pattern) and ("/" in name) == ("/" in pattern) for pattern in patterns)


def _size(each: Path | bytes) -> int:
    return len(each) if isinstance(each, bytes) else each.stat().st_size

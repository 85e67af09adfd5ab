"""The user's files that a job needs: those that the spec names, laid out in the same folders on every machine."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunewright.config import Spec
from tunewright.config.names import RECORDED
from tunewright.config.schema import source_kind
from tunewright.core.artifacts import sha256_file, sha256_json
from tunewright.core.errors import UserError
from tunewright.data.readers import documents_of
from tunewright.data.readers.sources import files
from tunewright.documents import is_there, require_within
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import files_of_named
from tunewright.pipeline.steps import Step

LAID_OUT = "given"
"""The folder on the node that holds all of them."""
_CHOSEN = ("data.test.", RECORDED)
"""What begins the keys whose rest is a name that the user chose."""
_NOT_IN_INPUTS = re.compile(r"[^A-Za-z0-9_]")
_DIGITS = 8
"""How many hexadecimal digits of a hash tell two keys apart."""
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Source:
    """A file or a folder that the spec names."""

    key: str
    """The spec's key, such as `data.test.official`."""
    files: dict[str, Path]
    """The path of each file here, by its path in the folder that goes up."""
    place: str
    """The value of the key in the spec on the node."""

    @property
    def name(self) -> str:
        """A name that Azure accepts for an input, and that no other key of the spec has: `data.test.v1.0` and
        `data.test.v1_0` are two."""
        accepted = _NOT_IN_INPUTS.sub("_", self.key)
        chosen = next((self.key.removeprefix(start) for start in _CHOSEN if self.key.startswith(start)), "")
        return f"{accepted}_{sha256_json(self.key)[:_DIGITS]}" if _NOT_IN_INPUTS.search(chosen) else accepted

    def asset(self, project: str) -> str:
        """The name of the data asset."""
        return f"tunewright-{project}-{self.name}"

    @property
    def sha256(self) -> str:
        return sha256_json([(name, sha256_file(path)) for name, path in sorted(self.files.items())])

    @property
    def here(self) -> Path:
        """The folder here that looks like the one that goes up."""
        name, path = next(iter(self.files.items()))
        return path.parents[len(Path(name).parts) - 1]

    def laid_out(self, folder: Path) -> Path:
        """Lay the files out in a folder, as links if possible."""
        for name, path in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            for link in (os.link, os.symlink):  # a hard link can't point to another file system
                with suppress(OSError):
                    link(path.resolve(), target)
                    break
            else:
                shutil.copyfile(path, target)
        return folder


@dataclass(frozen=True)
class BaseModelSource(Source):
    """A base model that the spec names, with that name as its `place`. A node finds it in its cache, as if the node had
    fetched it."""

    pinned: str
    """Identifies its content, such as a commit."""

    def asset(self, project: str) -> str:  # noqa: ARG002 (one for all projects)
        # Azure takes no other characters, and many models have a dot in their name (rule asset-name).
        return f"tunewright-base-{_NOT_IN_NAMES.sub('-', self.place)}"

    @property
    def sha256(self) -> str:
        """A hash of what identifies its content, so that gigabytes are not read."""
        return sha256_json([self.pinned, *sorted(self.files)])


def taken_along(spec: Spec, steps: Iterable[Step]) -> dict[str, Source]:
    """`sources_of`, and the base model if it has a name and one of the steps reads it.

    This machine fetches it into its cache and uploads it. So a node needs no network for it (a private workspace has
    none) and no token of a hub (the token stays here).

    Raises:
        UserError: as for `sources_of`, or the base model can't be fetched.
    """
    sources = sources_of(spec)
    if "model" not in sources and spec.model != LINEAR and any("model" in step.sections for step in steps):
        files, pinned = files_of_named(spec.model, spec.folder)
        sources["model"] = BaseModelSource("model", files, spec.model, pinned)
    return sources


def sources_of(spec: Spec) -> dict[str, Source]:
    """The user's files that the spec names, by the spec's keys.

    Raises:
        UserError: a file is missing, or a document lies outside the folder of the data that names it.
    """
    sources = {}
    for key, path in spec.sources.items():
        is_data = source_kind(key) == "data"
        sources[key] = _data(key, path, spec.data.document, spec.documents_root) if is_data else _as_it_is(key, path)
    local = spec.path(Path(spec.model))
    if spec.model_name != spec.model or local.exists():
        sources["model"] = _as_it_is("model", local)
    return sources


def needed(step: Step, sources: Iterable[str]) -> list[str]:
    """The keys of the sources that a step reads."""
    return [key for key in sources if step.reads_from(key)]


def _as_it_is(key: str, path: Path) -> Source:
    """A file or a folder, under its own name, because outputs mention the name."""
    contents = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return Source(key, {p.relative_to(path.parent).as_posix(): p for p in contents}, f"{LAID_OUT}/{key}/{path.name}")


def _data(key: str, path: Path, document: str | None, root: Path | None) -> Source:
    """Data files, and the documents that their rows name, at the same paths relative to the data."""
    data_files, top = files(path), Path(path.name if path.is_dir() else "")
    paths = {(top / file.name).as_posix(): file.path for file in data_files}
    for file in data_files if document else []:
        for each in documents_of(file, document or ""):
            if not is_there(each):
                continue
            place = os.path.normpath((top / file.name).parent / os.path.relpath(each, file.path.parent))
            if not Path(place).is_relative_to(top) or Path(place).parts[0] == os.pardir:
                raise UserError(
                    "A document lies outside the folder of the data that names it, so it can't be uploaded with them.",
                    where=each,
                    fix=f"Move it below {file.path.parent}, or run this where the data lies: leave --on azure out.",
                )
            require_within(root or file.folder, each)
            paths[place] = each
    return Source(key, paths, str(Path(LAID_OUT, key, _name_below(path))))


def _name_below(path: Path) -> Path:
    """The name of data below the folder in which they are laid out. A file or a folder keeps its name, because outputs
    mention it. A pattern stays a pattern, so that no document beside the data is taken for data."""
    if path.exists():
        return Path(path.name)
    return Path(*path.parts[next(n for n, part in enumerate(path.parts) if glob.has_magic(part)) :])

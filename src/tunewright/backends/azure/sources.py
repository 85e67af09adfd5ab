"""What of the user's a job needs: the files that the spec names, as folders that look alike everywhere."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tunewright.config import Spec
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
"""The folder on the node below which everything is found again."""


@dataclass(frozen=True)
class Source:
    """Something that the spec names."""

    key: str
    """The spec's key, such as `data.test.official`."""
    files: dict[str, Path]
    """Where each file lies here, by its place in the folder that goes up."""
    place: str
    """What the spec on the node says under the key."""

    @property
    def name(self) -> str:
        """A name that Azure accepts for an input."""
        return "".join(sign if sign.isalnum() else "_" for sign in self.key)

    def asset(self, project: str) -> str:
        """What the data asset is called."""
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
        """The files in a folder, as links where that can be."""
        for name, path in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            for link in (os.link, os.symlink):  # a hard link can't lead to another file system
                with suppress(OSError):
                    link(path.resolve(), target)
                    break
            else:
                shutil.copyfile(path, target)
        return folder


@dataclass(frozen=True)
class BaseModelSource(Source):
    """A base model that the spec knows by a name, which is its `place`: a node finds it in its cache, as if it had been
    fetched there."""

    pinned: str
    """What stands for its content."""

    def asset(self, project: str) -> str:  # noqa: ARG002 (one for all projects)
        return f"tunewright-base-{self.place.replace('/', '-')}"

    @property
    def sha256(self) -> str:
        """Gigabytes are not read for it."""
        return sha256_json([self.pinned, *sorted(self.files)])


def taken_along(spec: Spec, steps: Iterable[Step]) -> dict[str, Source]:
    """`sources_of`, and a base model that has a name, where one of the steps reads it.

    It goes up from this machine, whose cache has it then. So a node needs no network for it, which it lacks in a
    private workspace, and no token of a hub, which stays here.

    Raises:
        UserError: as `sources_of`, or the base model can't be fetched.
    """
    made = sources_of(spec)
    if "model" not in made and spec.model != LINEAR and any("model" in step.sections for step in steps):
        files, pinned = files_of_named(spec.model, spec.folder)
        made["model"] = BaseModelSource("model", files, spec.model, pinned)
    return made


def sources_of(spec: Spec) -> dict[str, Source]:
    """Everything of the user's that the spec names, by its key.

    Raises:
        UserError: something is not there, or a document lies outside the folder of the data that names it.
    """
    made = {}
    for key, path in spec.sources.items():
        of_data = source_kind(key) == "data"
        made[key] = _data(key, path, spec.data.document, spec.documents_root) if of_data else _as_it_is(key, path)
    local = spec.path(Path(spec.model))
    if spec.model_name != spec.model or local.exists():
        made["model"] = _as_it_is("model", local)
    return made


def needed(step: Step, sources: Iterable[str]) -> list[str]:
    """Which of the sources a step reads."""
    return [key for key in sources if step.reads_from(key)]


def _as_it_is(key: str, path: Path) -> Source:
    """A file or a folder, under its own name, which outputs tell."""
    inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return Source(key, {p.relative_to(path.parent).as_posix(): p for p in inside}, f"{LAID_OUT}/{key}/{path.name}")


def _data(key: str, path: Path, document: str | None, root: Path | None) -> Source:
    """Data files, and the documents that their rows name, at the same place relative to them."""
    named, top = files(path), Path(path.name if path.is_dir() else "")
    lying = {(top / file.name).as_posix(): file.path for file in named}
    for file in named if document else []:
        for each in documents_of(file, document or ""):
            if not is_there(each):
                continue
            place = os.path.normpath((top / file.name).parent / os.path.relpath(each, file.path.parent))
            if not Path(place).is_relative_to(top) or Path(place).parts[0] == os.pardir:
                raise UserError(
                    "A document lies outside the folder of the data that names it, so it can't go along.",
                    where=each,
                    fix=f"Move it below {file.path.parent}, or run this where the data lies: leave --on azure out.",
                )
            require_within(root or file.folder, each)
            lying[place] = each
    return Source(key, lying, str(Path(LAID_OUT, key, _told(path))))


def _told(path: Path) -> Path:
    """How data are named below the folder they are laid out in: a file or a folder by its name, which outputs tell, a
    pattern by itself, so that of the documents beside them none is taken for data."""
    if path.exists():
        return Path(path.name)
    return Path(*path.parts[next(n for n, part in enumerate(path.parts) if glob.has_magic(part)) :])

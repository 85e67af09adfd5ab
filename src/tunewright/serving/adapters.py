"""A folder of many models. Models can be added, replaced, rolled back and removed while a server reads the folder.

    FOLDER/base/             a bundle without adapter that writes any text; its weights come from the first adapter
    FOLDER/NAME/3/           a bundle, never changed once it is there; an adapter's lacks the base's weights
    FOLDER/NAME/current      the number of the served version
    FOLDER/NAME/rolled-back  the numbers of the versions that a rollback left

Encoders and linear models need no base. A folder that has only these has none.

A server reads `current` at each request. A new version therefore answers from the next request on, and requests under
way end with the version they began with.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from tunewright.auth.keys import NAME
from tunewright.config.sections import GenerateSpec
from tunewright.core.artifacts import sha256_file
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.inference.bundle import BundleInfo, load_bundle, read_info, version_of, write_info
from tunewright.inference.calibration import CALIBRATION, UNCALIBRATED, save_calibration
from tunewright.inference.checksums import BUNDLE_FILE, FileSum, seal
from tunewright.inference.runtimes.base import FOLDERS, is_classifier
from tunewright.inference.runtimes.openvino.shape import CONFIG
from tunewright.models.architectures import longest_sequence
from tunewright.models.files import read_object

BASE = "base"
_CURRENT = "current"
_ROLLED_BACK = "rolled-back"
_GONE = ".gone"
_WEIGHTS = FOLDERS["openvino-lora"]
_CONTEXT = 4096
"""Tokens that a request to a folder of adapters may have, if the base has as many positions."""
_LONGEST = 1024
"""Tokens that the base writes at most."""


@dataclass(frozen=True)
class AdapterVersion:
    name: str
    number: int
    folder: Path
    made: tuple[int, int]
    """What tells it from a version of that number of a model that was removed."""

    @classmethod
    def at(cls, name: str, number: int, folder: Path) -> AdapterVersion:
        """The version in a folder.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        found = folder.stat()
        return cls(name, number, folder, (found.st_mtime_ns, found.st_ino))


class AdapterStore:
    """A folder of adapters.

    Raises:
        UserError: the folder is none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.base = _base_in(folder)
        """The base that its adapters share; None: it has no adapters."""
        if not self.base and not self.names():
            raise UserError(
                "This is no folder of adapters.",
                where=folder,
                fix=f"Begin one: tunewright adapters add {quote(str(folder))} BUNDLE",
            )

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether a folder holds adapters, and is not a bundle."""
        return (folder / BASE).is_dir() or bool(_names_in(folder))

    def names(self) -> list[str]:
        return _names_in(self.folder)

    def current(self, name: str) -> AdapterVersion | None:
        """The served version of a model; None: there is no such model."""
        # Names come from requests: one that is not well-formed must not become a path.
        if not re.fullmatch(NAME, name):
            return None
        try:
            number = int((self.folder / name / _CURRENT).read_text("utf-8"))
            return AdapterVersion.at(name, number, self.folder / name / str(number))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def infos(self) -> dict[str, BundleInfo]:
        """`bundle.json` of each served version, by name."""
        return {name: read_info(version.folder) for name in self.names() if (version := self.current(name))}

    def versions(self, name: str) -> list[int]:
        return _numbers_in(self.folder / name)

    def roll_back(self, name: str) -> AdapterVersion:
        """Serve the version that was served before the current one, without those that were rolled back themselves.

        Raises:
            UserError: there is no such model, or no earlier version, or another process changes the folder.
        """
        with sole_writer(self.folder):
            version, home = self._served(name), self.folder / name
            left = {*_rolled_back(home), version.number}
            earlier = [number for number in self.versions(name) if number < version.number and number not in left]
            if not earlier:
                raise UserError(f"There is no version of '{name}' before {version.number}.", where=self.folder)
            _write(home / _ROLLED_BACK, "".join(f"{number}\n" for number in sorted(left)))
            _write(home / _CURRENT, str(earlier[-1]))
            return self._served(name)

    def remove(self, name: str) -> None:
        """Stop serving a model, and remove its files.

        Raises:
            UserError: there is no such model.
        """
        with sole_writer(self.folder):
            _clear_removed(self.folder)
            self._served(name)
            # The rename ends the serving at once. If a kill leaves files, the next change removes them.
            (self.folder / name).rename(self.folder / f".{name}{_GONE}")
            _clear_removed(self.folder)

    def _served(self, name: str) -> AdapterVersion:
        version = self.current(name)
        if not version:
            raise UserError(
                f"There is no adapter '{name}'.",
                where=self.folder,
                fix=f"See: tunewright adapters ls {quote(str(self.folder))}",
            )
        return version


def add_adapter(folder: Path, bundle: Path, name: str | None = None) -> AdapterVersion:
    """Add a bundle to a folder and serve it from now on. The first bundle creates the folder.

    The folder takes only the adapter of a language model, because all adapters share one base. It takes an encoder or a
    linear model as a whole.

    Args:
        name: the bundle's by default.

    Raises:
        UserError: the folder `bundle` is no bundle or fails verification, its adapter is merged or absent, its base is
            not the folder's, or the name is taken or not well-formed.
    """
    loaded = load_bundle(bundle)
    loaded.verify()
    info, known = loaded.info, loaded.checksums.files if loaded.checksums else {}
    name = info.name if name is None else name
    if not re.fullmatch(NAME, name) or name == BASE:
        raise UserError(
            f"An adapter can't be called '{name}'.",
            fix=f"A name has up to 60 letters, digits, '_', '.' and '-', and is not '{BASE}'.",
        )
    alone = is_classifier(info.runtime)
    bundle_base = None if alone else _base_of(bundle, info)
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        _clear_removed(folder)
        folder_base = _base_in(folder)
        if bundle_base and folder_base:
            _require_same(bundle_base, bundle, folder_base, folder)
        base = folder_base or bundle_base
        if base and base.name in (name, *_names_in(folder)):
            raise UserError(
                f"'{base.name}' is the base's name, and no other model can have it.",
                where=folder,
                fix="Give the other model another name: --name NAME",
            )
        if bundle_base and not folder_base:
            _write_base(folder / BASE, bundle, bundle_base, known)
        home = folder / name
        home.mkdir(exist_ok=True)
        number = max(_numbers_in(home), default=0) + 1
        fresh = home / f".{number}"
        shutil.rmtree(fresh, ignore_errors=True)
        shared = () if alone else (_WEIGHTS, "tokenizer.json")
        try:
            shutil.copytree(bundle, fresh, ignore=shutil.ignore_patterns(*shared))
            seal(fresh, known)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)  # on a full disk it would take the space
            raise
        fresh.rename(home / str(number))
        _write(home / _CURRENT, str(number))
    return AdapterVersion.at(name, number, home / str(number))


def _clear_removed(folder: Path) -> None:
    """Delete the files that are left of removed models."""
    for left in folder.glob(f".*{_GONE}"):
        shutil.rmtree(left)


def _names_in(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"[!.]*/{_CURRENT}"))


def _numbers_in(home: Path) -> list[int]:
    return sorted(int(path.name) for path in home.iterdir() if path.name.isdecimal())


def _base_in(folder: Path) -> BundleInfo | None:
    return read_info(folder / BASE) if (folder / BASE).is_dir() else None


def _write_base(base: Path, bundle: Path, info: BundleInfo, known: Mapping[str, FileSum]) -> None:
    """Make a folder's base of the bundle's files, whole or not at all."""
    fresh = base.with_name(f".{base.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        shutil.copytree(bundle / _WEIGHTS, fresh / _WEIGHTS)
        for file in ("tokenizer.json", "chat_template.jinja"):
            shutil.copy(bundle / file, fresh / file)
        save_calibration(UNCALIBRATED, fresh)
        write_info(fresh, info)
        seal(fresh, {name: each for name, each in known.items() if name not in (BUNDLE_FILE, CALIBRATION)})
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    fresh.rename(base)


def _base_of(bundle: Path, info: BundleInfo) -> BundleInfo:
    """A bundle's base as a model that writes any text.

    Raises:
        UserError: the bundle can't share its base.
    """
    if info.runtime != "openvino-lora":
        raise UserError(
            f"A bundle for {info.runtime} can't share its base with others.",
            where=bundle,
            fix="Export it with: export.runtime=openvino-lora",
        )
    if info.second_below is not None:
        raise UserError(
            "A cascade that begins with a language model can't share its base with others.",
            where=bundle,
            fix=f"Serve it by itself: tunewright serve {quote(str(bundle))}",
        )
    context = min(_CONTEXT, longest_sequence(read_object(bundle / _WEIGHTS / CONFIG)))
    longest = min(_LONGEST, context // 2)
    return BundleInfo(
        name=info.base_model,
        base_model=info.base_model,
        runtime="openvino",
        precision=info.precision,
        task=GenerateSpec(kind="generate", instruction="Answer.", max_tokens=longest),
        longest_answer=longest,
        answer_lead="",
        version=version_of(bundle / _WEIGHTS),
        context=context,
        template_sha256=info.template_sha256,
    )


def _require_same(base: BundleInfo, bundle: Path, known: BundleInfo, folder: Path) -> None:
    """Refuse a bundle that has another base than a folder.

    Args:
        base: the bundle's.
        known: the folder's.

    Raises:
        UserError: they differ.
    """
    own, others = _identity(base, bundle), _identity(known, folder / BASE)
    if differing := [name for name in own if own[name] != others[name]]:
        raise UserError(
            f"The bundle's base is {base.name} in {base.precision}, the folder's {known.name} in {known.precision}; "
            f"they differ in {' and '.join(differing)}.",
            where=folder,
            why="The models of a folder share one base, with its tokenizer and its chat template.",
            fix="Add it to another folder.",
        )


def _identity(base: BundleInfo, folder: Path) -> dict[str, str | None]:
    """What the bases of two bundles must have in common.

    Args:
        folder: it has the base's tokenizer.
    """
    return {
        "the model": base.name,
        "the precision": base.precision,
        "the weights": base.version,
        "the tokenizer": sha256_file(folder / "tokenizer.json"),
        "the chat template": base.template_sha256,
    }


def _rolled_back(home: Path) -> list[int]:
    file = home / _ROLLED_BACK
    return list(map(int, file.read_text("utf-8").split())) if file.exists() else []


def _write(file: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    fresh = file.with_name(f".{file.name}")
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)

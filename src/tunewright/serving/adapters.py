"""A folder of many models: added, replaced, rolled back and taken away while a server reads it.

    FOLDER/base/           a bundle without adapter that writes any text; its weights are the first added adapter's
    FOLDER/NAME/3/         a bundle, never changed once it is there: of an adapter without the base's weights
    FOLDER/NAME/current    the number of the one that is served

Encoders and linear models stand for themselves. A folder that has only these has no base.

A server looks at `current` at each request, so what is added counts from the next one on, and what is under way ends
with what it began with.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunewright.auth.keys import NAME
from tunewright.config.sections import GenerateSpec
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.inference.bundle import BundleInfo, load_bundle, read_info, version_of, write_info
from tunewright.inference.calibration import CALIBRATION, UNCALIBRATED, save_calibration
from tunewright.inference.checksums import BUNDLE_FILE, FileSum, seal
from tunewright.inference.runtimes.base import FOLDERS, is_classifier

BASE = "base"
_CURRENT = "current"
_GONE = ".gone"
_WEIGHTS = FOLDERS["openvino-lora"]
_CONTEXT = 4096
"""Tokens of the longest request to a folder of adapters."""
_LONGEST = 1024
"""Tokens that the base writes at most."""


@dataclass(frozen=True)
class AdapterVersion:
    name: str
    number: int
    folder: Path


class AdapterStore:
    """Such a folder.

    Raises:
        UserError: it is none.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.base = _base_in(folder)
        """What its adapters share; None where it has none."""
        if not self.base and not self.names():
            raise UserError(
                "This is no folder of adapters.",
                where=folder,
                fix=f"Begin one: tunewright adapters add {folder} BUNDLE",
            )

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Whether a folder is one, and not a bundle."""
        return (folder / BASE).is_dir() or bool(_names_in(folder))

    def names(self) -> list[str]:
        return _names_in(self.folder)

    def current(self, name: str) -> AdapterVersion | None:
        """What is served under a name; None where there is none."""
        # Names come from requests: what is no name is no path either.
        if not re.fullmatch(NAME, name):
            return None
        try:
            number = int((self.folder / name / _CURRENT).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return AdapterVersion(name, number, self.folder / name / str(number))

    def infos(self) -> dict[str, BundleInfo]:
        """`bundle.json` of what is served, by name."""
        return {name: read_info(now.folder) for name in self.names() if (now := self.current(name))}

    def versions(self, name: str) -> list[int]:
        return _numbers_in(self.folder / name)

    def roll_back(self, name: str) -> AdapterVersion:
        """Serve the version before the one that is served.

        Raises:
            UserError: there is none.
        """
        now = self._served(name)
        earlier = [number for number in self.versions(name) if number < now.number]
        if not earlier:
            raise UserError(f"There is no version of '{name}' before {now.number}.", where=self.folder)
        _write_current(self.folder / name, earlier[-1])
        return self._served(name)

    def remove(self, name: str) -> None:
        """Serve it no more, and remove its files.

        Raises:
            UserError: there is none.
        """
        with sole_writer(self.folder):
            _clear_away(self.folder)
            self._served(name)
            # It is gone at once, and then its files: what a kill leaves of them goes with the next change.
            (self.folder / name).rename(self.folder / f".{name}{_GONE}")
            _clear_away(self.folder)

    def _served(self, name: str) -> AdapterVersion:
        found = self.current(name)
        if not found:
            raise UserError(
                f"There is no adapter '{name}'.", where=self.folder, fix=f"See: tunewright adapters ls {self.folder}"
            )
        return found


def add_adapter(folder: Path, bundle: Path, name: str | None = None) -> AdapterVersion:
    """Add a bundle to a folder, which the first one begins, and serve it from now on: of a language model its adapter,
    beside the base that all share; an encoder or a linear model as a whole.

    Args:
        name: by default the bundle's.

    Raises:
        UserError: the bundle is none or is not what it was made as, has its adapter merged or has none, or another base
            than the folder's; or the name can't be had.
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
    needed = None if alone else _base_of(bundle, info)
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        _clear_away(folder)
        there = _base_in(folder)
        if needed and there and _identity(there) != _identity(needed):
            raise UserError(
                f"The bundle's base is {needed.name} in {needed.precision}, the folder's {there.name} in "
                f"{there.precision}; weights and chat template must be the same.",
                where=folder,
                fix="Give it a folder of its own.",
            )
        base = there or needed
        if base and base.name in (name, *_names_in(folder)):
            raise UserError(
                f"'{base.name}' is the name by which the base is asked, and can't be another model's too.",
                where=folder,
                fix="Give the other one a name of its own: --name NAME",
            )
        if needed and not there:
            _begin(folder / BASE, bundle, needed, known)
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
            shutil.rmtree(fresh, ignore_errors=True)  # on a disk that is full it would take the room
            raise
        fresh.rename(home / str(number))
        _write_current(home, number)
    return AdapterVersion(name, number, home / str(number))


def _clear_away(folder: Path) -> None:
    """Remove the files of models that were removed."""
    for left in folder.glob(f".*{_GONE}"):
        shutil.rmtree(left)


def _names_in(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"[!.]*/{_CURRENT}"))


def _numbers_in(home: Path) -> list[int]:
    return sorted(int(path.name) for path in home.iterdir() if path.name.isdecimal())


def _base_in(folder: Path) -> BundleInfo | None:
    return read_info(folder / BASE) if (folder / BASE).is_dir() else None


def _begin(base: Path, bundle: Path, info: BundleInfo, known: Mapping[str, FileSum]) -> None:
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
    """A bundle's base, as a model that writes any text.

    Raises:
        UserError: the bundle can't share it with others.
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
            fix=f"Serve it by itself: tunewright serve {bundle}",
        )
    return BundleInfo(
        name=info.base_model,
        base_model=info.base_model,
        runtime="openvino",
        precision=info.precision,
        task=GenerateSpec(kind="generate", instruction="Answer.", max_tokens=_LONGEST),
        longest_answer=_LONGEST,
        answer_lead="",
        version=version_of(bundle / _WEIGHTS),
        context=_CONTEXT,
        template_sha256=info.template_sha256,
    )


def _identity(base: BundleInfo) -> tuple[str, str, str, str | None]:
    """What two bundles' bases must have in common."""
    return base.name, base.precision, base.version, base.template_sha256


def _write_current(home: Path, number: int) -> None:
    fresh = home / f".{_CURRENT}"
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(str(number))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(home / _CURRENT)

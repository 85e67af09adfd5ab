"""A folder of adapters beside one base: added, replaced, rolled back and taken away while a server reads it.

    FOLDER/base/           a bundle without adapter that writes any text; its weights are the first added bundle's
    FOLDER/NAME/3/         a bundle without weights, never changed once it is there
    FOLDER/NAME/current    the number of the one that is served

A server looks at `current` at each request, so what is added counts from the next one on, and what is under way ends
with what it began with.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from tunewright.errors import UserError
from tunewright.evaluate.calibration import UNCALIBRATED, save_calibration
from tunewright.export.bundle import BundleInfo, load_bundle, read_info, version_of, write_info
from tunewright.models.runtime import FOLDERS, is_classifier
from tunewright.processes import sole_writer
from tunewright.serve.keys import NAME
from tunewright.spec.sections import GenerateSpec

BASE = "base"
_CURRENT = "current"
_WEIGHTS = FOLDERS["openvino-lora"]
_CONTEXT = 4096
"""Tokens of the longest request to a folder of adapters."""
_LONGEST = 1024
"""Tokens that the base writes at most."""


@dataclass(frozen=True)
class Version:
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
        try:
            self.base = read_info(folder / BASE)
        except FileNotFoundError:
            raise UserError("This is no folder of adapters.", where=folder,
                            fix=f"Begin one: tunewright adapters add {folder} BUNDLE") from None  # fmt: skip

    def names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob(f"*/{_CURRENT}"))

    def current(self, name: str) -> Version | None:
        """What is served under a name; None where there is none."""
        # Names come from requests: what is no name is no path either.
        if not re.fullmatch(NAME, name):
            return None
        try:
            number = int((self.folder / name / _CURRENT).read_text("utf-8"))
        except FileNotFoundError:
            return None
        return Version(name, number, self.folder / name / str(number))

    def versions(self, name: str) -> list[int]:
        return sorted(int(path.name) for path in (self.folder / name).iterdir() if path.name.isdecimal())

    def roll_back(self, name: str) -> Version:
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
        self._served(name)
        (self.folder / name / _CURRENT).unlink()
        shutil.rmtree(self.folder / name)

    def _served(self, name: str) -> Version:
        found = self.current(name)
        if not found:
            raise UserError(f"There is no adapter '{name}'.", where=self.folder,
                            fix=f"See: tunewright adapters ls {self.folder}")  # fmt: skip
        return found


def add_adapter(folder: Path, bundle: Path, name: str | None = None) -> Version:
    """Add a bundle's adapter to a folder, which the first one begins, and serve it from now on.

    Args:
        name: by default the bundle's.

    Raises:
        UserError: the bundle is none, has its adapter merged or has none, or another base than the folder's.
    """
    info = load_bundle(bundle).info
    name = info.name if name is None else name
    if is_classifier(info.runtime):
        raise UserError(f"{info.base_model} is no language model: its bundle has no adapter.", where=bundle,
                        why="All its weights were trained, so that it shares none with others.",
                        fix=f"Serve it by itself: tunewright serve {bundle}")  # fmt: skip
    if info.runtime != "openvino-lora":
        raise UserError(f"A bundle for {info.runtime} can't share its base with others.", where=bundle,
                        fix="Export it with: export.runtime=openvino-lora")  # fmt: skip
    if not re.fullmatch(NAME, name) or name in (BASE, info.base_model):
        raise UserError(f"An adapter can't be called '{name}'.",
                        fix=f"A name has up to 60 letters, digits, '_', '.' and '-', and is neither '{BASE}' nor the "
                        "base model's.")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        found = _base_of(bundle, info)
        if not (folder / BASE).exists():
            _begin(folder / BASE, bundle, found)
        elif _identity(known := AdapterStore(folder).base) != _identity(found):
            raise UserError(
                f"The bundle's base is {found.name} in {found.precision}, the folder's {known.name} in "
                f"{known.precision}; weights and chat template must be the same.", where=folder,
                fix="Give it a folder of its own.",
            )  # fmt: skip
        home = folder / name
        home.mkdir(exist_ok=True)
        number = max(AdapterStore(folder).versions(name), default=0) + 1
        fresh = home / f".{number}"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(bundle, fresh, ignore=shutil.ignore_patterns(_WEIGHTS, "tokenizer.json"))
        fresh.rename(home / str(number))
        _write_current(home, number)
    return Version(name, number, home / str(number))


def _begin(base: Path, bundle: Path, info: BundleInfo) -> None:
    fresh = base.with_name(f".{base.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(bundle / _WEIGHTS, fresh / _WEIGHTS)
    for file in ("tokenizer.json", "chat_template.jinja"):
        shutil.copy(bundle / file, fresh / file)
    save_calibration(UNCALIBRATED, fresh)
    write_info(fresh, info)
    fresh.rename(base)


def _base_of(bundle: Path, info: BundleInfo) -> BundleInfo:
    """A bundle's base, as a model that writes any text."""
    return BundleInfo(
        name=info.base_model, base_model=info.base_model, runtime="openvino", precision=info.precision,
        task=GenerateSpec(kind="generate", instruction="Answer.", max_tokens=_LONGEST), longest_answer=_LONGEST,
        answer_lead="", version=version_of(bundle / _WEIGHTS), context=_CONTEXT, template_sha256=info.template_sha256,
    )  # fmt: skip


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

"""A folder of adapters beside one base: added, replaced, rolled back and taken away while a server reads it.

    FOLDER/base/           weights, tokenizer, chat template and base.json, of the first bundle that was added
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

from pydantic import BaseModel

from tunewright.artifacts import sha256_tree, write_json
from tunewright.errors import UserError
from tunewright.export.bundle import load_bundle
from tunewright.models.runtime import FOLDERS
from tunewright.processes import sole_writer
from tunewright.serve.keys import NAME

BASE = "base"
_BASE_FILE = "base.json"
_CURRENT = "current"
_WEIGHTS = FOLDERS["openvino-lora"]


class BaseInfo(BaseModel):
    """`base.json`."""

    name: str
    precision: str
    weights_sha256: str
    template_sha256: str


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
            self.base = BaseInfo.model_validate_json((folder / BASE / _BASE_FILE).read_text("utf-8"))
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
        UserError: the bundle is none, has its adapter merged, or another base than the folder's.
    """
    info = load_bundle(bundle).info
    name = name or info.name
    if info.runtime != "openvino-lora":
        raise UserError(f"A bundle for {info.runtime} can't share its base with others.", where=bundle,
                        fix="Export it with: export.runtime=openvino-lora")  # fmt: skip
    if not re.fullmatch(NAME, name) or name == BASE:
        raise UserError(f"An adapter can't be called '{name}'.",
                        fix="A name has up to 60 letters, digits, '_', '.' and '-', and is not 'base'.")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder):
        found = BaseInfo(
            name=info.base_model,
            precision=info.precision,
            weights_sha256=sha256_tree(bundle / _WEIGHTS)[0],
            template_sha256=info.template_sha256,
        )
        if not (folder / BASE).exists():
            _begin(folder / BASE, bundle, found)
        elif (known := AdapterStore(folder).base) != found:
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


def _begin(base: Path, bundle: Path, info: BaseInfo) -> None:
    fresh = base.with_name(f".{base.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(bundle / _WEIGHTS, fresh / _WEIGHTS)
    for file in ("tokenizer.json", "chat_template.jinja"):
        shutil.copy(bundle / file, fresh / file)
    write_json(fresh / _BASE_FILE, info.model_dump())
    fresh.rename(base)


def _write_current(home: Path, number: int) -> None:
    fresh = home / f".{_CURRENT}"
    with fresh.open("w", encoding="utf-8") as stream:
        stream.write(str(number))
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(home / _CURRENT)

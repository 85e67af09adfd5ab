"""A project: its runs, its latest bundle, and the bundle that serves. `runs/serving.json` names that one, and servers
watch the file."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.config import RUNS, SPEC_FILE
from tunewright.core.artifacts import LATEST, read_manifest
from tunewright.core.errors import UserError

if TYPE_CHECKING:
    from tunewright.config import Spec

SERVING = "serving.json"
STORE = "monitor.db"
_REMEMBERED = 10
"""Former champions that `serving.json` keeps."""


@dataclass(frozen=True)
class Traffic:
    """The bundles that answer a server's requests."""

    champion: Path
    """A bundle's folder, or a folder of adapters."""
    challenger: Path | None = None
    """Another bundle on trial."""
    share: float = 0.0
    """The share of the requests that the challenger answers."""


class ServedBundle(BaseModel):
    """A bundle that serves, or served before."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    """Its folder, relative to the folder of all outputs."""
    version: str
    since: datetime


class OnTrial(ServedBundle):
    share: Annotated[float, Field(gt=0, lt=1)]
    """The share of the requests that it answers."""


class Serving(BaseModel):
    """`runs/serving.json`."""

    model_config = ConfigDict(extra="forbid")

    champion: ServedBundle
    challenger: OnTrial | None = None
    former: list[ServedBundle] = []
    """Earlier champions, the latest first."""

    def trying(self, bundle: str, version: str, share: float) -> Serving:
        """The same champion, and a challenger that gets a share of the requests."""
        on_trial = OnTrial(bundle=bundle, version=version, since=_now(), share=share)
        return self.model_copy(update={"challenger": on_trial})

    def alone(self) -> Serving:
        """The same champion, and no challenger."""
        return self.model_copy(update={"challenger": None})

    def promoted(self, bundle: str, version: str) -> Serving:
        """A new champion, with the present one as the latest former one."""
        former = [self.champion, *self.former][:_REMEMBERED]
        return Serving(champion=ServedBundle(bundle=bundle, version=version, since=_now()), former=former)

    def rolled_back(self) -> Serving | None:
        """The former champion as champion; None: there is no former one. The present champion does not become a former
        one: a second rollback must lead to the one before both."""
        if not self.former:
            return None
        last, *earlier = self.former
        return Serving(champion=last.model_copy(update={"since": _now()}), former=earlier)


def served_from(bundle: str, version: str) -> Serving:
    """A first champion, without former ones."""
    return Serving(champion=ServedBundle(bundle=bundle, version=version, since=_now()))


def read_serving(runs: Path) -> Serving | None:
    """The `serving.json` of a folder of outputs; None: there is no such file.

    Raises:
        UserError: the file has another form.
    """
    file = runs / SERVING
    try:
        return Serving.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"This file does not say what serves: {'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}.",
            where=file,
            fix="Remove it to serve the latest bundle.",
        ) from None


def write_serving(runs: Path, serving: Serving) -> None:
    """Write `serving.json`, which the folder's servers follow. At any moment the file is the old or the new one."""
    fresh = runs / f".{SERVING}.{uuid.uuid4().hex[:8]}"
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            stream.write(serving.model_dump_json(indent=2) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(runs / SERVING)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


class NoBundle(UserError):
    """A project has made no bundle yet."""


class Project:
    """A project: the folder with its spec, and what its runs, its servers and its monitoring leave beside the spec.

    Args:
        folder: the folder of the spec.
        runs: the folder of all outputs; `runs` beside the spec by default.
        argument: what a command takes for the project, quoted; its folder by default.
    """

    def __init__(self, folder: Path, runs: Path | None = None, argument: str | None = None):
        self.folder, self.runs = folder, runs or folder / RUNS
        self._argument = argument or quote(str(folder))

    @classmethod
    def of(cls, spec: Spec, runs: Path | None = None) -> Project:
        """The project of a spec; `runs` as in the constructor."""
        return cls(spec.folder, runs, spec.project_arguments())

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a folder is a project."""
        return (path / SPEC_FILE).is_file()

    @property
    def store(self) -> Path:
        """The database of its monitoring, unless the spec names another one."""
        return self.folder / STORE

    def latest(self, step: str) -> Path:
        """The output that a step last made or reused."""
        return self.runs / LATEST / step

    def latest_bundle(self) -> Path:
        """The latest bundle: the one with threshold and parity proof, or the bare export if that is newer.

        Raises:
            UserError: the project has no bundle.
        """
        whole, verdict, exported = (read_manifest(self.latest(name)) for name in ("bundle", "verdict", "export"))
        if whole and (
            exported is None
            or (verdict and (whole.inputs["export"], whole.inputs["verdict"]) == (exported.content, verdict.content))
        ):
            return self.latest("bundle")
        if exported is None:
            raise NoBundle(
                "This project has no bundle yet.",
                where=self.folder,
                fix=f"Type: tunewright export {self._argument}",
            )
        return self.latest("export") / "bundle"

    def traffic(self) -> Traffic:
        """The bundles that `serving.json` names, or the latest bundle if there is no such file.

        Servers, drift and the store all use this.

        Raises:
            UserError: as `read_serving` and `latest_bundle`.
        """
        serving = read_serving(self.runs)
        if serving is None:
            return Traffic(self.latest_bundle())
        champion, trial = self.runs / serving.champion.bundle, serving.challenger
        return Traffic(champion, self.runs / trial.bundle, trial.share) if trial else Traffic(champion)

    def champion(self) -> Path:
        """The bundle that serves.

        Raises:
            UserError: as `traffic`.
        """
        return self.traffic().champion


def falls_to_challenger(text: str, version: str, share: float) -> bool:
    """Whether the challenger answers a request. The text decides, so that a repeated request gets the same answer. Each
    challenger gets other texts."""
    drawn = int.from_bytes(hashlib.sha256(f"{version}\n{text}".encode("utf-8", "surrogatepass")).digest()[:8])
    return drawn < share * 2**64


def _now() -> datetime:
    return datetime.now(UTC)

"""Which bundle of a project serves: one small file that says it, `runs/serving.json`, which servers watch."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.core.errors import UserError

SERVING = "serving.json"
_REMEMBERED = 10
"""Former champions that are kept in mind."""


@dataclass(frozen=True)
class Traffic:
    """What a server answers with."""

    champion: Path
    """A bundle's folder, or a folder of adapters."""
    challenger: Path | None = None
    """Another bundle on trial."""
    share: float = 0.0
    """Of the requests that the challenger answers."""


class ServedBundle(BaseModel):
    """A bundle that serves, or did."""

    model_config = ConfigDict(extra="forbid")

    bundle: str
    """Its folder, seen from that of all outputs."""
    version: str
    since: datetime


class OnTrial(ServedBundle):
    share: Annotated[float, Field(gt=0, lt=1)]
    """Of the requests."""


class Serving(BaseModel):
    """`runs/serving.json`."""

    model_config = ConfigDict(extra="forbid")

    champion: ServedBundle
    challenger: OnTrial | None = None
    former: list[ServedBundle] = []
    """Earlier champions, the last one first."""

    def trying(self, bundle: str, version: str, share: float) -> Serving:
        """The same champion, and a challenger that gets a share of the requests."""
        on_trial = OnTrial(bundle=bundle, version=version, since=_now(), share=share)
        return self.model_copy(update={"challenger": on_trial})

    def alone(self) -> Serving:
        """The champion, and no challenger."""
        return self.model_copy(update={"challenger": None})

    def promoted(self, bundle: str, version: str) -> Serving:
        """A new champion, and the present one remembered."""
        former = [self.champion, *self.former][:_REMEMBERED]
        return Serving(champion=ServedBundle(bundle=bundle, version=version, since=_now()), former=former)

    def rolled_back(self) -> Serving | None:
        """The champion before this one; None where none is remembered. The one that goes is not remembered: who rolls
        back twice wants the one before both."""
        if not self.former:
            return None
        last, *earlier = self.former
        return Serving(champion=last.model_copy(update={"since": _now()}), former=earlier)


def served_from(bundle: str, version: str) -> Serving:
    """A champion, and nothing before it."""
    return Serving(champion=ServedBundle(bundle=bundle, version=version, since=_now()))


def read_serving(runs: Path) -> Serving | None:
    """What a folder of outputs has serve; None where its file is not there.

    Raises:
        UserError: the file is none.
    """
    file = runs / SERVING
    try:
        return Serving.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"This does not say what serves: {'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}.",
            where=file,
            fix="Remove it to serve the latest bundle.",
        ) from None


def write_serving(runs: Path, serving: Serving) -> None:
    """Have a folder's servers change; the file is the old or the new one at any moment."""
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


def traffic_of(runs: Path) -> Traffic | None:
    """What servers of a folder of outputs are to answer with; None where its file is not there.

    Raises:
        UserError: as `read_serving`.
    """
    serving = read_serving(runs)
    if serving is None:
        return None
    champion, trial = runs / serving.champion.bundle, serving.challenger
    return Traffic(champion, runs / trial.bundle, trial.share) if trial else Traffic(champion)


def served_bundle(runs: Path) -> Path:
    """The bundle that serves: the champion, or that of the last run where none was ever named.

    Raises:
        UserError: as `read_serving`.
    """
    traffic = traffic_of(runs)
    return traffic.champion if traffic else runs / "latest" / "bundle"


def falls_to_challenger(text: str, version: str, share: float) -> bool:
    """Whether a request is the challenger's: the same text always is or never is, so that nobody who asks again is told
    two things. Each challenger gets other texts."""
    drawn = int.from_bytes(hashlib.sha256(f"{version}\n{text}".encode("utf-8", "surrogatepass")).digest()[:8])
    return drawn < share * 2**64


def _now() -> datetime:
    return datetime.now(UTC)

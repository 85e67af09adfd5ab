"""Deploying a bundle: a version beside the one that serves, on trial, then promoted or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tunewright.errors import GateFailed
from tunewright.places.azure.deploy.blueprint import Blueprint
from tunewright.places.azure.deploy.trial import Door, Question, Trial, trial
from tunewright.progress import say
from tunewright.spec import Spec


class Target(Protocol):
    """Somewhere a bundle can be served, with the version that is to be served there."""

    target: str
    name: str

    def blueprint(self) -> Blueprint:
        """What would be made; nothing is."""
        ...

    def create(self) -> None:
        """Make the new version beside what serves; it gets no traffic yet."""
        ...

    def door(self) -> Door:
        """How to ask the new version alone."""
        ...

    def shift(self, percent: int) -> None:
        """Give the new version a share of the traffic."""
        ...

    def finish(self) -> None:
        """The new version serves all; what served before goes."""
        ...

    def undo(self) -> None:
        """The new version goes; what served before serves all."""
        ...


@dataclass(frozen=True)
class Released:
    """The end of a deployment."""

    target: str
    name: str
    trial: Trial
    percent: int
    """The new version's share of the traffic."""


def release(spec: Spec, target: Target, questions: list[Question], canary: int | None) -> Released:
    """Make the new version, try it, and give it the traffic where it keeps the gates.

    Args:
        canary: the share that it gets for now; None for all of it.

    Raises:
        UserError: Azure refuses; what was begun is taken away.
        GateFailed: it does not keep a gate; it is taken away, and what served before still serves.
    """
    target.create()
    try:
        found = trial(spec, target.door(), questions)
    except BaseException:
        target.undo()
        raise
    say(f"  trial: {found.sentence}")
    failures = found.failures(spec)
    if failures:
        target.undo()
        raise GateFailed(f"{'; '.join(failures)}. The new version was taken away; what served before still serves.")
    if canary is None:
        target.finish()
    else:
        target.shift(canary)
    return Released(target.target, target.name, found, 100 if canary is None else canary)

"""Deploying a bundle: a version beside the one that serves, on trial, then promoted or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunewright.errors import GateFailed, UserError
from tunewright.places.azure import assets
from tunewright.places.azure.connection import Connection
from tunewright.places.azure.deploy.apps import App
from tunewright.places.azure.deploy.blueprint import Blueprint
from tunewright.places.azure.deploy.endpoint import Endpoint
from tunewright.places.azure.deploy.exam import failures
from tunewright.places.azure.deploy.kubernetes import Release
from tunewright.places.azure.deploy.outputs import Outputs
from tunewright.places.azure.deploy.room import pod_memory
from tunewright.places.azure.deploy.trial import Exam, Trial
from tunewright.places.azure.place import TAG
from tunewright.places.azure.registry import Registered, register
from tunewright.progress import say
from tunewright.spec import Spec


class Target(Protocol):
    """Somewhere a bundle can be served, with the version that is to be served there."""

    target: str
    name: str

    def blueprint(self) -> Blueprint:
        """What would be made; nothing is."""
        ...

    def is_serving(self) -> bool:
        """Whether this very version has traffic already."""
        ...

    def create(self) -> None:
        """Make the new version beside what serves; it gets no traffic yet."""
        ...

    def try_out(self, exam: Exam) -> Trial:
        """Ask the new version alone."""
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


TARGETS = ("aml", "aks", "aca")


def target_of(to: str, spec: Spec, at: Connection, outputs: Outputs, identity: Path | None, *, dry: bool) -> Target:
    """Where a project's bundle is to be served.

    Args:
        to: one of `TARGETS`.
        identity: who may ask a container app, as `tunewright serve --identity` takes it.
        dry: whether nothing is to be made: the model is then not registered.

    Raises:
        UserError: there is no such target, it can't serve this bundle, or Azure refuses.
    """
    replicas = max(outputs.replicas, spec.traffic.redundancy)
    if to == "aml":
        name, version = f"{TAG}-{spec.name}", outputs.content[: assets.DIGITS]
        model = Registered(name, version, "") if dry else register(spec, at, outputs.folders, outputs.verdict)
        return Endpoint(spec, at, outputs.info, model, replicas)
    if to == "aks":
        return Release(spec, at, outputs.info, outputs.bundle, replicas, pod_memory(outputs))
    if to != "aca":
        raise UserError(f"There is no target '{to}'.", where="--to", fix=f"Targets: {', '.join(TARGETS)}.")
    if identity is None or not identity.is_file():
        raise UserError(
            "A container app lies on the internet, and it is not said who may ask it.", where=identity,
            fix="Name a file with issuer, audience and grants (docs/serving.md): --identity identity.json",
        )  # fmt: skip
    service = outputs.service(spec)
    return App(spec, at, outputs.info, outputs.bundle, identity, service, replicas)


@dataclass(frozen=True)
class Released:
    """The end of a deployment."""

    target: str
    name: str
    trial: Trial
    percent: int
    """The new version's share of the traffic."""


def release(spec: Spec, target: Target, exam: Exam, canary: int | None, mirror: int | None = None) -> Released:
    """Make the new version, try it, and give it the traffic where it keeps the gates.

    Args:
        canary: the share that it gets for now; None for all of it.
        mirror: in place of traffic, the share of the requests of which it gets a copy; for an endpoint alone.

    Raises:
        UserError: Azure refuses; what was begun is taken away.
        GateFailed: it does not keep a gate; it is taken away, and what served before still serves. A version that
            serves already is only tried.
    """
    if mirror is not None and not isinstance(target, Endpoint):
        raise UserError("Only a managed endpoint can mirror its traffic.", fix="Use --to aml, or --canary.")
    if target.is_serving():
        return _again(spec, target, exam)
    target.create()
    try:
        found = target.try_out(exam)
    except BaseException:
        target.undo()
        raise
    say(f"  trial: {found.sentence}")
    if missed := failures(found, spec):
        target.undo()
        raise GateFailed(f"{'; '.join(missed)}. The new version was taken away; what served before still serves.")
    if mirror is not None and isinstance(target, Endpoint):
        target.mirror(mirror)
        return Released(target.target, target.name, found, 0)
    if canary is None:
        target.finish()
    else:
        target.shift(canary)
    return Released(target.target, target.name, found, 100 if canary is None else canary)


def _again(spec: Spec, target: Target, exam: Exam) -> Released:
    """Try the version that serves; whatever is found, it goes on serving."""
    say(f"  azure: this version serves already as {target.name}; it is tried as it is")
    found = target.try_out(exam)
    say(f"  trial: {found.sentence}")
    if missed := failures(found, spec):
        raise GateFailed(f"{'; '.join(missed)}. It serves all the same.")
    return Released(target.target, target.name, found, 100)

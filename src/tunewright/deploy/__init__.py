"""Deploying a bundle: a version beside the one that serves, on trial, then promoted or taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.bases import on_reachable_bases, require_reachable
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.registry import Registered, register
from tunewright.config import Spec
from tunewright.core.errors import GateFailed, UserError
from tunewright.core.progress import say
from tunewright.deploy.apps import App, LiveApp
from tunewright.deploy.blueprint import Blueprint
from tunewright.deploy.endpoint import LiveEndpoint, ManagedEndpoint
from tunewright.deploy.exam import failures
from tunewright.deploy.images import engine_of
from tunewright.deploy.kubernetes import LiveRelease, Release
from tunewright.deploy.live import Live, State, command, not_taken_back, said, standing_now
from tunewright.deploy.outputs import Outputs
from tunewright.deploy.room import instances_of, pod_memory
from tunewright.deploy.trial import DeploymentTrial, Exam


class DeployTarget(Protocol):
    """Somewhere a bundle can be served, with the version that is to be served there."""

    target: str
    name: str
    fresh: str
    """What this version is called there."""

    @property
    def live(self) -> Live:
        """What stands there by now, of whatever version."""
        ...

    @property
    def cost(self) -> str:
        """What this version costs, in words."""
        ...

    def blueprint(self) -> Blueprint:
        """What would be made; nothing is."""
        ...

    def create(self) -> None:
        """Make the new version beside what serves, marked as on trial; it gets no traffic yet."""
        ...

    def try_out(self, exam: Exam) -> DeploymentTrial:
        """Ask the new version alone."""
        ...

    def shift(self, percent: int) -> int:
        """Make the new version a canary, with a share of the traffic. Returns the share that it has, in percent, which
        is the nearest there can be."""
        ...

    def finish(self) -> None:
        """The new version serves all; what served before goes."""
        ...

    def undo(self) -> None:
        """What this process made goes, and nothing else; what served before serves all."""
        ...


LIVE: dict[str, Callable[[Spec, Connection], Live]] = {"aml": LiveEndpoint, "aks": LiveRelease, "aca": LiveApp}
"""What stands of a project, by target."""
TARGETS = tuple(LIVE)


def live_of(to: str, spec: Spec, at: Connection) -> Live:
    """What stands of a project; nothing of its outputs is needed for it.

    Raises:
        UserError: there is no such target, or its cluster is not known.
    """
    if to not in LIVE:
        raise UserError(f"There is no target '{to}'.", where="--to", fix=f"Targets: {', '.join(LIVE)}.")
    return LIVE[to](spec, at)


def target_of(
    to: str, spec: Spec, at: Connection, outputs: Outputs, identity: Path | None, *, dry: bool
) -> DeployTarget:
    """Where a project's bundle is to be served.

    Args:
        to: one of `TARGETS`.
        identity: who may ask a container app, as `tunewright serve --identity` takes it.
        dry: whether nothing is to be made: the model is then not registered.

    Raises:
        UserError: there is no such target, it can't serve this bundle, or Azure refuses.
    """
    spec = on_reachable_bases(spec, at)
    replicas, engine = instances_of(spec, outputs), engine_of(outputs.bundle)
    if to != "aca":  # which takes no vLLM, and says so itself
        require_reachable(spec, at, engine)
    if to == "aml":
        model = (
            Registered(f"{TAG}-{spec.name}", "…", "", outputs.content)
            if dry
            else register(spec, at, outputs.folders, outputs.verdict)
        )
        return ManagedEndpoint(spec, at, engine, model, replicas)
    if to == "aks":
        return Release(spec, at, engine, outputs.bundle, replicas, pod_memory(outputs))
    if to != "aca":
        raise UserError(f"There is no target '{to}'.", where="--to", fix=f"Targets: {', '.join(TARGETS)}.")
    if identity is None or not identity.is_file():
        raise UserError(
            "A container app lies on the internet, and it is not said who may ask it.",
            where=identity,
            fix="Name a file with issuer, audience and grants (docs/serving.md): --identity identity.json",
        )
    service = outputs.service(spec)
    return App(spec, at, engine, outputs.bundle, identity, service, replicas)


def is_standing(target: DeployTarget, state: State) -> bool:
    """Whether a version serves already or is the canary, so that deploying it makes nothing."""
    return bool(state.shares.get(target.fresh)) or (state.fresh == target.fresh and state.is_canary)


@dataclass(frozen=True)
class Released:
    """The end of a deployment."""

    target: str
    name: str
    trial: DeploymentTrial
    percent: int
    """The new version's share of the traffic."""


def release(spec: Spec, target: DeployTarget, exam: Exam, canary: int | None, mirror: int | None = None) -> Released:
    """Make the new version, try it, and give it the traffic where it keeps the gates.

    Args:
        canary: the share that it gets for now; None for all of it. The first version has nothing to share with, and
            gets all.
        mirror: in place of traffic, the share of the requests of which it gets a copy; for an endpoint alone.

    Raises:
        UserError: Azure refuses, or another canary has not ended; what was begun is taken away. Where it can't be, the
            error has both failures, what still stands and its cost.
        GateFailed: it does not keep a gate; it is taken away, and what served before still serves. A version that
            serves already is only tried.
    """
    if mirror is not None and not isinstance(target, ManagedEndpoint):
        raise UserError("Only a managed endpoint can mirror its traffic.", fix="Use --to aml, or --canary.")
    state = target.live.state() or State({})
    if is_standing(target, state):
        return _again(spec, target, exam, state)
    beside = any(share for version, share in state.shares.items() if version != target.fresh)
    if mirror is not None and not beside:
        raise UserError("Nothing serves there yet, so there is no traffic to mirror.", fix="Leave out --mirror.")
    _clear(spec, target, state)
    is_let_in, percent = False, 100
    try:
        target.create()
        found = target.try_out(exam)
        say(f"  trial: {found.sentence}")
        if missed := failures(found, spec):
            raise GateFailed(f"{'; '.join(missed)}.")
        is_let_in = True
        if mirror is not None and isinstance(target, ManagedEndpoint):
            target.mirror(mirror)
            return Released(target.target, target.name, found, 0)
        if canary is None or not beside:
            target.finish()
        else:
            percent = target.shift(canary)
    except BaseException as error:
        if is_let_in and _may_serve(target):
            raise _not_ended(spec, target, error) from error
        _take_back(spec, target, error)
        if isinstance(error, GateFailed):
            raise GateFailed(f"{error} The new version was taken away; what served before still serves.") from None
        if isinstance(error, UserError):
            what = f"{error.what} Nothing of the new version was left standing."
            raise type(error)(what, where=error.where, why=error.why, fix=error.fix) from error
        raise
    if canary is not None and not beside:
        say("  azure: nothing served there before, so this version serves all; it is no canary")
    return Released(target.target, target.name, found, percent)


def _again(spec: Spec, target: DeployTarget, exam: Exam, state: State) -> Released:
    """Try the version that serves; whatever is found, it goes on serving."""
    say(f"  azure: this version serves already as {target.name}; it is tried as it is")
    found = target.try_out(exam)
    say(f"  trial: {found.sentence}")
    if missed := failures(found, spec):
        raise GateFailed(f"{'; '.join(missed)}. It serves all the same.")
    share = state.shares[target.fresh]
    if state.fresh == target.fresh and share == 100:
        target.finish()  # what was broken off: the others still stand, or the tag
    elif state.fresh == target.fresh:
        say(f"  azure: it is the canary. End that: {command(spec, target.live)} --promote  (or --rollback)")
    return Released(target.target, target.name, found, share)


def _clear(spec: Spec, target: DeployTarget, state: State) -> None:
    """Take away what a deployment left that was broken off.

    Raises:
        UserError: it is a canary, which somebody has to end first, or Azure refuses.
    """
    if state.fresh is None or state.fresh == target.fresh:
        return
    if state.is_canary or state.is_asked:
        typed = command(spec, target.live)
        raise UserError(
            f"Another version is tried at the {target.live.kind} {target.name}: {state.told(state.fresh)}.",
            why="Two can't be tried at once.",
            fix=f"End that first: {typed} --promote  (or --rollback)",
        )
    say(f"  azure: {state.fresh} is left of a deployment that was broken off")
    target.live.withdraw()


def _take_back(spec: Spec, target: DeployTarget, first: BaseException) -> None:
    """Take the new version away after a failure.

    Raises:
        UserError: that failed as well.
    """
    say("  azure: the new version is taken away")
    try:
        target.undo()
    except BaseException as second:  # noqa: BLE001 (an interruption too must end in what still stands)
        raise not_taken_back(spec, target.live, target.fresh, target.cost, first, second) from first


def _may_serve(target: DeployTarget) -> bool:
    """Whether the new version has traffic by now; where Azure does not say, it may."""
    try:
        state = target.live.state()
    except UserError:
        return True
    return bool(state and state.shares.get(target.fresh))


def _not_ended(spec: Spec, target: DeployTarget, error: BaseException) -> UserError:
    """A failure after the new version was let in: it stays, and the error says what stands."""
    typed = command(spec, target.live)
    stands = standing_now(target.live) or f"Azure does not say what stands; {target.fresh} costs {target.cost}."
    return UserError(
        f"The new version keeps the gates, but the deployment did not come to its end: {said(error)}",
        why=stands,
        fix=f"Type the same command again, it goes on from there; or back: {typed} --rollback",
    )

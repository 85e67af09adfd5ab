"""Deploying a bundle: a new version beside the one that serves, on trial, then promoted or removed."""

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
from tunewright.deploy.apps import App
from tunewright.deploy.blueprint import Blueprint
from tunewright.deploy.capacity import instances_of, pod_memory
from tunewright.deploy.endpoint import ManagedEndpoint
from tunewright.deploy.exam import failures
from tunewright.deploy.images import engine_of
from tunewright.deploy.kubernetes import LiveRelease, Release
from tunewright.deploy.live import Live, State, command, error_sentence, not_taken_back, standing_now
from tunewright.deploy.live_app import LiveApp
from tunewright.deploy.live_endpoint import LiveEndpoint
from tunewright.deploy.outputs import Outputs
from tunewright.deploy.trial import DeploymentTrial, Exam


class DeployTarget(Protocol):
    """A place in Azure that can serve a bundle, with the version to serve there."""

    target: str
    name: str
    fresh: str
    """The name of this version there."""

    @property
    def live(self) -> Live:
        """The versions that exist there, whatever made them."""
        ...

    @property
    def cost(self) -> str:
        """What this version costs, in words."""
        ...

    def blueprint(self) -> Blueprint:
        """The plan of what would be made. Nothing is made."""
        ...

    def create(self) -> None:
        """Make the new version beside the one that serves, marked as on trial. It gets no traffic yet."""
        ...

    def resize(self) -> None:
        """Give this version, which serves already or is the canary, the machines that it would be made with now. They
        are no part of its name, unless Azure makes another version of other machines."""
        ...

    def try_out(self, exam: Exam) -> DeploymentTrial:
        """Send the exam to the new version alone."""
        ...

    def shift(self, percent: int) -> int:
        """Make the new version a canary, with a share of the traffic. Returns its actual share in percent, which is the
        nearest possible one."""
        ...

    def finish(self) -> None:
        """Give the new version all the traffic, and remove the version that served before."""
        ...

    def undo(self) -> None:
        """Remove what this process made, and nothing else. The version that served before gets all the traffic."""
        ...


LIVE: dict[str, Callable[[Spec, Connection], Live]] = {"aml": LiveEndpoint, "aks": LiveRelease, "aca": LiveApp}
"""The view of a project's deployed versions, by target."""
TARGETS = tuple(LIVE)


def live_of(to: str, spec: Spec, at: Connection) -> Live:
    """A project's deployed versions at a target. It needs none of the project's outputs.

    Raises:
        UserError: there is no such target, or its cluster is not known.
    """
    if to not in LIVE:
        raise UserError(f"There is no target '{to}'.", where="--to", fix=f"Targets: {', '.join(LIVE)}.")
    return LIVE[to](spec, at)


def target_of(
    to: str, spec: Spec, at: Connection, outputs: Outputs, identity: Path | None, *, dry: bool
) -> DeployTarget:
    """The target that will serve a project's bundle.

    Args:
        to: one of `TARGETS`.
        identity: the file that says who may call a container app, as `tunewright serve --identity` takes it.
        dry: whether to make nothing; then the model is not registered either.

    Raises:
        UserError: there is no such target, it can't serve this bundle, or Azure refuses.
    """
    spec = on_reachable_bases(spec, at)
    replicas, engine = instances_of(spec, outputs), engine_of(outputs.bundle)
    if to != "aca":  # it takes no vLLM, and `App` says so itself
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
            "A container app is open to the internet, and no file says who may call it.",
            where=identity,
            fix="Name a file with issuer, audience and grants (docs/serving.md): --identity identity.json",
        )
    service = outputs.service(spec)
    return App(spec, at, engine, outputs.bundle, identity, service, replicas)


def is_standing(target: DeployTarget, state: State) -> bool:
    """Whether a version serves already or is the canary, so that deploying it would make no other one."""
    return bool(state.shares.get(target.fresh)) or (state.fresh == target.fresh and state.is_canary)


@dataclass(frozen=True)
class Released:
    """The result of a deployment."""

    target: str
    name: str
    trial: DeploymentTrial
    percent: int
    """The new version's share of the traffic."""


def release(spec: Spec, target: DeployTarget, exam: Exam, canary: int | None, mirror: int | None = None) -> Released:
    """Make the new version, try it, and give it the traffic if it passes the gates. A version that serves already gets
    the machines that it needs now, and is tried again.

    Args:
        canary: the share that it gets for now; None for all of it. The first version shares with none, and gets all.
        mirror: instead of traffic, the share of the requests of which it gets a copy; only an endpoint can do that.

    Raises:
        UserError: Azure refuses, or another canary has not ended; the new version is removed. If that fails as well,
            the error has both failures, what still exists and its cost. GateFailed: the new version fails a gate. It is
            removed, and the version that served before still serves.
    """
    if mirror is not None and not isinstance(target, ManagedEndpoint):
        raise UserError("Only a managed endpoint can mirror its traffic.", fix="Use --to aml, or --canary.")
    state = target.live.state() or State({})
    if is_standing(target, state):
        return _try_again(spec, target, exam, state)
    others_serve = any(share for version, share in state.shares.items() if version != target.fresh)
    if mirror is not None and not others_serve:
        raise UserError("Nothing serves there yet, so there is no traffic to mirror.", fix="Leave out --mirror.")
    if canary is not None and others_serve and isinstance(target, Release):
        target.require_share(canary)
    _clear(spec, target, state)
    is_let_in, percent = False, 100
    try:
        target.create()
        result = target.try_out(exam)
        say(f"  trial: {result.sentence}")
        if failed := failures(result, spec):
            raise GateFailed(f"{'; '.join(failed)}.")
        is_let_in = True
        if mirror is not None and isinstance(target, ManagedEndpoint):
            target.mirror(mirror)
            return Released(target.target, target.name, result, 0)
        if canary is None or not others_serve:
            target.finish()
        else:
            percent = target.shift(canary)
    except BaseException as error:
        if is_let_in and _may_serve(target):
            raise _not_ended(spec, target, error) from error
        _take_back(spec, target, error)
        if isinstance(error, GateFailed):
            rest = "the earlier one still serves" if others_serve else "none served there before"
            raise GateFailed(f"{error} The new version was removed; {rest}.") from None
        if isinstance(error, UserError):
            what = f"{error.what} Nothing of the new version is left."
            raise type(error)(what, where=error.where, why=error.why, fix=error.fix) from error
        raise
    if canary is not None and not others_serve:
        say("  azure: nothing served there before, so this version gets all the traffic and is no canary")
    return Released(target.target, target.name, result, percent)


def _try_again(spec: Spec, target: DeployTarget, exam: Exam, state: State) -> Released:
    """Try the version that serves already, with the machines that it needs now. It goes on serving, whatever the result
    is."""
    say(f"  azure: this version serves already as {target.name}; trying it again")
    target.resize()
    result = target.try_out(exam)
    say(f"  trial: {result.sentence}")
    if failed := failures(result, spec):
        raise GateFailed(f"{'; '.join(failed)}. It serves all the same.")
    share = state.shares[target.fresh]
    if state.fresh == target.fresh and share == 100:
        target.finish()  # finish a promotion that was broken off: other versions or the tag are left
    elif state.fresh == target.fresh:
        say(f"  azure: it is the canary. End that: {command(spec, target.live)} --promote  (or --rollback)")
    return Released(target.target, target.name, result, share)


def _clear(spec: Spec, target: DeployTarget, state: State) -> None:
    """Remove the version that a broken-off deployment left.

    Raises:
        UserError: it is a canary, which somebody has to end first, or Azure refuses.
    """
    if state.fresh is None or state.fresh == target.fresh:
        return
    if state.is_canary or state.gets_requests:
        raise UserError(
            f"Another version is on trial at the {target.live.kind} {target.name}: {state.summary(state.fresh)}.",
            why="Two can't be on trial at once.",
            fix=f"End that first: {command(spec, target.live)} --promote  (or --rollback)",
        )
    say(f"  azure: {state.fresh} is left from a deployment that was broken off")
    target.live.withdraw()


def _take_back(spec: Spec, target: DeployTarget, first: BaseException) -> None:
    """Remove the new version after a failure.

    Raises:
        UserError: that failed as well.
    """
    say("  azure: removing the new version")
    try:
        target.undo()
    except BaseException as second:  # noqa: BLE001 (after an interruption too, the user must learn what is left)
        raise not_taken_back(spec, target.live, target.fresh, target.cost, first, second) from first


def _may_serve(target: DeployTarget) -> bool:
    """Whether the new version has traffic; if Azure does not say, it may."""
    try:
        state = target.live.state()
    except UserError:
        return True
    return bool(state and state.shares.get(target.fresh))


def _not_ended(spec: Spec, target: DeployTarget, error: BaseException) -> UserError:
    """The error about a failure after the new version got traffic: the version stays, and the error says what
    exists."""
    existing = standing_now(target.live) or f"Azure does not say what exists; {target.fresh} costs {target.cost}."
    return UserError(
        f"The new version passes the gates, but the deployment did not finish: {error_sentence(error)}",
        why=existing,
        fix=f"Type the same command again, it goes on from there; or go back: {command(spec, target.live)} --rollback",
    )

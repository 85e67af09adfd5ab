"""The deployed versions of a project, as Azure has them, and the end of a canary.

Versions are found by their state: by a tag, or by the values of a Helm release. The name that this package would give a
version depends on the bundle, the code and the pins, so after an upgrade it is the name of a version that was never
made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tunewright.backends.azure import machines
from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.backend import TAG
from tunewright.config import Spec
from tunewright.core.errors import UserError

TRIAL = f"{TAG}.trial"
"""The tag that names the version that is on trial. It is set before the version is made."""
CANARY = f"{TAG}.canary"
"""The tag that names the version that passed the gates and waits for `--promote` or `--rollback`."""


@dataclass(frozen=True)
class State:
    """The versions of one project that exist at a target."""

    shares: dict[str, int]
    """Percent of the traffic, by version."""
    fresh: str | None = None
    """The version that is on trial, or the canary."""
    is_canary: bool = False
    """Whether `fresh` passed the gates; otherwise its trial is under way, or was broken off."""
    mirrored: int = 0
    """Percent of the requests of which `fresh` gets copies."""
    costs: dict[str, str] = field(default_factory=dict)
    """What each version costs, in words."""

    @property
    def others(self) -> list[str]:
        """The versions beside `fresh`, with the one that has the most traffic last."""
        return sorted((each for each in self.shares if each != self.fresh), key=lambda each: self.shares[each])

    @property
    def gets_requests(self) -> bool:
        """Whether users' requests reach `fresh`, or copies of them."""
        return bool(self.fresh and (self.shares[self.fresh] or self.mirrored))

    @property
    def without_fresh(self) -> dict[str, int]:
        """The shares without `fresh`: the largest of the others takes its share, the rest keep theirs."""
        rest = {version: share for version, share in self.shares.items() if version != self.fresh}
        if self.fresh and self.others:
            rest[self.others[-1]] += self.shares[self.fresh]
        return rest

    def with_fresh(self, percent: int) -> dict[str, int]:
        """The shares if `fresh` has `percent`, and the largest of the others the rest."""
        assert self.fresh
        if not self.others:
            return {self.fresh: 100}
        return dict.fromkeys(self.others, 0) | {self.others[-1]: 100 - percent, self.fresh: percent}

    @property
    def sentence(self) -> str:
        """The versions, for people."""
        versions = [self.summary(version) for version in sorted(self.shares, key=lambda each: -self.shares[each])]
        return f"Deployed there: {'; '.join(versions)}." if versions else "No version is deployed there."

    def summary(self, version: str) -> str:
        """One version with its traffic and its cost, for people."""
        stage = ("" if version != self.fresh else ", the canary" if self.is_canary else ", on trial") + (
            f", copies of {self.mirrored} %" if version == self.fresh and self.mirrored else ""
        )
        cost = self.costs.get(version)
        return f"{version} ({self.shares[version]} % of the traffic{stage}{f'; {cost}' if cost else ''})"


class Live(Protocol):
    """A project's endpoint, Helm release or container app. It does not depend on the project's present outputs."""

    @property
    def target(self) -> str:
        """aml, aks or aca."""
        ...

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def state(self) -> State | None:
        """The versions there; None if nothing has this name.

        Raises:
            UserError: Azure refuses, or the thing with this name belongs to another project.
        """
        ...

    def promote(self) -> None:
        """Give `fresh` all the traffic, and remove the other versions. If it was broken off, it goes on from there."""
        ...

    def withdraw(self) -> None:
        """Give the traffic of `fresh` back to the other versions, then remove it. If it was broken off, it goes on from
        there."""
        ...

    def remove(self) -> None:
        """Remove everything, even a version with traffic."""
        ...


Confirm = Callable[[str, str], bool]
"""Asks the user whether the version that serves may be removed. It gets the name that the user has to type, and a
description of what will happen."""


def conclude(spec: Spec, live: Live, *, promote: bool, confirm: Confirm) -> str:
    """End a canary: promote it, or remove it. Returns the name of its version.

    Args:
        confirm: asked if the canary has traffic that no other version can take.

    Raises:
        UserError: there is no canary, the user did not confirm, or Azure refuses; the error says what exists.
    """
    what, deploy, end = f"the {live.kind} {live.name}", deploying(spec, live), command(spec, live)
    state = live.state()
    if state is None or state.fresh is None:
        raise UserError(
            f"There is no canary: {what} does not exist." if state is None else f"There is no canary at {what}.",
            why="Nothing was changed." if state is None else f"Nothing was changed. {state.sentence}",
            fix=f"Make a canary: {deploy} --canary 10."
            + ("" if state is None else f" To remove everything of this project: {_down(spec)}"),
        )
    if promote and not state.is_canary:
        raise UserError(
            f"The version {state.fresh} at {what} is no canary: its trial did not finish.",
            why="The deployment that made it is under way or was broken off.",
            fix=f"Try it again: {deploy}. Or remove it: {end} --rollback",
        )
    alone = not promote and not state.others and state.shares[state.fresh] > 0
    question = (
        f"{state.fresh} is the only version of {what} and has {state.shares[state.fresh]} % of the traffic: "
        "without it nobody gets an answer."
    )
    if alone and not confirm(live.name, question):
        raise UserError(
            f"Nothing was removed: {question}", fix=f"Type {live.name} when asked, or add --yes if nobody can type it."
        )
    try:
        live.promote() if promote else live.remove() if alone else live.withdraw()
    except UserError as error:
        flag = "--promote" if promote else "--rollback"
        raise UserError(
            f"{error.what.rstrip('.')}, so the canary has not ended.",
            where=error.where,
            why=" ".join(part for part in (error.why, standing_now(live)) if part),
            fix=f"Type the same command again, it goes on from there: {end} {flag}",
        ) from error
    return state.fresh


def take_back(live: Live, version: str, made: bool) -> None:
    """Remove the version that this process made, and nothing else.

    Args:
        made: whether this process also made the endpoint, release or app; then that is removed too, unless it has
            another version by now.

    Raises:
        UserError: Azure refuses.
    """
    state = live.state()
    if state is None:
        return
    if made and not [each for each in state.shares if each != version]:
        live.remove()
    elif state.fresh == version and not state.others and state.shares[version]:
        raise UserError(f"{version} is the only version there and has traffic, so it was not removed.")
    elif state.fresh == version:
        live.withdraw()


def not_taken_back(
    spec: Spec, live: Live, version: str, cost: str, first: BaseException, second: BaseException
) -> UserError:
    """The error with the two failures of a deployment whose new version could not be removed again.

    Args:
        cost: of the new version, in case Azure does not say what exists.
    """
    down, where = _down(spec), f"the {live.kind} {live.name}"
    fix = f"Remove it: {command(spec, live)} --rollback; or everything of this project: {down}"
    try:
        state = live.state()
    except UserError:
        left = f"The version {version} of {where} may still exist ({cost})."
    else:
        if state and version in state.shares:
            left = f"Still deployed at {where}: {state.summary(version)}."
            fix = fix if state.fresh == version else f"Remove everything of this project: {down}"
        else:
            left = f"The version {version} is gone; {where} {'still exists' if state else 'is gone too'}."
            fix = f"See what exists: tunewright azure ls {spec.project_arguments(with_recipe=False)}"
    return UserError(
        "The deployment failed, and so did removing the new version. "
        f"First: {error_sentence(first)} Then: {error_sentence(second)}",
        why=left,
        fix=fix,
    )


def standing_now(live: Live) -> str:
    """The versions that exist now, in a sentence; empty if Azure does not answer."""
    try:
        state = live.state()
    except UserError:
        return ""
    return state.sentence if state else f"The {live.kind} {live.name} is gone."


def _down(spec: Spec) -> str:
    """The command that removes everything of a project."""
    return f"tunewright azure down {spec.project_arguments(with_recipe=False)}"


def command(spec: Spec, live: Live) -> str:
    """The command that ends a canary at this target, without its last word."""
    return f"tunewright deploy {spec.project_arguments()} --to {live.target}"


def deploying(spec: Spec, live: Live) -> str:
    """The command that deploys to this target."""
    return command(spec, live) + (" --identity FILE" if live.target == "aca" else "")


def require_fresh(live: Live) -> State:
    """The state, which must have a fresh version.

    Raises:
        UserError: it has none.
    """
    state = live.state()
    if state is None or state.fresh is None:
        raise UserError(f"There is no canary at the {live.kind} {live.name}.", fix="Deploy: tunewright deploy …")
    return state


def require_ours(spec: Spec, what: str, owner: str | None) -> None:
    """Refuse a resource of another project with the same name: Azure's limit shortens names.

    Args:
        owner: the project that the resource's tag names.

    Raises:
        UserError: it is another project's.
    """
    if owner != spec.name:
        belongs = f"belongs to the project {owner}" if owner else "names no project that made it"
        raise UserError(
            f"In Azure {what} exists already, and it {belongs}: it is not {spec.name}'s.",
            why="Names in Azure are shortened, so two long project names can become the same name.",
            fix="Give this project a name that differs in its first letters; or use another resource group.",
        )


def marks(fresh: str | None, is_canary: bool) -> dict[str, str]:
    """The two tags that say which version is fresh, and whether it is a canary; an empty tag means none."""
    name = fresh or ""
    return {TRIAL: "" if is_canary else name, CANARY: name if is_canary else ""}


def marked(tags: Mapping[str, str] | None) -> tuple[str | None, bool]:
    """(the fresh version, whether it is a canary), as the tags say."""
    canary, trial = ((tags or {}).get(tag) for tag in (CANARY, TRIAL))
    return canary or trial or None, bool(canary)


def hourly(count: int, size: str, spec: Spec) -> str:
    """What machines cost, in words; without a price if the price book does not know them."""
    try:
        usd = count * machines.price_of(size, spec).usd_per_hour
    except UserError:
        return f"{count} x {size}"
    return f"{count} x {size}, ${usd:.2f} an hour"


def error_sentence(error: BaseException) -> str:
    """An error as a sentence, without secrets."""
    if isinstance(error, KeyboardInterrupt):
        return "It was interrupted."
    message = without_secrets(str(error))
    return f"{message.rstrip('.')}." if message else f"{type(error).__name__}."

"""What stands where a project is served, as Azure has it, and the end of a canary.

Versions are found by state: by a tag, or by the values of a Helm release. The name that this package would give a
version depends on the bundle, the code and the pins, so after an upgrade it names something that was never made.
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
"""The tag that names the version that is being made and tried. It is set before the version is made."""
CANARY = f"{TAG}.canary"
"""The tag that names the version that kept the gates and waits for `--promote` or `--rollback`."""


@dataclass(frozen=True)
class State:
    """The versions of one project that stand in Azure."""

    shares: dict[str, int]
    """Percent of the traffic, by version."""
    fresh: str | None = None
    """The version that is tried, or is the canary."""
    is_canary: bool = False
    """Whether `fresh` kept the gates; otherwise its trial is under way, or was broken off."""
    mirrored: int = 0
    """Percent of the requests of which `fresh` gets copies."""
    costs: dict[str, str] = field(default_factory=dict)
    """What a version costs, in words."""

    @property
    def others(self) -> list[str]:
        """The versions beside `fresh`, that with the most traffic last."""
        return sorted((each for each in self.shares if each != self.fresh), key=lambda each: self.shares[each])

    @property
    def is_asked(self) -> bool:
        """Whether users' requests reach `fresh`, or copies of them."""
        return bool(self.fresh and (self.shares[self.fresh] or self.mirrored))

    @property
    def without_fresh(self) -> dict[str, int]:
        """The shares once `fresh` has none: the largest of the others takes its part, the rest keep theirs."""
        rest = {version: share for version, share in self.shares.items() if version != self.fresh}
        if self.fresh and self.others:
            rest[self.others[-1]] += self.shares[self.fresh]
        return rest

    def with_fresh(self, percent: int) -> dict[str, int]:
        """The shares once `fresh` has so much, the largest of the others the rest."""
        assert self.fresh
        if not self.others:
            return {self.fresh: 100}
        return dict.fromkeys(self.others, 0) | {self.others[-1]: 100 - percent, self.fresh: percent}

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        told = [self.told(version) for version in sorted(self.shares, key=lambda each: -self.shares[each])]
        return f"There stand {'; '.join(told)}." if told else "No version stands there."

    def told(self, version: str) -> str:
        """One version, its traffic and its cost."""
        stage = ("" if version != self.fresh else ", the canary" if self.is_canary else ", on trial") + (
            f", copies of {self.mirrored} %" if version == self.fresh and self.mirrored else ""
        )
        cost = self.costs.get(version)
        return f"{version} ({self.shares[version]} % of the traffic{stage}{f'; {cost}' if cost else ''})"


class Live(Protocol):
    """Where a project is served. Nothing of it depends on what the project's outputs are by now."""

    @property
    def target(self) -> str:
        """aml, aks or aca."""
        ...

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def state(self) -> State | None:
        """What stands there; None where there is nothing of this name.

        Raises:
            UserError: Azure refuses, or what has this name belongs to another project.
        """
        ...

    def promote(self) -> None:
        """`fresh` serves all, what served before goes. Broken off and done again, it goes on from there."""
        ...

    def withdraw(self) -> None:
        """`fresh` goes, and what served before takes its traffic first. Done again, it goes on from there."""
        ...

    def remove(self) -> None:
        """All of it goes, traffic or not."""
        ...


Confirm = Callable[[str, str], bool]
"""Whether what serves may go: asked with the name that is to be typed, and what is about to happen."""


def conclude(spec: Spec, live: Live, *, promote: bool, confirm: Confirm) -> None:
    """End a canary: it serves all, or it goes.

    Args:
        confirm: asked where the canary has traffic that no other version can take.

    Raises:
        UserError: there is no canary, it was not confirmed, or Azure refuses; the error says what stands.
    """
    what, typed = f"the {live.kind} {live.name}", command(spec, live)
    state = live.state()
    if state is None or state.fresh is None:
        raise UserError(
            f"There is no canary: {what} is not there." if state is None else f"There is no canary at {what}.",
            why="Nothing was changed." if state is None else f"Nothing was changed. {state.sentence}",
            fix=f"Make a canary: {typed} --canary 10."
            + ("" if state is None else f" To take away all that stands: tunewright azure down {spec.folder}"),
        )
    if promote and not state.is_canary:
        raise UserError(
            f"The version {state.fresh} at {what} is no canary: its trial did not come to an end.",
            why="The deployment that made it is under way or was broken off.",
            fix=f"Try it again: {typed}. Or take it away: {typed} --rollback",
        )
    alone = not promote and not state.others and state.shares[state.fresh] > 0
    question = (
        f"{state.fresh} is the only version of {what} and has {state.shares[state.fresh]} % of the traffic: "
        "once it goes, nobody gets an answer."
    )
    if alone and not confirm(live.name, question):
        raise UserError(
            f"Nothing was taken away: {question}", fix=f"Type {live.name} when asked, or add --yes where nobody can be."
        )
    try:
        live.promote() if promote else live.remove() if alone else live.withdraw()
    except UserError as error:
        flag = "--promote" if promote else "--rollback"
        raise UserError(
            f"{error.what.rstrip('.')}, so the canary has not ended.",
            where=error.where,
            why=" ".join(part for part in (error.why, standing_now(live)) if part),
            fix=f"Type the same command again, it goes on from there: {typed} {flag}",
        ) from error


def take_back(live: Live, version: str, made: bool) -> None:
    """Take away the version that this process made, and nothing else.

    Args:
        made: whether this process made the place too; it then goes, unless another version stands there by now.

    Raises:
        UserError: Azure refuses.
    """
    state = live.state()
    if state is None:
        return
    if made and not [each for each in state.shares if each != version]:
        live.remove()
    elif state.fresh == version and not state.others and state.shares[version]:
        raise UserError(f"{version} is the only version there and has traffic, so it was left as it is.")
    elif state.fresh == version:
        live.withdraw()


def not_taken_back(
    spec: Spec, live: Live, version: str, cost: str, first: BaseException, second: BaseException
) -> UserError:
    """The two failures of a deployment whose new version could not be taken away again.

    Args:
        cost: of the new version, for where Azure does not say what stands.
    """
    down, place = f"tunewright azure down {spec.folder}", f"the {live.kind} {live.name}"
    fix = f"Take it away: {command(spec, live)} --rollback; or all of this project: {down}"
    try:
        state = live.state()
    except UserError:
        left = f"The version {version} of {place} may still stand ({cost})."
    else:
        if state and version in state.shares:
            left = f"Still standing at {place}: {state.told(version)}."
            fix = fix if state.fresh == version else f"Take away all of this project: {down}"
        else:
            left = f"The version {version} does not stand any more; {place} {'does' if state else 'is gone too'}."
            fix = f"See what stands: tunewright azure ls {spec.folder}"
    return UserError(
        f"The deployment failed, and so did taking the new version away. First: {said(first)} Then: {said(second)}",
        why=left,
        fix=fix,
    )


def standing_now(live: Live) -> str:
    """What stands by now, in a sentence; nothing where Azure does not answer."""
    try:
        state = live.state()
    except UserError:
        return ""
    return state.sentence if state else f"The {live.kind} {live.name} is gone."


def command(spec: Spec, live: Live) -> str:
    """What a user types about a place."""
    return f"tunewright deploy {spec.folder} --to {live.target}"


def require_fresh(live: Live) -> State:
    """The state of a place, of which there must be a fresh version."""
    state = live.state()
    if state is None or state.fresh is None:
        raise UserError(f"There is no canary at the {live.kind} {live.name}.", fix="Deploy: tunewright deploy …")
    return state


def require_ours(spec: Spec, what: str, owner: str | None) -> None:
    """Refuse what somebody else made under the name that this project's has: names are cut at Azure's limit.

    Args:
        owner: the project that it says it belongs to.
    """
    if owner != spec.name:
        belongs = f"belongs to the project {owner}" if owner else "says of no project that made it"
        raise UserError(
            f"In Azure {what} is there already, and it {belongs}: it is not of {spec.name}.",
            why="Names in Azure are cut, so two long names of projects can become the same one.",
            fix="Give this project another name, which differs in its first letters; or use another resource group.",
        )


def marks(fresh: str | None, is_canary: bool) -> dict[str, str]:
    """The two tags that say which version is fresh, and how far it is; an empty one stands for none."""
    named = fresh or ""
    return {TRIAL: "" if is_canary else named, CANARY: named if is_canary else ""}


def marked(tags: Mapping[str, str] | None) -> tuple[str | None, bool]:
    """(the fresh version, whether it is a canary), as tags have it."""
    canary, trial = ((tags or {}).get(tag) for tag in (CANARY, TRIAL))
    return canary or trial or None, bool(canary)


def hourly(count: int, size: str, spec: Spec) -> str:
    """What machines cost, in words; without the price where the price book does not know them."""
    try:
        usd = count * machines.price_of(size, spec).usd_per_hour
    except UserError:
        return f"{count} x {size}"
    return f"{count} x {size}, ${usd:.2f} an hour"


def said(error: BaseException) -> str:
    """An error as a sentence, without secrets."""
    if isinstance(error, KeyboardInterrupt):
        return "It was interrupted."
    told = without_secrets(str(error))
    return f"{told.rstrip('.')}." if told else f"{type(error).__name__}."

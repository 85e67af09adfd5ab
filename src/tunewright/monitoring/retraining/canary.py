"""The canary: a share of the live requests goes to the challenger, until it has shown enough or something is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import and_, case, exists, func, select
from sqlalchemy.orm import Session

from tunewright.core.errors import UserError
from tunewright.monitoring.retraining.rates import Rate
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import BY_CLIENT, Capture, Review
from tunewright.project import read_serving
from tunewright.serving.presence import Presence, servers_of

LOOKS = 4
"""How many times the captures are held against each other; every further one would need stronger proof."""
_CHANCE = 0.05 / (3 * LOOKS)
"""Of each of three rates at each look, so that a challenger that is as good is taken away in one of twenty at most."""
_FEW = 3
"""Requests that it may fail to answer before that is a reason."""
_FAILURES = 0.01
"""Share of its requests that it may fail to answer, beyond chance."""


@dataclass(frozen=True)
class CanaryTerms:
    """What a canary takes.

    Args:
        share: of the requests that the challenger gets.
        captures: different requests that it has answered, after which it has shown enough.
        minutes: after which it ends, whatever came.
        every: seconds between two looks at what is there.
    """

    share: float = 0.1
    captures: int = 200
    minutes: float = 60.0
    every: float = 5.0


@dataclass(frozen=True)
class Canary:
    """How a challenger did on live requests."""

    captures: int
    """Different requests that it answered."""
    asked: int
    """Requests that went to it, on the servers that live."""
    failed: int
    """Those of them that the champion had to answer."""
    rates: list[Rate]
    against: list[str]
    """What speaks against it."""

    @property
    def sentence(self) -> str:
        if not self.captures:
            return f"In the canary {self.asked:,} requests came to it, and none was captured."
        return f"In the canary it answered {self.captures:,} requests; {'; '.join(rate.told for rate in self.rates)}."


class TakenAway(UserError):
    """Somebody else has ended the canary."""


def watch(
    store: Store,
    runs: Path,
    model: str,
    version: str,
    since: datetime,
    terms: CanaryTerms,
    *,
    margin: float,
    p95_ms: float,
    collect: Callable[[], object],
) -> Canary:
    """Look on until a canary is over.

    Args:
        version: the challenger's.
        since: when it began.
        margin: share of requests by which it may do worse than the champion.
        p95_ms: milliseconds above which an answer is slow.
        collect: moves what was captured into the store.

    Raises:
        TakenAway: `serving.json` names it no more.
    """
    ends, looked = since + timedelta(minutes=terms.minutes), 0
    while True:
        serving = read_serving(runs)
        if serving is None or serving.challenger is None or serving.challenger.version != version:
            raise TakenAway("The canary was ended by somebody else.", where=runs)
        collect()
        servers = [each for each in servers_of(runs) if each.told == Path(serving.challenger.bundle).name]
        over = datetime.now(UTC) >= ends
        with store.session() as session:
            rates = _rates(session, model, version, serving.champion.version, since, p95_ms)
        captures = rates[0].challenger[1]
        over = over or captures >= terms.captures
        against = _troubles(servers, version, over=over)
        look = LOOKS if over else captures * LOOKS // terms.captures
        if look > looked:
            looked = look
            against += [rate.told for rate in rates if rate.too_high(_CHANCE, margin)]
        if over or against:
            asked, failed = sum(each.asked for each in servers), sum(each.failed for each in servers)
            return Canary(captures, asked, failed, [rate for rate in rates if rate.champion[1]], against)
        time.sleep(terms.every)


def is_served(runs: Path, version: str) -> bool:
    """Whether a server lives that answers with a version, and so would take part in a canary."""
    return any(each.champion == version for each in servers_of(runs))


def _troubles(servers: list[Presence], version: str, *, over: bool) -> list[str]:
    """What the servers that were told of a challenger say against it."""
    from scipy.stats import binomtest

    found = [each.trouble.rstrip(".") for each in servers if each.trouble]
    trying = [each for each in servers if each.challenger == version]
    asked, failed = sum(each.asked for each in trying), sum(each.failed for each in trying)
    if failed >= _FEW and binomtest(failed, asked, _FAILURES, alternative="greater").pvalue < _CHANCE:
        found.append(f"it could not answer {failed:,} of {asked:,} requests, and the champion did")
    if over and servers and not trying and not found:
        found.append("no server had loaded it when the canary ended")
    return found


def _rates(session: Session, model: str, version: str, champion: str, since: datetime, p95_ms: float) -> list[Rate]:
    """How often each of the two did what it should not, a request that came more than once counted once."""
    wrong = exists().where(
        and_(
            Review.capture_id == Capture.id,
            Review.source == BY_CLIENT,
            Review.right.is_(False),
            Review.undone.is_(None),
        )
    )
    each = (
        select(
            Capture.version,
            func.max(_one(Capture.escalate.is_(True))).label("escalated"),
            func.max(_one(Capture.seconds > p95_ms / 1000)).label("slow"),
            func.max(_one(wrong)).label("wrong"),
        )
        .where(Capture.model == model, Capture.time >= since, Capture.version.in_((version, champion)))
        .group_by(Capture.version, Capture.request)
        .subquery()
    )
    counted = select(
        each.c.version, func.count(), func.sum(each.c.escalated), func.sum(each.c.slow), func.sum(each.c.wrong)
    ).group_by(each.c.version)
    rows = {row[0]: [int(value) for value in row[1:]] for row in session.execute(counted)}
    mine, others = rows.get(version, [0] * 4), rows.get(champion, [0] * 4)
    told = ("were escalated", f"took longer than {p95_ms:,.0f} ms", "were answered wrongly, as those say who asked")
    return [Rate(what, (mine[place], mine[0]), (others[place], others[0])) for place, what in enumerate(told, 1)]


def _one(condition: Any) -> Any:
    """1 where a condition holds: not every database has a greatest of truths."""
    return case((condition, 1), else_=0)

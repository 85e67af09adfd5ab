"""The canary: a share of the live requests goes to the challenger, until it has proved itself or something is wrong."""

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
from tunewright.monitoring.retraining.rates import ESCALATED, Rate
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import BY_CLIENT, Capture, Review
from tunewright.project import read_serving
from tunewright.serving.presence import Presence, servers_of

CANARY_ENDED = "Somebody else has ended the canary."
LOOKS = 4
"""How often the captures of both models are compared. Every further comparison would need stronger proof."""
_CHANCE = 0.05 / (3 * LOOKS)
"""The error for each of three rates at each look. A challenger that is equally good is rolled back in at most one of
twenty canaries."""
_FEW = 3
"""Failed requests from which a rollback is possible."""
_FAILURES = 0.01
"""The share of requests that the challenger may fail to answer, beyond chance."""


@dataclass(frozen=True)
class CanaryTerms:
    """The settings of a canary.

    Args:
        share: the share of requests that the challenger gets.
        captures: different answered requests that are enough to end the canary.
        minutes: the longest duration.
        every: seconds between two checks.
    """

    share: float = 0.1
    captures: int = 200
    minutes: float = 60.0
    every: float = 5.0


@dataclass(frozen=True)
class Canary:
    """The result of a canary."""

    captures: int
    """Different requests that the challenger answered."""
    asked: int
    """Requests that the live servers sent to it."""
    failed: int
    """Requests that the champion had to answer in its place."""
    rates: list[Rate]
    against: list[str]
    """The reasons against it."""

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if not self.captures:
            return f"In the canary it got {self.asked:,} requests, and none was captured."
        parts = [f"In the canary it answered {self.captures:,} requests", *(rate.summary for rate in self.rates)]
        return f"{'; '.join(parts)}."


class CanaryEnded(UserError):
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
    escalations: bool = True,
) -> Canary:
    """Watch a canary until it is over. A canary in which no request was captured is no proof, and counts against the
    challenger.

    Args:
        version: the challenger's version.
        since: the start of the canary.
        margin: the share of requests by which it may be worse than the champion.
        p95_ms: milliseconds above which an answer is slow.
        collect: moves captures into the store.
        escalations: whether to compare how often they escalate; see `escalations_count`.

    Raises:
        CanaryEnded: `serving.json` no longer names it.
    """
    ends, looked = since + timedelta(minutes=terms.minutes), 0
    while True:
        serving = read_serving(runs)
        if serving is None or serving.challenger is None or serving.challenger.version != version:
            raise CanaryEnded(CANARY_ENDED, where=runs)
        collect()
        servers = [each for each in servers_of(runs) if each.told == Path(serving.challenger.bundle).name]
        over = datetime.now(UTC) >= ends
        with store.session() as session:
            captures, rates = _rates(session, model, version, serving.champion.version, since, p95_ms)
        rates = [rate for rate in rates if escalations or rate.what != ESCALATED]
        over = over or captures >= terms.captures
        against = _troubles(servers, version, over=over)
        look = LOOKS if over else captures * LOOKS // terms.captures
        if look > looked:
            looked = look
            against += [rate.summary for rate in rates if rate.too_high(_CHANCE, margin)]
        if over or against:
            asked, failed = sum(each.asked for each in servers), sum(each.failed for each in servers)
            if not captures and not against:
                against = [_unmeasured(asked)]
            return Canary(captures, asked, failed, [rate for rate in rates if rate.is_measured], against)
        time.sleep(terms.every)


def is_served(runs: Path, version: str) -> bool:
    """Whether a live server answers with this version, and so would take part in a canary."""
    return any(each.champion == version for each in servers_of(runs))


def _unmeasured(asked: int) -> str:
    """Why a canary without a captured request says nothing about the challenger."""
    why = f"none of its {asked:,} requests was captured" if asked else "no request reached it"
    return f"the canary measured nothing, because {why}"


def _troubles(servers: list[Presence], version: str, *, over: bool) -> list[str]:
    """The problems that servers report about a challenger."""
    from scipy.stats import binomtest

    troubles = [each.trouble.rstrip(".") for each in servers if each.trouble]
    trying = [each for each in servers if each.challenger == version]
    asked, failed = sum(each.asked for each in trying), sum(each.failed for each in trying)
    if failed >= _FEW and binomtest(failed, asked, _FAILURES, alternative="greater").pvalue < _CHANCE:
        troubles.append(f"it could not answer {failed:,} of {asked:,} requests that the champion then answered")
    if over and servers and not trying and not troubles:
        troubles.append("no server had loaded it when the canary ended")
    return troubles


def _rates(
    session: Session, model: str, version: str, champion: str, since: datetime, p95_ms: float
) -> tuple[int, list[Rate]]:
    """(different requests that the challenger answered, how often each model escalated, was slow or was wrong, in this
    order). Repeated requests count once."""
    wrong = exists().where(
        and_(
            Review.capture_id == Capture.id,
            Review.source == BY_CLIENT,
            Review.right.is_(False),
            Review.undone.is_(None),
        )
    )
    # An answer of a bundle without a threshold has no flag, which says nothing.
    escalated = case((Capture.escalate.is_(True), 1), (Capture.escalate.is_(False), 0))
    each = (
        select(
            Capture.version,
            func.max(escalated).label("escalated"),
            func.max(_one(Capture.seconds > p95_ms / 1000)).label("slow"),
            func.max(_one(wrong)).label("wrong"),
        )
        .where(Capture.model == model, Capture.time >= since, Capture.version.in_((version, champion)))
        .group_by(Capture.version, Capture.request)
        .subquery()
    )
    columns = each.c.escalated, each.c.slow, each.c.wrong
    counted = select(
        each.c.version, *(part for column in columns for part in (func.sum(column), func.count(column)))
    ).group_by(each.c.version)
    rows = {row[0]: [int(value or 0) for value in row[1:]] for row in session.execute(counted)}
    mine, others = rows.get(version, [0] * 6), rows.get(champion, [0] * 6)
    names = (ESCALATED, f"took longer than {p95_ms:,.0f} ms", "were answered wrongly according to clients")
    rates = [
        Rate(what, (mine[n], mine[n + 1]), (others[n], others[n + 1])) for n, what in zip((0, 2, 4), names, strict=True)
    ]
    return mine[3], rates


def _one(condition: Any) -> Any:
    """1 if a condition holds, else 0, because not every database has a maximum of booleans."""
    return case((condition, 1), else_=0)

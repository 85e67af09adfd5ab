"""The shadow: the challenger answers recent requests, and its answers go only to the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.core.progress import track
from tunewright.evaluation.statistics.intervals import ratio
from tunewright.inference.bundle import Bundle, load_bundle
from tunewright.monitoring.retraining.rates import ESCALATED, Rate
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, SecondOpinion
from tunewright.parity.served import Refused, served_model

Appraise = Callable[[Session, Sequence[Capture]], None]
_AT_ONCE = 50
"""Answers per transaction."""
_CHANCE = 0.05 / 2
"""The error for each of two rates."""


@dataclass(frozen=True)
class Shadow:
    """The result of a shadow."""

    asked: int
    agreement: float | None
    """The task's primary metric with the champion's answers as the right ones; None if there were no requests."""
    escalated: Rate | None
    """None: nobody acts on that flag, or one of the two has no threshold."""
    refused: Rate
    against: list[str]
    """The reasons against the challenger."""

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if self.agreement is None:
            return "There were no captured requests for the challenger to answer in shadow."
        answered = (
            f"In shadow it answered {self.asked:,} captured requests, {self.agreement:.1%} of them as the champion did."
        )
        return f"{answered} {self.escalated.summary}." if self.escalated else answered


def shadow(
    store: Store,
    model: str,
    champion: Bundle,
    challenger: Path,
    appraise: Appraise,
    *,
    most: int,
    margin: float,
    escalations: bool = True,
) -> Shadow:
    """Let a challenger answer the newest requests that the champion answered, except those that it has answered before.
    Its answers become second opinions, which the review queue uses.

    Args:
        challenger: the folder of the challenger's bundle.
        appraise: updates the review queue for captures with new opinions.
        most: the most requests.
        margin: the share of requests by which it may escalate more.
        escalations: whether to compare how often they escalate; see `escalations_count`.
    """
    bundle = load_bundle(challenger)
    version = bundle.info.version
    with store.session() as session:
        captures = list(
            session.scalars(
                select(Capture)
                .where(Capture.model == model, Capture.version == champion.info.version)
                .order_by(Capture.time.desc(), Capture.id)
                .limit(most)
            )
        )
        opinions = select(SecondOpinion).where(SecondOpinion.source == version)
        known = {each.capture_id for each in session.scalars(opinions)}
    refused = _ask(store, bundle, [each for each in captures if each.id not in known], challenger)
    answers = _answers(store, captures, version)
    _appraise(store, list(answers), appraise)
    both = [(each, answers[each.id]) for each in captures if each.id in answers]
    task = bundle.task
    alike = [task.measures(each.request, each.answer, opinion.answer)[task.primary_metric] for each, opinion in both]
    escalated = _escalated(bundle, both) if escalations else None
    refusals = Rate("were refused", (refused, len(both) + refused), (0, len(captures)))
    return Shadow(
        len(captures),
        ratio(alike, None).value if alike else None,
        escalated,
        refusals,
        [rate.summary for rate in (escalated, refusals) if rate and rate.too_high(_CHANCE, margin)],
    )


def _escalated(bundle: Bundle, both: Sequence[tuple[Capture, SecondOpinion]]) -> Rate | None:
    """How often each of two escalates the same requests. An answer of a bundle without a threshold has no flag, which
    says nothing."""
    flags = [(bundle.flags(opinion.confidence)["escalate"], each.escalate) for each, opinion in both]
    known = [(bool(mine), bool(other)) for mine, other in flags if mine is not None and other is not None]
    mine, others = ([flag[side] for flag in known] for side in (0, 1))
    return Rate(ESCALATED, (sum(mine), len(known)), (sum(others), len(known))) if known else None


def _ask(store: Store, bundle: Bundle, captures: Sequence[Capture], folder: Path) -> int:
    """Store the bundle's answers. Returns how many requests it refused."""
    if not captures:
        return 0
    refused, fresh = 0, list[SecondOpinion]()
    with served_model(folder) as model, track("shadow", len(captures), "answers") as tracker:
        for number, capture in enumerate(captures, 1):
            try:
                answer = model.answer(capture.request)
            except Refused:
                refused += 1
            else:
                fresh.append(
                    SecondOpinion(
                        capture_id=capture.id,
                        source=bundle.info.version,
                        time=datetime.now(UTC),
                        answer=answer.text,
                        confidence=answer.confidence,
                    )
                )
            if len(fresh) >= _AT_ONCE or number == len(captures):
                with store.session() as session:
                    session.add_all(fresh)
                fresh = []
            tracker.update(number)
    return refused


def _answers(store: Store, captures: Sequence[Capture], version: str) -> dict[str, SecondOpinion]:
    ids = {capture.id for capture in captures}
    with store.session() as session:
        opinions = session.scalars(select(SecondOpinion).where(SecondOpinion.source == version))
        return {each.capture_id: each for each in opinions if each.capture_id in ids}


def _appraise(store: Store, ids: Sequence[str], appraise: Appraise) -> None:
    for start in range(0, len(ids), _AT_ONCE):
        with store.session() as session:
            appraise(
                session, session.scalars(select(Capture).where(Capture.id.in_(ids[start : start + _AT_ONCE]))).all()
            )

"""The shadow: the challenger answers requests that came lately, and nobody but the store hears it."""

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
from tunewright.monitoring.retraining.rates import Rate
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, SecondOpinion
from tunewright.parity.served import Refused, served_model

Appraise = Callable[[Session, Sequence[Capture]], None]
_AT_ONCE = 50
"""Answers that are kept in one transaction."""
_CHANCE = 0.05 / 2
"""Two rates are looked at."""


@dataclass(frozen=True)
class Shadow:
    """How the challenger answered what the champion had answered."""

    asked: int
    agreement: float | None
    """The task's primary metric, if the champion's answers were the right ones; None where nothing was asked."""
    escalated: Rate
    refused: Rate
    against: list[str]
    """What speaks against it."""

    @property
    def sentence(self) -> str:
        if self.agreement is None:
            return "Nothing was captured that the challenger could have answered in the shadow."
        return (
            f"In the shadow it answered {self.asked:,} captured requests, {self.agreement:.1%} of them as the champion "
            f"did; {self.escalated.told}."
        )


def shadow(
    store: Store, model: str, champion: Bundle, challenger: Path, appraise: Appraise, *, most: int, margin: float
) -> Shadow:
    """Have a challenger answer the newest requests that the champion answered. What it answered before is not asked
    again; its answers are second opinions, which the review queue goes by.

    Args:
        challenger: its bundle's folder.
        appraise: gives the review queue the new order of some captures that have more opinions now.
        most: requests.
        margin: share of requests by which it may escalate more.
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
        told = select(SecondOpinion).where(SecondOpinion.source == version)
        known = {each.capture_id for each in session.scalars(told)}
    refused = _ask(store, bundle, [each for each in captures if each.id not in known], challenger)
    answers = _answers(store, captures, version)
    _appraise(store, list(answers), appraise)
    both = [(each, answers[each.id]) for each in captures if each.id in answers]
    task = bundle.task
    alike = [task.measures(each.request, each.answer, said.answer)[task.primary_metric] for each, said in both]
    escalated = Rate(
        "were escalated",
        (sum(bool(bundle.flags(said.confidence)["escalate"]) for _, said in both), len(both)),
        (sum(bool(each.escalate) for each, _ in both), len(both)),
    )
    refusals = Rate("were refused", (refused, len(both) + refused), (0, len(captures)))
    return Shadow(
        len(captures),
        ratio(alike, None).value if alike else None,
        escalated,
        refusals,
        [rate.told for rate in (escalated, refusals) if rate.too_high(_CHANCE, margin)],
    )


def _ask(store: Store, bundle: Bundle, captures: Sequence[Capture], folder: Path) -> int:
    """Keep its answers. Returns how many requests it refused."""
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
    wanted = {capture.id for capture in captures}
    with store.session() as session:
        found = session.scalars(select(SecondOpinion).where(SecondOpinion.source == version))
        return {each.capture_id: each for each in found if each.capture_id in wanted}


def _appraise(store: Store, ids: Sequence[str], appraise: Appraise) -> None:
    for start in range(0, len(ids), _AT_ONCE):
        with store.session() as session:
            appraise(
                session, session.scalars(select(Capture).where(Capture.id.in_(ids[start : start + _AT_ONCE]))).all()
            )

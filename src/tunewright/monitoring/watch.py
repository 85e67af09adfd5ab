"""Watch a served model: compare captures with the reference, estimate accuracy from reviews, and raise alarms.

It compares whole days in UTC of the serving version. A second check on the same day is therefore the same check, and
uses no more of the month's probability of a false alarm (`tunewright.drift.two_sample`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from tunewright.config import RUNS, Spec
from tunewright.core.errors import UserError
from tunewright.drift.accuracy import Accuracy, Change, Reviewed, accuracy_now, fall_of_accuracy
from tunewright.drift.comparison import FEWEST, FEWEST_REFERENCE, DriftFinding, compare
from tunewright.drift.reference import Reference, load_reference
from tunewright.drift.traits import traits_of
from tunewright.drift.two_sample import DAYS, alpha_of_a_test
from tunewright.inference.bundle import BundleInfo, read_info
from tunewright.inference.checksums import BUNDLE_FILE
from tunewright.monitoring.alarms import Cause, as_json, notify, open_alarms, settle
from tunewright.monitoring.captured import Captured, answered, as_numbers, midnight, read_captured, read_reviewed
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Alarm, Capture
from tunewright.monitoring.webhook import webhook_of
from tunewright.project import Project
from tunewright.tasks import task_of

ACCURACY = "accuracy"
"""The kind of an alarm that reviews raise."""
LONGEST = max(DAYS)
REBASED = Path(RUNS) / "references"
"""The folder of references from live traffic, with one folder per version."""
_CALM = 0.05
"""The p-value above which an alarm's cause is gone."""


@dataclass(frozen=True)
class Window:
    """The comparison of some days.

    Args:
        ids: the compared captures.
        findings: one per trait; empty if there are too few captures.
    """

    days: int
    ids: list[str]
    findings: list[DriftFinding]

    @property
    def rows(self) -> int:
        return len(self.ids)

    @property
    def waits(self) -> str:
        """Why the window was not tested; empty if it was."""
        return "" if self.rows >= FEWEST else f"not enough yet: {self.rows} of {FEWEST}"


@dataclass(frozen=True)
class Look:
    """The result of a drift check.

    Args:
        until: the end of the last compared day.
        reference: the origin of the reference.
        reviews: the number of reviewed answers.
        accuracy: the accuracy of all answers; None if there are too few reviews.
        change: the likeliest fall of accuracy; None if there are too few reviews.
        alarms: the new alarms.
        open: all alarms that have not ended.
        examples: the requests of the captures that new alarms name, by id.
        untold: why the webhook did not accept the message; empty if it did, or if there is no webhook.
    """

    model: str
    version: str
    until: datetime
    reference: str
    windows: list[Window]
    reviews: int
    accuracy: Accuracy | None
    change: Change | None
    alarms: list[Alarm]
    open: list[Alarm]
    examples: dict[str, str]
    untold: str

    @property
    def data(self) -> dict[str, Any]:
        """The result as JSON values."""
        windows = [
            {"days": window.days, "requests": window.rows, "findings": [asdict(each) for each in window.findings]}
            for window in self.windows
        ]
        alarms = {name: [as_json(alarm) for alarm in getattr(self, name)] for name in ("alarms", "open")}
        quality = {name: each and asdict(each) for name, each in vars(self).items() if name in ("accuracy", "change")}
        return {**vars(self), **alarms, **quality, "windows": windows, "until": self.until.isoformat()}


def watch(spec: Spec, store: Store, bundle_folder: Path | None = None, now: datetime | None = None) -> list[Alarm]:
    """The new alarms; see `look`."""
    return look(spec, store, bundle_folder, now).alarms


def look(spec: Spec, store: Store, bundle_folder: Path | None = None, now: datetime | None = None) -> Look:
    """Compare the captures of the last four weeks with the reference, update the alarms, and notify the webhook.

    Args:
        bundle_folder: by default the champion, else the latest bundle.
        now: the current time.

    Raises:
        UserError: there is no such bundle, it has no reference, or the webhook's variable is not set.
    """
    now = now or datetime.now(UTC)
    address = webhook_of(spec)
    folder = bundle_folder or Project.of(spec).champion()
    info = _info(folder)
    reference, origin = _reference(spec, folder, info)
    until = midnight(now)
    with store.session() as session:
        captured = read_captured(session, info, until, LONGEST)
        reviewed = read_reviewed(session, info, until, LONGEST)
        by_day = answered(session, info.name, info.version)
    windows = compared(reference, captured, info)
    accuracy = accuracy_now(reviewed, as_numbers(captured.confidences), by_day)
    change = fall_of_accuracy(reviewed)
    causes = [cause for window in windows for cause in _causes(window)] + _fall(change, reviewed)
    with store.session() as session:
        new = settle(session, info.name, info.version, causes, now)
        standing = open_alarms(session, info.name)
        named = {each for alarm in new for each in alarm.detail["examples"]}
        examples = {
            row.id: row.request
            for row in session.execute(select(Capture.id, Capture.request).where(Capture.id.in_(named)))
        }
    untold = notify(store, info.name, address, now) if address else ""
    return Look(
        info.name,
        info.version,
        until,
        origin,
        windows,
        len(reviewed.right),
        accuracy,
        change,
        new,
        standing,
        examples,
        untold,
    )


def rebase(spec: Spec, store: Store, bundle_folder: Path | None = None, now: datetime | None = None) -> Reference:
    """Make the live traffic of the last four weeks the new reference. The bundle stays unchanged.

    Raises:
        UserError: there are too few captures.
    """
    folder = bundle_folder or Project.of(spec).champion()
    info = _info(folder)
    with store.session() as session:
        captured = read_captured(session, info, midnight(now or datetime.now(UTC)), LONGEST)
    needed = 2 * FEWEST_REFERENCE
    if len(captured.ids) < needed:
        raise UserError(
            f"Whole days of the last {LONGEST} have {len(captured.ids)} captures of {info.name} {info.version}; "
            f"a reference needs {needed}.",
            fix="Wait for more captures.",
        )
    before = load_reference(folder)
    reference = Reference.from_captures(
        captured.texts, captured.answers, captured.confidences, task_of(info.task), before.effects if before else {}
    )
    target = spec.path(REBASED) / info.version
    target.mkdir(parents=True, exist_ok=True)
    reference.save(target)
    return reference


def compared(reference: Reference, captured: Captured, info: BundleInfo) -> list[Window]:
    """The windows that end with the last whole day."""
    traits = traits_of(captured.texts, captured.answers, captured.confidences, task_of(info.task), reference.known)
    windows = []
    for days in DAYS:
        rows = np.flatnonzero(captured.ages <= days)
        findings = compare(reference, traits[rows], alpha_of_a_test()) if len(rows) >= FEWEST else []
        windows.append(Window(days, [captured.ids[row] for row in rows], findings))
    return windows


def _causes(window: Window) -> list[Cause]:
    return [
        Cause(
            finding.trait,
            finding.title,
            window.days,
            window.rows,
            finding.p,
            finding.effect,
            finding.said,
            finding.drifted,
            finding.p > _CALM or finding.effect < 1,
            [window.ids[row] for row in finding.examples],
        )
        for finding in window.findings
    ]


def _fall(change: Change | None, reviewed: Reviewed) -> list[Cause]:
    if change is None:
        return []
    change_text = f"fell by {change.loss:.1%} on {date.fromordinal(change.day):%d %B %Y}"
    drifted, gone = change.counts(alpha_of_a_test()), not change.counts(_CALM)
    return [
        Cause(ACCURACY, ACCURACY, LONGEST, len(reviewed.right), change.p, change.loss, change_text, drifted, gone),
    ]


def _info(folder: Path) -> BundleInfo:
    if not (folder / BUNDLE_FILE).exists():
        raise UserError("There is no bundle to watch.", where=folder, fix="Build one: tunewright run PROJECT")
    return read_info(folder)


def _reference(spec: Spec, folder: Path, info: BundleInfo) -> tuple[Reference, str]:
    """(the reference, its origin)."""
    rebased = load_reference(spec.path(REBASED) / info.version)
    reference = rebased or load_reference(folder)
    if reference is None:
        raise UserError(
            "This bundle has no reference to compare captures with.",
            where=folder,
            fix="Rebuild it: tunewright run …  Or make the live traffic the reference: tunewright monitor drift … "
            "--rebase",
        )
    if reference.rows < FEWEST_REFERENCE:
        raise UserError(
            f"The reference has {reference.rows} answers; a comparison needs {FEWEST_REFERENCE}.",
            where=folder,
            fix="Hold out more rows for validation and test. Once there is traffic, you can also type: tunewright "
            "monitor drift … --rebase",
        )
    return reference, f"{reference.rows:,} answers of {'live traffic' if rebased else 'the validation and test parts'}"

"""Leaving out training rows by a judge's marks.

The rows that people marked are asked first: whether the judge can be trusted is known before most of the money is
spent.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path

from tunewright.config import JudgeSpec, Spec
from tunewright.core.artifacts import write_json, write_jsonl
from tunewright.core.errors import UserError
from tunewright.core.progress import Tracker, say, track
from tunewright.data.checks.rows import personal_data
from tunewright.data.shown import shown
from tunewright.economics import price_book
from tunewright.evaluation.api.paid import PAID, PaidAnswers
from tunewright.evaluation.marks.agreement import (
    MARGIN,
    MarkAgreement,
    PeoplesMark,
    agreement_of,
    enough,
    peoples_marks,
)
from tunewright.evaluation.marks.biases import MarkTally, bias_sentences, by_length
from tunewright.evaluation.marks.marking import MARKS, Marker, MarkingForecast, forecast, price_of
from tunewright.evaluation.marks.rows import (
    MARKS_FILE,
    SUMMARY,
    TO_MARK,
    folder_beside,
    judged_rows,
    keep_marks,
    require_replaceable,
    write_copy,
)
from tunewright.tasks import task_of

_AT_ONCE = 1000
"""Rows whose questions are held in memory."""
_WORST = 5
"""Rows with the lowest marks that are shown."""
_SHOWN = 200
"""Characters of a text that is shown, personal data masked."""


@dataclass(frozen=True)
class JudgedRow:
    """A row with its mark, its texts shortened."""

    where: str
    mark: int | None
    left_out: bool
    letters: int
    """Characters of its answer."""
    text: str
    answer: str


@dataclass(frozen=True)
class JudgedData:
    """What the judge says of the training rows."""

    model: str
    least_mark: int
    rows: int
    left_out: int
    unread: int
    """Rows to which the judge gave no mark; they stay."""
    unreadable: int
    """Rows of the files that can't be read; the copy lacks them, its quarantine has them."""
    marks: dict[int, int]
    """Rows by mark."""
    worst: list[JudgedRow]
    """The rows with the lowest marks."""
    agreement: MarkAgreement | None
    usd: float
    """Cost of all marks, those that were paid for before included."""
    told: list[str]
    """The agreement with people, the judge's biases, and what a filter does to the test, as sentences."""

    @property
    def share(self) -> float:
        """Share of the rows that are left out."""
        return self.left_out / self.rows


def judge_of(spec: Spec) -> JudgeSpec:
    """The spec's judge.

    Raises:
        UserError: it names none.
    """
    if spec.judge is None:
        raise UserError(
            "The spec names no judge.", fix="Add a section: judge: {model: gpt-6-luna}  (docs/data.md says what else)"
        )
    return spec.judge


def marking_forecast(spec: Spec, runs: Path) -> MarkingForecast:
    """What `leave_out` would ask and pay.

    Args:
        runs: the folder of all outputs, where paid answers are kept.
    """
    settings = judge_of(spec)
    people = ((each.text, False) for each in peoples_marks(spec))
    rows = ((text, bool(personal_data(example))) for example, text in judged_rows(spec))
    price = price_of(settings, price_book(spec.price_file))
    return forecast(settings, _instruction(spec), price, chain(people, rows), runs)


def leave_out(
    spec: Spec, runs: Path, output: Path, *, most: float = 0.5, unproven: bool = False
) -> tuple[JudgedData, UserError | None]:
    """Have the training rows marked, and write a copy in which the rows below the least mark have weight 0.

    Writes `marks.jsonl`, `judged.json`, `train.jsonl` with `quarantine/` where rows can't be read, and, unless people
    marked answers, `to_mark.jsonl` with rows for them.

    Args:
        runs: the folder of all outputs, where paid answers are kept.
        output: a folder that is absent, empty, or has marks without a copy.
        most: the largest share of rows that may be left out.
        unproven: go on even if the judge agrees with people no more than by chance.

    Returns:
        What the judge says, and why there is no copy if there is none.

    Raises:
        UserError: the judge agrees with people no more than by chance, or gives no marks, or can't be asked, or the
            budget is reached. No output is written; the answers so far are kept.
    """
    settings = judge_of(spec)
    price, people = price_of(settings, price_book(spec.price_file)), peoples_marks(spec)
    require_replaceable(spec, output)
    rows = _counted(spec, settings)
    if not rows:
        raise UserError(
            "No training row can be judged.", where=spec.path(spec.data.train), fix="Type: tunewright data check"
        )
    runs.mkdir(parents=True, exist_ok=True)
    with PaidAnswers(runs / PAID) as paid, track("marks", rows + len(people), "answers") as tracker:
        marker = Marker(settings, _instruction(spec), price, paid)
        agreed = _agreed(spec, settings, marker, people, unproven, tracker)
        with folder_beside(output) as folder:
            judged = _judged(spec, settings, marker, people, agreed, rows, folder, tracker)
            refusal = _refusal(judged, most, output)
            unreadable = 0
            if not refusal:
                unreadable = write_copy(spec, folder, lambda text: _is_below(marker.of(text), settings.least_mark))
            judged = replace(judged, unreadable=unreadable)
            write_json(folder / SUMMARY, asdict(judged))
            keep_marks(output, folder)
    return judged, refusal


def _counted(spec: Spec, settings: JudgeSpec) -> int:
    """The number of rows to judge. Says what goes where, before anything does."""
    rows = personal = 0
    for example, _ in judged_rows(spec):
        rows, personal = rows + 1, personal + bool(personal_data(example))
    say(f"  {rows:,} rows to {settings.model} at {settings.url}, for ${settings.budget_usd:,.2f} at most")
    if personal:
        say(f"  {personal:,} of them hold personal data (D015)")
    return rows


def _instruction(spec: Spec) -> str:
    """What the model is told, before any request."""
    return task_of(spec.task).prompt("")[0].content


def _is_below(mark: int | None, least: int) -> bool:
    """Whether a mark lies below the least; a missing one does not."""
    return mark is not None and mark < least


def _agreed(
    spec: Spec, settings: JudgeSpec, marker: Marker, people: list[PeoplesMark], unproven: bool, tracker: Tracker
) -> MarkAgreement | None:
    """The agreement with people.

    Raises:
        UserError: it is no more than chance, unless `unproven`.
    """
    if not people:
        return None
    marker.mark((each.text for each in people), tracker.update)
    given = [marker.of(each.text) for each in people]
    agreed = agreement_of([each.mark for each in people], given, settings.least_mark, spec.seed)
    if agreed is None:
        raise _no_marks(settings)
    if agreed.by_chance and not unproven:
        raise UserError(
            f"At the mark {settings.least_mark} this judge agrees with people no more than by chance.",
            where=spec.path(settings.human_marks) if settings.human_marks else None,
            why=" ".join(agreed.sentences),
            fix="Say in judge.rubric what people look for, or take a larger model. With --unproven the judge's marks "
            "count all the same.",
        )
    return agreed


def _judged(
    spec: Spec,
    settings: JudgeSpec,
    marker: Marker,
    people: list[PeoplesMark],
    agreed: MarkAgreement | None,
    rows: int,
    folder: Path,
    tracker: Tracker,
) -> JudgedData:
    """Have all rows marked, and write each with its mark."""
    counts: Counter[int | None] = Counter()
    tally, worst = MarkTally(), list[JudgedRow]()
    least, left = settings.least_mark, judged_rows(spec)
    drawn = set(random.Random(spec.seed).sample(range(rows), min(rows, enough(MARGIN))))
    to_mark: list[dict[str, object]] = []

    def written() -> Iterator[dict[str, object]]:
        nonlocal worst
        while batch := list(islice(left, _AT_ONCE)):
            marker.mark((text for _, text in batch), tracker.update)
            for example, text in batch:
                mark = marker.of(text)
                if counts.total() in drawn:
                    to_mark.append({"text": text.request, "answer": text.answer, "mark": None})
                counts[mark] += 1
                letters, texts = len(text.answer), (shown(each, _SHOWN) for each in (text.request, text.answer))
                row = JudgedRow(str(example.meta.source), mark, _is_below(mark, least), letters, *texts)
                if mark is not None:
                    tally.add(example, mark)
                    worst = sorted([*worst, row], key=lambda each: each.mark or 0)[:_WORST]
                yield asdict(row)
            if counts.total() == counts[None]:
                raise _no_marks(settings)

    write_jsonl(folder / MARKS_FILE, written())
    if not people:
        write_jsonl(folder / TO_MARK, to_mark)
    marks = {mark: counts[mark] for mark in MARKS}
    left_out = sum(count for mark, count in marks.items() if mark < least)
    told = [*_on_people(agreed, left_out / counts.total(), least), *_on_biases(settings, marker, people, tally)]
    if not spec.data.test and spec.frozen_folder is None:
        told.append(
            "The test is drawn from data.train, so it would lose the rows that the judge dislikes too, and flatter. "
            "Freeze it before you use the copy: tunewright data freeze."
        )
    usd = marker.budget.spent
    return JudgedData(settings.model, least, counts.total(), left_out, counts[None], 0, marks, worst, agreed, usd, told)


def _on_people(agreed: MarkAgreement | None, share: float, least: int) -> list[str]:
    if agreed:
        return agreed.sentences
    needed = enough(MARGIN)
    told = (
        f"Nobody has checked this judge. Marks that people give to {needed} rows drawn at random tell how often both "
        f"agree to within {100 * MARGIN:.0f} points (95 %): fill in {TO_MARK}, and name it as judge.human_marks."
    )
    if share:
        told += (
            f" To tell as closely how many of the rows below {least} the judge misses takes about "
            f"{needed / share:,.0f} marks, if people put as many below it as the judge, {share:.1%}."
        )
    return [told]


def _on_biases(settings: JudgeSpec, marker: Marker, people: list[PeoplesMark], tally: MarkTally) -> list[str]:
    both = [(each, mark) for each in people if (mark := marker.of(each.text)) is not None]
    lengths = [len(each.text.answer) for each, _ in both]
    of_people = by_length([each.mark for each, _ in both], lengths)
    of_judge = by_length([mark for _, mark in both], lengths)
    return bias_sentences(
        settings.priced_as or settings.model, tally, by_length(tally.marks, tally.lengths), (of_people, of_judge)
    )


def _no_marks(settings: JudgeSpec) -> UserError:
    return UserError(
        "None of the judge's replies is a mark from 1 to 5.",
        where=f"{settings.model} at {settings.url}",
        fix="Take a larger model, or shorten judge.rubric; it must not ask for another form of reply.",
    )


def _refusal(judged: JudgedData, most: float, output: Path) -> UserError | None:
    """Why no copy is written; None: one is."""
    if judged.left_out == judged.rows:
        return UserError(
            "The judge would leave out every row.", where=output / MARKS_FILE, fix="Lower judge.least_mark."
        )
    if judged.share > most:
        return UserError(
            f"The judge would leave out {judged.share:.0%} of the rows, more than {most:.0%}, so no copy was written.",
            where=output / MARKS_FILE,
            why="So many are rarely bad. More often the rubric asks for what the data never had, or the mark is too "
            "high.",
            fix="Read the marks; then change judge.rubric or judge.least_mark, or allow it: --max-left-out "
            f"{min(1.0, judged.share + 0.01):.2f}",
        )
    return None

"""Findings on single rows, counted while the data was read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tunewright.data.checks.kinds import KINDS, Finding
from tunewright.data.checks.places import places
from tunewright.data.checks.survey import FIRST, Hits, Survey
from tunewright.data.shown import shown


@dataclass(frozen=True)
class _Told:
    severity: str
    words: Callable[[str, int, Hits, Survey], str]
    """(split, rows, hits, survey) -> what was found."""
    fix: Callable[[Hits], str] | None = None


def single_rows(survey: Survey) -> Iterator[Finding]:
    """One finding for each split and code that a row check found anything for."""
    for name, split in survey.splits.items():
        for code, hits in split.hits.items():
            if hits.rows and code in _TOLD:
                told = _TOLD[code]
                yield Finding(
                    code,
                    told.severity,
                    f"{name}: {told.words(name, hits.rows, hits, survey)}",
                    told.fix(hits) if told.fix else KINDS[code].fix,
                    places(split, hits.first_rows()),
                    hits.rows,
                    hits.rows / len(split.table),
                    name,
                )


def listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{shown(kind)} ({count})" for kind, count in kinds.most_common(FIRST))


def quoted(kinds: Counter[str]) -> str:
    return ", ".join(f"'{shown(kind)}' ({count})" for kind, count in kinds.most_common(FIRST))


def _longest(hits: Hits) -> int:
    return max(int(kind) for kind in hits.kinds)


def _too_long(what: str) -> Callable[[str, int, Hits, Survey], str]:
    def words(_name: str, rows: int, hits: Hits, survey: Survey) -> str:
        assert survey.job.limit
        limit = survey.job.limit.max_length
        if survey.job.limit.template is None:
            limited = f"are longer than the {limit} tokens that the encoder reads"
        else:
            limited = f"{what} train.max_length = {limit} tokens"
        return f"{rows} rows {limited}; the longest has at most {_longest(hits)}"

    return words


def _raise_limit(hits: Hits) -> str:
    return f"Set train.max_length={_longest(hits)} where the model reads as many, or shorten these rows."


_TOLD = {
    "D001": _Told("error", lambda _n, rows, _h, _s: f"{rows} rows have no text"),
    "D002": _Told("error", lambda _n, rows, h, _s: f"{rows} rows have a label the spec lacks: {quoted(h.kinds)}"),
    "D026": _Told(
        "error", lambda _n, rows, h, _s: f"{rows} rows have an answer that does not fit the task: {listed(h.kinds)}"
    ),
    "D027": _Told("note", lambda _n, rows, h, _s: f"{rows} rows name a label twice: {quoted(h.kinds)}"),
    "D028": _Told("note", lambda n, rows, _h, s: f"{rows} of {len(s.splits[n].table)} rows have no label"),
    "D015": _Told("warning", lambda _n, rows, h, _s: f"{rows} rows hold personal data or secrets: {listed(h.kinds)}"),
    "D016": _Told("warning", lambda _n, rows, h, _s: f"{rows} rows hold template tokens: {listed(h.kinds)}"),
    "D024": _Told("warning", lambda _n, rows, h, _s: f"{rows} rows have damaged characters: {listed(h.kinds)}"),
    "D019": _Told("error", _too_long("would lose their answer's end: with it they are longer than"), _raise_limit),
    "D020": _Told("error", _too_long("have no room for an answer: their prompt alone reaches"), _raise_limit),
}

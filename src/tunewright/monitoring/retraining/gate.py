"""The gate: compare champion and challenger on the same tests, and decide whether the challenger may get live requests.

The rule: not worse anywhere that matters, and better somewhere.

- **All tests together, and each large enough test**: the challenger is proven to be no worse than by `goal.margin`.
  Each
  of these claims has an error of 5 %. Because all must hold, the joint claim has the same error.
- **Every label, field and slice** of that size: the challenger has not lost more than the margin.
- **Smaller tests and parts**, with `LEAST` examples or more: the challenger is not shown to be worse by more than the
  margin. If they had to prove that nothing was lost, they would refuse every model.
- **Somewhere**, on a test or a part, the challenger is shown to be better.

The evidence is the sign test of the pairs (of groups, if the data have groups), corrected by Holm's method in two
families, the tests and the parts. A challenger that is better nowhere therefore passes in at most one of twenty
trainings, and so does one that is worse by the margin on all tests together or on a large test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from tunewright.data.corrections import version_of_correction
from tunewright.evaluation.evidence import Record, by_test, groups_of, latency
from tunewright.evaluation.statistics.intervals import shares
from tunewright.evaluation.statistics.pairs import ALPHA, POWER, Paired, holm, paired, pairs_needed
from tunewright.evaluation.statistics.slices import LEAST, cuts
from tunewright.tasks import Example
from tunewright.tasks.measures import SINGLE, Ratio

_CHANCE = 0.05
_REACH = NormalDist().inv_cdf(1 - ALPHA) / (NormalDist().inv_cdf(1 - ALPHA) + NormalDist().inv_cdf(POWER))
"""The share of the margin that an interval may reach below its difference, so that an equal model is shown to be no
worse with a power of 80 %."""
ALL = "all tests"
NEWEST = "newest corrections"
CORRECTIONS = "corrections held out"
"""The name of a test. It contains spaces, so no spec can give it to another test."""
TEST, LABEL, FIELD_PART, SLICE = "test", "label", "field", "slice"
Pair = tuple[Record, Record]
"""The challenger's answer to an example, and the champion's."""


@dataclass(frozen=True)
class TestPart:
    """The comparison of both models on some of the examples."""

    kind: str
    """test, label, field or slice."""
    name: str
    count: int
    champion: float
    """The task's primary metric; for a field its F1."""
    challenger: float
    paired: Paired
    """Challenger minus champion."""
    p_value: float
    """The p-value of the sign test, corrected for the number of tests or parts (Holm)."""
    large: bool
    """Whether the examples suffice to show that an equally good model lost nothing."""

    @property
    def must_prove(self) -> bool:
        """Whether the challenger must prove on this test that it lost nothing."""
        return self.kind == TEST and (self.large or self.name == ALL)

    @property
    def better(self) -> bool:
        """Whether the challenger is shown to be better."""
        return self.p_value < _CHANCE and self.paired.difference.value > 0

    def worse(self, margin: float) -> bool:
        """Whether the challenger lost more than the margin; with few examples, also beyond chance."""
        lost = self.paired.difference.value < -margin
        return lost and (self.p_value < _CHANCE or (self.large and self.kind != TEST))

    @property
    def summary(self) -> str:
        """The figures in words."""
        name = self.name if self.name == ALL else f"the {self.kind} {self.name}"
        gap = self.paired.difference
        return (
            f"on {name} {self.challenger:.1%} against {self.champion:.1%}, {100 * gap.value:+.1f} points "
            f"({100 * gap.low:+.1f} to {100 * gap.high:+.1f}) of {self.count:,} examples"
        )


@dataclass(frozen=True)
class Decision:
    """Whether the challenger may go on."""

    passed: bool
    sentence: str
    """The decision and its reason."""
    against: list[str]
    """Every reason against it."""
    parts: list[TestPart]
    """All tests together, then each test, then labels, fields and slices, with the largest losses first."""
    champion_p95_ms: float
    challenger_p95_ms: float
    left_out: int
    """Test examples that the champion had learnt, which would have favoured it."""


def decide(
    challenger: Sequence[Record],
    champion: Sequence[Record],
    examples: Mapping[str, Example],
    *,
    margin: float,
    p95_ms: float,
    by_label: bool = False,
    taught: Callable[[Example], bool] = lambda _: False,
    failures: Sequence[str] = (),
) -> Decision:
    """Compare both models' answers to the same tests.

    Args:
        examples: the examples of the tests, by id.
        margin: how much worse the challenger may be, as a share.
        p95_ms: the longest 95th percentile of the latency that the job allows.
        by_label: whether answers are labels.
        taught: whether the champion learnt an example.
        failures: the parity gates that the challenger failed.
    """
    answered = {record.id: record for record in champion}
    tests = {
        name: [(record, answered[record.id]) for record in records if record.id in answered]
        for name, records in by_test(challenger).items()
    }
    fair = {name: [pair for pair in pairs if not taught(examples[pair[0].id])] for name, pairs in tests.items()}
    fair = {name: pairs for name, pairs in fair.items() if pairs}
    left_out = sum(map(len, tests.values())) - sum(map(len, fair.values()))
    if not fair:
        why = "The champion learnt every example of the new tests, so they can't show which model is better."
        fix = "Freeze a test that no model is trained on: tunewright data freeze PROJECT"
        return Decision(False, f"Refused: {why} {fix}", [why], [], 0.0, 0.0, left_out)
    pairs = [pair for part in fair.values() for pair in part]
    tested = [examples[record.id] for record, _ in pairs]
    if (newest := _newest(pairs, examples)) and newest not in [pairs, *fair.values()]:
        fair[NEWEST] = newest
    compared = [*_tests(pairs, fair, margin), *_parts(pairs, examples, margin, by_label=by_label)]
    p95, champion_p95 = (latency([pair[side] for pair in pairs]).p95_ms for side in (0, 1))
    against = [*failures, *_losses(compared, margin, left_out)]
    if p95 > max(p95_ms, champion_p95):
        against.append(f"its P95 is {p95:,.0f} ms, over the {p95_ms:,.0f} ms of goal.p95_ms")
    gains = sorted((part for part in compared if part.better), key=lambda part: part.p_value)
    if not gains:
        untested = "" if any(map(_version, tested)) else "; no test has a correction, so what it learnt is not tested"
        against.append(f"it is shown to be better nowhere: {compared[0].summary}{untested}")
    parts = [part for part in compared if part.kind != TEST]
    parts.sort(key=lambda part: part.paired.difference.value)
    return Decision(
        not against,
        _sentence(against, gains, compared),
        against,
        [*(part for part in compared if part.kind == TEST), *parts],
        champion_p95,
        p95,
        left_out,
    )


def _sentence(against: Sequence[str], gains: Sequence[TestPart], compared: Sequence[TestPart]) -> str:
    if against:
        more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
        return f"Refused: {against[0]}{more}."
    tests = sum(part.kind == TEST for part in compared)
    counts = f"{tests} test{'s' if tests > 1 else ''} and {len(compared) - tests:,} parts"
    return f"Passed: the challenger is better {gains[0].summary}; none of {counts} is shown to be worse."


def _newest(pairs: Sequence[Pair], examples: Mapping[str, Example]) -> list[Pair]:
    """The test examples from the last corrections; empty if they are too few to compare."""
    numbers = [_version(examples[record.id]) for record, _ in pairs]
    last = max(numbers)
    chosen = [pair for pair, number in zip(pairs, numbers, strict=True) if last and number == last]
    return chosen if len(chosen) >= LEAST else []


def _version(example: Example) -> int:
    return version_of_correction(example.meta.source)


def _tests(together: Sequence[Pair], tests: Mapping[str, Sequence[Pair]], margin: float) -> Iterator[TestPart]:
    """All tests together, then each test."""
    parts = [_part(TEST, ALL, together, _primary_metrics(together), margin)]
    if len(tests) > 1:
        parts += [_part(TEST, name, pairs, _primary_metrics(pairs), margin) for name, pairs in tests.items()]
    return _corrected(parts)


def _parts(
    pairs: Sequence[Pair], examples: Mapping[str, Example], margin: float, *, by_label: bool
) -> Iterator[TestPart]:
    """The labels, fields and slices of all tests together."""
    parts = []
    if by_label:
        golds = [challenger.gold for challenger, _ in pairs]
        parts += [
            _part(LABEL, label, chosen, _primary_metrics(chosen), margin) for label, chosen in _grouped(golds, pairs)
        ]
    for name in dict.fromkeys(name for record, _ in pairs for name in record.measures if name.startswith(SINGLE)):
        measured = [(first.measure(name), second.measure(name)) for first, second in pairs]
        chosen = [pair for pair, (one, other) in zip(pairs, measured, strict=True) if one.whole or other.whole]
        if len(chosen) >= LEAST:
            ratios = [(first.measure(name), second.measure(name)) for first, second in chosen]
            kind, _, of = name.partition(" ")
            parts.append(_part(kind, of, chosen, ratios, margin))
    tested = [examples[record.id] for record, _ in pairs]
    for by, names in cuts(tested):
        if by != "group":  # a single group proves nothing
            chosen_by = _grouped(names, pairs)
            parts += [
                _part(SLICE, f"{by} {name}", chosen, _primary_metrics(chosen), margin) for name, chosen in chosen_by
            ]
    return _corrected([part for part in parts if part.count < len(pairs)])


def _grouped(names: Sequence[str | None], pairs: Sequence[Pair]) -> Iterator[tuple[str, list[Pair]]]:
    grouped: dict[str, list[Pair]] = {}
    for name, pair in zip(names, pairs, strict=True):
        if name is not None:
            grouped.setdefault(name, []).append(pair)
    return ((name, chosen) for name, chosen in grouped.items() if len(chosen) >= LEAST)


def _primary_metrics(pairs: Sequence[Pair]) -> list[tuple[Ratio, Ratio]]:
    return [(challenger.primary_metric, champion.primary_metric) for challenger, champion in pairs]


def _part(
    kind: str, name: str, pairs: Sequence[Pair], ratios: Sequence[tuple[Ratio, Ratio]], margin: float
) -> TestPart:
    """Compare both models on some examples.

    Args:
        ratios: the score of each answer, for both models.
    """
    first, second = zip(*ratios, strict=True)
    comparison = paired(first, second, groups_of([record for record, _ in pairs]))
    new, old = (float(shares(*np.array(side, float).sum(0))) for side in (first, second))
    return TestPart(kind, name, len(pairs), old, new, comparison, comparison.p_value, _is_large(comparison, margin))


def _is_large(comparison: Paired, margin: float) -> bool:
    """See `TestPart.large`. The interval must be short enough, and the examples must be enough, because two models that
    hardly differ on a few examples may still differ. Too few groups prove nothing."""
    if comparison.difference.doubt:
        return False
    reach = comparison.difference.value - comparison.at_least
    return margin == 0 or (reach <= _REACH * margin and comparison.count >= pairs_needed(margin, margin))


def _corrected(parts: Sequence[TestPart]) -> Iterator[TestPart]:
    corrected = holm([part.p_value for part in parts])
    return (replace(part, p_value=p_value) for part, p_value in zip(parts, corrected, strict=True))


def _losses(compared: Sequence[TestPart], margin: float, left_out: int) -> Iterator[str]:
    """The reasons against the challenger, tests before parts, the largest losses first."""
    points = f"the {100 * margin:.1f} points of goal.margin"
    for part in sorted(compared, key=lambda part: (part.kind != TEST, part.paired.difference.value)):
        if part.worse(margin):
            yield f"it is worse {part.summary}"
        elif part.must_prove and part.paired.difference.doubt:
            yield f"{part.paired.difference.doubt}; collect answers from more groups: {part.summary}"
        elif part.must_prove and not part.paired.not_inferior(margin):
            least = f"it may be {-100 * part.paired.at_least:.1f} points worse, more than {points}: {part.summary}"
            short = "" if _is_large(part.paired, margin) else _too_few(part, margin, left_out)
            yield least + short


def _too_few(part: TestPart, margin: float, left_out: int) -> str:
    comparison = part.paired
    known = f"; {left_out:,} that the champion had learnt were left out" if left_out else ""
    if comparison.difference.value <= -margin:
        return known
    needed = pairs_needed(margin, max(comparison.variance, margin), comparison.difference.value)
    return f"; at this difference it takes about {needed:,} examples to show that nothing was lost{known}"

"""The cascade: the small model answers what it is sure of, the API answers the rest.

The threshold has a guarantee where there are enough validation examples. Source: Learn-then-Test (Angelopoulos et al.
2021). It tests one threshold after the other, from the surest answers on (fixed sequence), so that the number of
thresholds does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from math import ceil, e, exp, log

from tunewright.evaluation.evidence import Record, groups_of
from tunewright.evaluation.statistics.intervals import Interval, ratio
from tunewright.tasks.measures import Ratio

_POINTS = 20
MIN_ACCEPTED = 20
"""Fewer accepted answers say nothing about their accuracy."""
DELTA = 0.1
"""The chance, over drawings of the validation part, that a guaranteed threshold does not keep its promise."""
_FIRST = 0.25
"""Share of the answers, the surest, in the first test. With a smaller share a single error ends all tests; with a
larger one, a model that is right on only a small part proves nothing. Chosen on simulated models."""


@dataclass(frozen=True)
class Threshold:
    """The confidence from which on the small model answers by itself."""

    value: float
    guaranteed: bool
    """Whether, but for a chance of `DELTA`, answers that reach it have the required score, on average over requests
    like the validation part's. Otherwise the validation part only suggests it."""
    examples: int
    """Independent validation answers: near copies, or the rows of one group, count as one."""
    doubt: str = ""
    """Why there is no guarantee."""
    grouped: bool = False
    """Whether groups were drawn rather than requests; the guarantee then holds for the mean group."""

    def accepts(self, record: Record) -> bool:
        """Whether the small model answers this record by itself."""
        return (record.confidence or 0) >= self.value


@dataclass(frozen=True)
class Drawing:
    """How a validation part was drawn, as far as a guarantee depends on it."""

    unit: Mapping[str, object] = field(default_factory=dict)
    """By the id of a record, the unit with which it is right or wrong; a record that is missing is its own unit."""
    doubt: str = ""
    """Why future requests differ from the validation part, or how the model already used it."""


@dataclass(frozen=True)
class CascadeResult:
    """The small model's result where its confidence reaches the threshold."""

    coverage: float
    """Share of requests that it answers itself, each example by its weight."""
    accepted: int
    """Number of examples that it answers itself."""
    primary_metric: Interval | None
    """The primary metric of those answers, over whole groups where there are groups; None without answers."""


@dataclass(frozen=True)
class CascadePoint:
    """A cascade at one threshold, on one test split."""

    threshold: float
    coverage: float
    inside: float
    """The primary metric of the small model's own answers."""
    whole: float | None
    """The primary metric of all answers, the API's included; None where the API was not measured."""
    usd_per_month: float
    """The small model's machines, and the API for the rest."""


def cascade_curve(
    records: Sequence[Record], answered: Sequence[Record], own_usd: float, api_usd: float
) -> list[CascadePoint]:
    """The cascade at about twenty thresholds, from the surest few answers to all of them.

    Args:
        records: the small model's records of one split.
        answered: the API's records; they count only where the API answered the whole split.
        own_usd, api_usd: cost of a month of all requests on each.
    """
    other = {record.id: record.primary_metric for record in answered}
    measured = all(record.id in other for record in records)
    ranked, ends = _surest_first(records)
    weights = list(accumulate(record.weight for record in ranked))
    points = []
    for count in _steps(weights, ends):
        inside, rest = ranked[:count], ranked[count:]
        own = [record.primary_metric for record in inside]
        both = own + [other[record.id] for record in rest] if measured else []
        coverage = weights[count - 1] / weights[-1]
        points.append(
            CascadePoint(
                ranked[count - 1].confidence or 0.0,
                coverage,
                _share(own),
                _share(both) if measured else None,
                own_usd + (1 - coverage) * api_usd,
            )
        )
    return points


def _share(measured: Sequence[Ratio]) -> float:
    return sum(each.part for each in measured) / max(sum(each.whole for each in measured), 1e-12)


ONE_BY_ONE = Drawing()
"""Each answer was drawn by itself, and future requests will be too."""


def choose_threshold(validation: Sequence[Record], least: float, drawing: Drawing = ONE_BY_ONE) -> Threshold | None:
    """A low confidence at or above which the answers' primary metric reaches `least`.

    It has a guarantee where one can be proven. Else it is the lowest at which the validation answers reach `least`;
    None where there is none.
    """
    singles = list({drawing.unit.get(record.id, record.id): record for record in validation}.values())
    doubt = drawing.doubt or _doubt_of_weights(validation)
    proven = None if doubt else _proven(singles, least)
    if proven is not None:
        return Threshold(proven, True, len(singles), grouped=groups_of(validation) is not None)
    ranked, ends = _surest_first(validation)
    parts = list(accumulate(record.primary_metric.part for record in ranked))
    wholes = list(accumulate(record.primary_metric.whole for record in ranked))
    good = (n for n in reversed(ends) if n >= MIN_ACCEPTED and parts[n - 1] >= least * wholes[n - 1])
    why = doubt or _shortage(len(singles), least)
    return next((Threshold(ranked[n - 1].confidence or 0.0, False, len(singles), why) for n in good), None)


def _doubt_of_weights(validation: Sequence[Record]) -> str:
    """Why rows of different weight prove nothing: the tests count answers, and the goal is about their weights."""
    differ = len({record.weight for record in validation}) > 1
    return "its rows have different weights, and the tests count each answer once" if differ else ""


def _shortage(count: int, least: float) -> str:
    """Why `count` answers prove nothing."""
    if least == 1:
        return "examples can't prove that no answer is ever wrong"
    if count < _fewest(least):
        return f"{count:,} independent answers are too few, it takes {_fewest(least):,} that are all sure and right"
    return "its surest answers hold too many errors to prove it with so few"


def _fewest(least: float) -> int:
    """The number of answers that prove a primary metric if all of them are right."""
    return ceil(log(DELTA) / log(least))


def _proven(singles: Sequence[Record], least: float) -> float | None:
    """The last threshold that passes, testing one after the other up to the first that fails."""
    if least == 1:
        return None
    ranked, ends = _surest_first(singles)
    lost = list(accumulate(1 - record.score for record in ranked))
    binary = all(record.score in (0, 1) for record in ranked)
    first = max(_fewest(least), _FIRST * len(ranked))
    counts = [n for n in _steps(range(1, len(ranked) + 1), ends) if n >= first]
    passed = list(takewhile(lambda n: _chance(lost[n - 1], n, 1 - least, binary=binary) <= DELTA, counts))
    return ranked[passed[-1] - 1].confidence if passed else None


def _chance(lost: float, count: int, allowed: float, *, binary: bool) -> float:
    """An upper bound of the chance to lose this little or less if the mean loss is more than `allowed`.

    For right and wrong answers it is the binomial's; else the smaller of Hoeffding's and Bentkus' bounds, for losses
    between 0 and 1 (Bates et al. 2021, section 3.1).
    """
    from scipy.stats import binom

    if binary:
        return float(binom.cdf(round(lost), count, allowed))
    mean = min(lost / count, allowed)
    left = mean * log(mean / allowed) if mean else 0.0
    right = (1 - mean) * log((1 - mean) / (1 - allowed))
    return min(exp(-count * (left + right)), e * float(binom.cdf(ceil(lost), count, allowed)))


def _surest_first(records: Sequence[Record]) -> tuple[list[Record], list[int]]:
    """(the records by falling confidence, the numbers of them that a threshold may accept). A threshold accepts records
    of equal confidence only together."""
    ranked = sorted(records, key=lambda record: -(record.confidence or 0))
    confidence = [record.confidence for record in ranked]
    total = len(confidence)
    return ranked, [n for n in range(1, total + 1) if n == total or confidence[n] != confidence[n - 1]]


def _steps(weights: Sequence[float], ends: Sequence[int]) -> list[int]:
    """About twenty of the possible numbers of accepted records, evenly spaced.

    Args:
        weights: of the first record, of the first two, and so on.
        ends: the possible numbers, up to all records.
    """
    if not ends:
        return []
    targets = [weights[-1] * part / _POINTS for part in range(1, _POINTS)]
    return sorted({ends[-1]} | {next(end for end in ends if weights[end - 1] >= target) for target in targets})


def apply_threshold(records: Sequence[Record], threshold: Threshold) -> CascadeResult:
    """The small model's result on some records at a threshold."""
    accepted = [record for record in records if threshold.accepts(record)]
    inside = ratio([record.primary_metric for record in accepted], groups_of(accepted)) if accepted else None
    coverage = sum(record.weight for record in accepted) / sum(record.weight for record in records)
    return CascadeResult(coverage, len(accepted), inside)

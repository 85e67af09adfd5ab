"""The cascade: the small model answers what it is sure of, the API answers the rest.

The threshold comes with a guarantee where there are validation examples enough. Source: Learn-then-Test (Angelopoulos
et al. 2021), by testing one threshold after the other from the surest answers on (fixed sequence), so that it does not
matter how many are tried.
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
"""Fewer accepted answers than this say nothing about their accuracy."""
DELTA = 0.1
"""The chance that a guaranteed threshold does not keep its promise, over drawings of the validation part."""
_FIRST = 0.25
"""Share of the answers, the surest, that is tested first. With fewer a single error ends all tests; with more, a model
that is right on a small part only proves nothing. Chosen on simulated models."""


@dataclass(frozen=True)
class Threshold:
    """Confidence from which the small model answers by itself."""

    value: float
    guaranteed: bool
    """Whether, but for a chance of `DELTA`, what reaches it is worth what was asked for, on average over requests like
    the validation part's. Otherwise it is only what the validation part suggests."""
    examples: int
    """Validation answers that can be taken for drawn one by one: of alike ones, or of one group, one counts."""
    doubt: str = ""
    """Why there is no guarantee."""
    grouped: bool = False
    """Whether groups were drawn rather than requests: what is guaranteed holds for the mean group."""

    def accepts(self, record: Record) -> bool:
        """Whether the small model answers this one by itself."""
        return (record.confidence or 0) >= self.value


@dataclass(frozen=True)
class Drawing:
    """How a validation part came about, as far as a guarantee hangs on it."""

    unit: Mapping[str, object] = field(default_factory=dict)
    """By the id of a record, what it is right or wrong together with; each by itself where nothing is said."""
    doubt: str = ""
    """Why what is to come is not like it, or why the model was not made without it."""


@dataclass(frozen=True)
class CascadeResult:
    """How the small model does where its confidence reaches `threshold`."""

    coverage: float
    """Share of requests it answers itself."""
    accepted: int
    """Examples that these are."""
    primary_metric: Interval | None
    """Of those answers, over whole groups where there are groups; None where there are none."""


@dataclass(frozen=True)
class CascadePoint:
    """A cascade at one threshold, on one test split."""

    threshold: float
    coverage: float
    inside: float
    """The primary metric of what the small model answers itself."""
    whole: float | None
    """The primary metric of all answers, the API's included; None where it was not measured."""
    usd_per_month: float
    """The small model's machines, and the API for the rest."""


def cascade_curve(
    records: Sequence[Record], answered: Sequence[Record], own_usd: float, api_usd: float
) -> list[CascadePoint]:
    """`answer if sure, else ask the API` at some thresholds, from the surest few answers to all of them.

    Args:
        records: the small model's, of one split.
        answered: the API's, as far as it was measured; it counts only where it answered the whole split.
        own_usd, api_usd: what a month of all requests costs on each.
    """
    other = {record.id: record.primary_metric for record in answered}
    measured = all(record.id in other for record in records)
    ranked, ends = _surest_first(records)
    points = []
    for count in _steps(len(ranked), ends):
        inside, rest = ranked[:count], ranked[count:]
        own = [record.primary_metric for record in inside]
        both = own + [other[record.id] for record in rest] if measured else []
        coverage = count / len(ranked)
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
"""Each answer was drawn by itself, as what is to come will be."""


def choose_threshold(validation: Sequence[Record], least: float, drawing: Drawing = ONE_BY_ONE) -> Threshold | None:
    """A low confidence at or above which answers reach a primary metric: one with a guarantee; else the lowest whose
    validation answers reach it; None where there is none."""
    singles = list({drawing.unit.get(record.id, record.id): record for record in validation}.values())
    proven = None if drawing.doubt else _proven(singles, least)
    if proven is not None:
        return Threshold(proven, True, len(singles), grouped=groups_of(validation) is not None)
    ranked, ends = _surest_first(validation)
    parts = list(accumulate(record.primary_metric.part for record in ranked))
    wholes = list(accumulate(record.primary_metric.whole for record in ranked))
    good = (n for n in reversed(ends) if n >= MIN_ACCEPTED and parts[n - 1] >= least * wholes[n - 1])
    doubt = drawing.doubt or _shortage(len(singles), least)
    return next((Threshold(ranked[n - 1].confidence or 0.0, False, len(singles), doubt) for n in good), None)


def _shortage(count: int, least: float) -> str:
    """Why so many answers prove nothing."""
    if least == 1:
        return "that no answer is ever wrong can't be proven from examples"
    if count < _fewest(least):
        return f"{count:,} independent answers are too few, it takes {_fewest(least):,} that are all sure and right"
    return "among the answers that it is surest of there are too many errors to prove it with so few"


def _fewest(least: float) -> int:
    """Answers that prove a primary metric if all of them are right."""
    return ceil(log(DELTA) / log(least))


def _proven(singles: Sequence[Record], least: float) -> float | None:
    """The last threshold that the tests pass, one after the other up to the first that fails."""
    if least == 1:
        return None
    ranked, ends = _surest_first(singles)
    lost = list(accumulate(1 - record.score for record in ranked))
    binary = all(record.score in (0, 1) for record in ranked)
    first = max(_fewest(least), _FIRST * len(ranked))
    counts = [n for n in _steps(len(ranked), ends) if n >= first]
    passed = list(takewhile(lambda n: _chance(lost[n - 1], n, 1 - least, binary=binary) <= DELTA, counts))
    return ranked[passed[-1] - 1].confidence if passed else None


def _chance(lost: float, count: int, allowed: float, *, binary: bool) -> float:
    """The most that the chance can be of losing as little or less, if more than is allowed is lost on average.

    Of right and wrong answers it is the binomial's; else the smaller bound of Hoeffding and of Bentkus, for losses
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
    """(the records by falling confidence, how many of them a threshold may accept: equal ones only together)."""
    ranked = sorted(records, key=lambda record: -(record.confidence or 0))
    sure = [record.confidence for record in ranked]
    return ranked, [n for n in range(1, len(sure) + 1) if n == len(sure) or sure[n] != sure[n - 1]]


def _steps(total: int, ends: Sequence[int]) -> list[int]:
    """Of the numbers of accepted records about twenty, evenly spaced."""
    wanted = [total * part / _POINTS for part in range(1, _POINTS + 1)]
    return sorted({next(end for end in ends if end >= most) for most in wanted}) if ends else []


def apply_threshold(records: Sequence[Record], threshold: Threshold) -> CascadeResult:
    accepted = [record for record in records if threshold.accepts(record)]
    inside = ratio([record.primary_metric for record in accepted], groups_of(accepted)) if accepted else None
    return CascadeResult(len(accepted) / len(records), len(accepted), inside)

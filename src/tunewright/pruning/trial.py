"""One prompt that was tried: its model's answers to the validation part, compared with those of the whole prompt."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tunewright.core.errors import UserError
from tunewright.core.samples import evenly
from tunewright.evaluation.evidence import Record, groups_of, latency
from tunewright.evaluation.statistics.intervals import ratio
from tunewright.evaluation.statistics.pairs import Paired, paired, pairs_needed
from tunewright.tasks.measures import Ratio

MOST = 1000
"""Validation rows that each model answers, one at a time."""
_MOST_HELD = 100_000
"""Validation rows up to which the fewest that are enough are sought."""
_RESERVE = 1.05
"""Whole groups are held out, so the validation part may be somewhat smaller than its share of the rows."""
_LARGEST_SHARE = 0.5
"""Of a larger validation part a model learns too little to speak for the one that is trained afterwards."""

PromptOutcome = Literal["whole", "no loss", "worse", "not shown"]
"""whole: all others are compared with this prompt. no loss: shown to be worse by no more than the margin. worse: shown
to be worse. not shown: neither."""


@dataclass(frozen=True)
class PromptTrial:
    """The figures of a prompt, as `prune.json` keeps them."""

    name: str
    keys: dict[str, str]
    """As in `PromptVariant`."""
    outcome: PromptOutcome
    primary_metric: float
    """On the validation part, 0 to 1."""
    prompt_tokens: float
    """Mean of a request."""
    median_ms: float
    """Of a request to the bundle's own server, one at a time. The server computes what all prompts begin with once."""
    difference: float = 0.0
    """Of the primary metric, from the whole prompt's; negative: worse."""
    low: float = 0.0
    high: float = 0.0
    """The ends of its 95 % interval."""
    at_least: float = 0.0
    """The difference is not below this, up to an error of 5 %."""
    rows_needed: int | None = None
    """Validation rows that would show no loss if there is none; only where nothing is shown."""


def trial_of(
    name: str, keys: dict[str, str], records: Sequence[Record], whole: Sequence[Record], margin: float
) -> PromptTrial:
    """The figures of a prompt.

    Args:
        records: its model's answers.
        whole: those of the model with the whole prompt, to the same examples.
        margin: the share that may be lost.
    """
    groups = groups_of(records)
    measured = [each.primary_metric for each in records]
    metric = ratio(measured, groups).value
    tokens = fmean((each.prompt_tokens for each in records), [each.weight for each in records])
    speed = latency(records).p50_ms
    if records is whole:
        return PromptTrial(name, keys, "whole", metric, tokens, speed)
    of_whole = {each.id: each.primary_metric for each in whole}
    pair = paired(measured, [of_whole[each.id] for each in records], groups)
    outcome, gap = _outcome(pair, margin), pair.difference
    needed = pairs_needed(margin, pair.variance) if outcome == "not shown" else None
    return PromptTrial(name, keys, outcome, metric, tokens, speed, gap.value, gap.low, gap.high, pair.at_least, needed)


def _outcome(pair: Paired, margin: float) -> PromptOutcome:
    if pair.not_inferior(margin):
        return "no loss"
    return "worse" if pair.difference.high < 0 and not pair.difference.doubt else "not shown"


def require_provable(weights: Sequence[float], groups: Sequence[str] | None, margin: float, rows: int) -> None:
    """Refuse a validation part on which even equal answers would not show that nothing is lost.

    Args:
        weights: how much each example counts.
        groups: as of `paired`.
        rows: those of training and validation part together.

    Raises:
        UserError: it is too small, or has too few groups.
    """
    if not weights:
        raise UserError(
            "There is no validation row on which a shorter prompt could be compared.",
            fix="Hold some out with data.validation_fraction, such as 0.2.",
        )
    pair = _equal(weights, groups)
    if pair.not_inferior(margin):
        return
    ways = [_more_rows(_rows_needed(weights, groups, margin), rows)]
    if not pair.difference.doubt:
        least = math.ceil(1000 * -pair.at_least) / 1000
        ways.append(f"Or allow the loss that these rows can rule out: goal.margin={least:g}")
    raise UserError(
        f"{len(weights):,} validation rows can't show that a shorter prompt loses at most {100 * margin:g} points.",
        why=f"There are {pair.difference.doubt}."
        if pair.difference.doubt
        else f"Even if no answer changed, a loss of {-100 * pair.at_least:.1f} points could not be ruled out.",
        fix=" ".join(ways),
    )


def _equal(weights: Sequence[float], groups: Sequence[str] | None) -> Paired:
    same = [Ratio(weight, weight) for weight in weights]
    return paired(same, same, groups)


def _rows_needed(weights: Sequence[float], groups: Sequence[str] | None, margin: float) -> int | None:
    """The fewest validation rows that show no loss if no answer changes; None: no number does.

    Args:
        weights, groups: those of fewer rows. The further ones are taken to be like these, in groups of their own.
    """
    count = len(weights)

    def enough(size: int) -> bool:
        asked = evenly(range(size), MOST)
        others = [f"{each // count} {groups[each % count]}" for each in asked] if groups else None
        return _equal([weights[each % count] for each in asked], others).not_inferior(margin)

    sizes = range(count, _MOST_HELD)
    first = bisect_left(sizes, True, key=enough)
    return sizes[first] if first < len(sizes) else None


def _more_rows(needed: int | None, rows: int) -> str:
    """How to get the validation rows that are needed.

    Args:
        rows: as of `require_provable`.
    """
    if needed is None:
        return "More rows would not change that."
    share = math.ceil(20 * _RESERVE * needed / rows) / 20
    least = f"At least {needed:,} rows like these are needed"
    if share > _LARGEST_SHARE:
        return f"{least}, and {rows:,} rows are too few to hold out so many: add some."
    return f"{least}, so hold out more (data.validation_fraction={share:g})."

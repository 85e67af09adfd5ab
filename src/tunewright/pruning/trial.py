"""One prompt that was tried: its model's answers to the validation part, compared with those of the whole prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from tunewright.core.errors import UserError
from tunewright.evaluation.evidence import Record, groups_of, latency
from tunewright.evaluation.statistics.intervals import ratio
from tunewright.evaluation.statistics.pairs import Paired, paired, pairs_needed
from tunewright.tasks.measures import Ratio

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


def require_provable(weights: Sequence[float], groups: Sequence[str] | None, margin: float) -> None:
    """Refuse a validation part on which even equal answers would not show that nothing is lost.

    Args:
        weights: how much each example counts.
        groups: as of `paired`.

    Raises:
        UserError: it is too small, or has too few groups.
    """
    same = [Ratio(weight, weight) for weight in weights]
    pair = paired(same, same, groups)
    if pair.not_inferior(margin):
        return
    raise UserError(
        f"{len(weights):,} validation rows can't show that a shorter prompt loses at most {100 * margin:g} points.",
        why=pair.difference.doubt
        or f"Even if no answer changed, a loss of {-100 * pair.at_least:.1f} points could not be ruled out.",
        fix="Hold out more rows, such as data.validation_fraction=0.3, or allow a larger loss: goal.margin=0.05",
    )

"""What a search for the shortest prompt found, in words."""

from __future__ import annotations

from tunewright.pruning.search import Pruning
from tunewright.pruning.trial import MOST, PromptTrial


def sentence(found: Pruning) -> str:
    """The result, for the person who decides."""
    whole, best, last = found.whole, found.shortest, found.trials[-1]
    parts = []
    if best is whole:
        parts.append("Leave the prompt as it is.")
    else:
        share = 1 - best.prompt_tokens / whole.prompt_tokens
        parts.append(
            f"Without {best.name} a request takes {best.prompt_tokens:.0f} tokens in place of "
            f"{whole.prompt_tokens:.0f} ({100 * share:.0f} % fewer) and {best.median_ms:.1f} ms in place of "
            f"{whole.median_ms:.1f}. On {found.rows:,} validation rows the {found.metric} changes by "
            f"{_points(best.difference)} points and falls by no more than {_most_lost(best)}; up to "
            f"{100 * found.margin:g} may be lost."
        )
    if last.outcome == "worse":
        parts.append(
            f"Without {last.name} it is worse by {100 * -last.difference:.1f} points ({100 * -last.high:.1f} to "
            f"{100 * -last.low:.1f})."
        )
    elif last.outcome == "not shown":
        parts.append(
            f"Without {last.name} it changes by {_points(last.difference)} points, and a loss of {_most_lost(last)} "
            f"can't be ruled out{_enough(last)}."
        )
    if found.untried:
        parts.append(f"Not tried after that: without {', without '.join(found.untried)}.")
    return " ".join(parts)


def _enough(trial: PromptTrial) -> str:
    if trial.rows_needed is None:
        return ""
    beyond = f", more than the {MOST:,} that are asked at most" if trial.rows_needed > MOST else ""
    return f"; about {trial.rows_needed:,} validation rows would be enough{beyond}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _most_lost(trial: PromptTrial) -> str:
    return f"{max(0.0, -100 * trial.at_least):.1f}"

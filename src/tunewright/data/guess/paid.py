"""The API that gave a log's answers, as far as the log knows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunewright.data.guess.yaml_text import yaml_scalar, yaml_text
from tunewright.data.readers.forms import LOGGED
from tunewright.data.text import system_prompt
from tunewright.logs.span import DAYS_OF_MONTH, TimeSpan
from tunewright.logs.values import mapping, moment, text
from tunewright.tasks import Example

_ALIKE = 0.9
"""The share of requests that have the same system prompt, where it is the job's."""
_LEAST_DAYS = 1.0
"""Days of a log from which a month's requests can be counted."""

NameInBook = Callable[[str | None, str | None], str | None]
"""(a model's name in a request, in its answer) -> its name in the price book; None: it is not there."""


@dataclass(frozen=True)
class PaidToday:
    """What is known of the API that does a job today."""

    model: str = ""
    """Its name in the price book; empty: not known."""
    deployment: str = ""
    """Its name at the endpoint; empty where that is the same."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """Of a mean request and its answer; None: nobody counted them, or the rows have the counts."""
    prompt: str = ""
    """Its system prompt; empty where that varies from request to request."""
    requests_per_month: int | None = None
    """None: not known."""
    counted: str = ""
    """Of which calls of a log the month was counted; empty: it was not."""
    is_recorded: bool = False
    """Whether the rows are its answers to what it was really asked."""

    @property
    def in_yaml(self) -> PaidToday:
        """The same with its texts as YAML has them."""
        model, deployment = (yaml_scalar(name) if name else "" for name in (self.model, self.deployment))
        return replace(self, model=model, deployment=deployment, prompt=yaml_text(self.prompt) if self.prompt else "")


def paid_in(examples: Sequence[Example], book: NameInBook) -> PaidToday | None:
    """What a log's calls say of the API; None: they name no model, or the examples are of no log."""
    calls = [call for each in examples if (call := mapping(each.meta.extra.get(LOGGED)))]
    asked = Counter(name for call in calls if (name := _model(call)))
    if not asked:
        return None
    ((name, _),) = asked.most_common(1)
    answered = [text(call.get("answered_model")) for call in calls if _model(call) == name]
    model, (month, counted) = book(name, answered[-1]) or "", _month(calls)
    return PaidToday(
        model=model,
        deployment="" if model == name else name,
        prompt=usual_prompt(list(map(system_prompt, examples))),
        requests_per_month=month,
        counted=counted,
    )


def usual_prompt(prompts: Sequence[str]) -> str:
    """The system prompt that nearly all of some requests have; empty if there is none."""
    ((usual, count),) = Counter(prompts).most_common(1) or [("", 0)]
    return usual if count >= _ALIKE * len(prompts) else ""


def _model(call: Mapping[str, Any]) -> str | None:
    return text(call.get("model")) or text(call.get("answered_model"))


def _month(calls: Sequence[Mapping[str, Any]]) -> tuple[int | None, str]:
    """(the requests of a month, the calls of which that was counted, in words); (None, empty): most calls have no time,
    or all were made in less than a day. A few calls from long before or after the others don't count."""
    span, times = TimeSpan(), [time for call in calls if (time := moment(call.get("time")))]
    for time in times:
        span.add(time.isoformat())
    apart = span.outliers
    count, days = (apart.others, apart.days) if apart else (len(times), span.days or 0.0)
    if 2 * len(times) <= len(calls) or days < _LEAST_DAYS:
        return None, ""
    return max(1, round(count * DAYS_OF_MONTH / days)), f"{count:,} calls in {days:.3g} days"

"""`generate`: free text, such as an answer or a summary."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tunewright.config.sections import LeaveOut
from tunewright.tasks.base import FreeText
from tunewright.tasks.example import Conversation
from tunewright.tasks.measures import Ratio
from tunewright.tasks.texts import chrf, copied, repeated, rouge_l


class GenerateTask(Conversation):
    """Write an answer.

    Args:
        instruction: the system prompt.
        max_tokens: tokens that an answer may have; None: derived from the longest training answer.
        stop: texts that end an answer and are not part of it.
        lead: the text that the assistant writes before an answer; see `fitted`.
        leave_out: what of the instruction the model is not shown.
    """

    kind = "generate"
    primary_metric = "chrF"

    def __init__(
        self,
        instruction: str,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        lead: str = "",
        leave_out: LeaveOut = "nothing",
    ):
        super().__init__("" if leave_out == "instruction" else instruction, lead, whole=instruction)
        self._constraint = FreeText(max_tokens, tuple(stop))

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> GenerateTask:  # noqa: ARG002 (the protocol)
        """This task unchanged: chat models begin an answer with its first word."""
        return self

    @property
    def constraint(self) -> FreeText:
        return self._constraint

    @property
    def summary(self) -> str:
        return "free text"

    def claim(self, share: str) -> str:
        return f"reaches a chrF of {share}"

    @property
    def answers(self) -> list[str]:
        return []

    def canonical(self, answer: str) -> str:
        """An answer up to the first stop text, without white space around it, with \\n as line ends."""
        return cut_at_stop(re.sub(r"\r\n?", "\n", answer), self._constraint.stop).strip()

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:
        """The scores of an answer: chrF and ROUGE-L against the right one, whether it is the same, how much of it is
        copied from the request, and how much is repeated.
        """
        return {
            self.primary_metric: Ratio(chrf(gold, answer), 1),
            "ROUGE-L": Ratio(rouge_l(gold, answer), 1),
            "exact": Ratio(float(gold == answer), 1),
            "copied": copied(request, answer),
            "repeated": repeated(answer),
        }


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """A text up to its first stop text."""
    return text[: min((place for each in stop if (place := text.find(each)) >= 0), default=len(text))]

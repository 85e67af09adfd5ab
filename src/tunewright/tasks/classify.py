"""`classify`: one label of a fixed set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tunewright.tasks.base import OneOf, Unfit
from tunewright.tasks.conversation import Conversation
from tunewright.tasks.measures import Ratio


class ClassifyTask(Conversation):
    """Choose one label.

    Args:
        instruction: the system prompt; `{labels}` in it stands for the label list.
        labels: each label with a one-line description (may be empty).
        lead: what the assistant writes before a label; see `fitted`.
    """

    kind = "classify"
    headline = "accuracy"

    def __init__(self, instruction: str, labels: Mapping[str, str], lead: str = ""):
        self.instruction, self.labels = instruction, dict(labels)
        listing = "\n".join(f"- {label}: {text}" if text else f"- {label}" for label, text in labels.items())
        super().__init__(instruction.replace("{labels}", listing), lead)

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> ClassifyTask:
        """This task with its labels written as a model knows them: after a space, where that takes fewer tokens.

        Most byte-level vocabularies hold a word with the space before it (" refund" is one token of SmolLM2, "refund"
        is "ref" + "und"), and what a model knows about a word hangs on that token.

        Args:
            encode: text -> its token ids.
        """

        def tokens(lead: str) -> int:
            return sum(len(encode(lead + label)) for label in self.labels)

        return ClassifyTask(self.instruction, self.labels, min("", " ", key=tokens))

    @property
    def constraint(self) -> OneOf:
        return OneOf(tuple(self.labels))

    @property
    def summary(self) -> str:
        return f"{len(self.labels)} labels"

    def claim(self, share: str) -> str:
        return f"is right on {share}"

    @property
    def answers(self) -> list[str]:
        return list(self.labels)

    def canonical(self, answer: str) -> str:
        label = answer.removeprefix(self.lead)
        if label not in self.labels:
            raise Unfit(f"'{label}' is none of the labels")
        return label

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:  # noqa: ARG002 (the protocol)
        return {"accuracy": Ratio(float(gold == answer), 1)}

"""`classify`: one label of a fixed set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunewright.tasks.example import Example, Message


class ClassifyTask:
    """Choose one label.

    Args:
        instruction: the system prompt; `{labels}` in it stands for the label list.
        labels: each label with a one-line description (may be empty).
    """

    kind = "classify"

    def __init__(self, instruction: str, labels: Mapping[str, str]):
        self.instruction, self.labels = instruction, dict(labels)
        listing = "\n".join(f"- {label}: {text}" if text else f"- {label}" for label, text in labels.items())
        self.system = instruction.replace("{labels}", listing).strip()

    @property
    def answers(self) -> list[str]:
        return list(self.labels)

    def prompt(self, request: str, shots: Sequence[Example] = ()) -> list[Message]:
        shown = [message for shot in shots for message in shot.messages]
        return [Message(role="system", content=self.system), *shown, Message(role="user", content=request)]

    def conversation(self, example: Example) -> list[Message]:
        return [*self.prompt(example.request), Message(role="assistant", content=example.answer)]

    def parse(self, text: str) -> str | None:
        stripped = text.strip()
        return stripped if stripped in self.labels else None

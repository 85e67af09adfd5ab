"""The fixed text around the input in users' messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tunewright.config.sections import INPUT


@dataclass(frozen=True)
class InputTemplate:
    before: str
    """Without white space at its beginning, as `after` has none at its end."""
    after: str

    @classmethod
    def of(cls, template: str) -> Self:
        """Args:
        template: both texts, with `{text}` between them.
        """
        before, _, after = template.partition(INPUT)
        return cls(before.lstrip(), after.rstrip())

    def __str__(self) -> str:
        return f"{self.before}{INPUT}{self.after}"

    def input_of(self, message: str) -> str:
        """What stands between the fixed texts; a message without them as it is. White space outside of them counts for
        nothing."""
        text = message.lstrip() if self.before else message
        text = text.rstrip() if self.after else text
        if len(text) < len(self.before) + len(self.after):
            return message
        if not (text.startswith(self.before) and text.endswith(self.after)):
            return message
        return text[len(self.before) : len(text) - len(self.after)]

    def around(self, text: str) -> str:
        """The message with this input."""
        return f"{self.before}{text}{self.after}"

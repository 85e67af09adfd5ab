"""Answers in free text, token by token: the likeliest at each place, until the model ends its turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from tunewright.inference.decoding.following import WritingConfig
from tunewright.models.tokenizer import TextTokenizer


class TextRules:
    """What ends an answer.

    Args:
        end: the token that ends an assistant's turn.
        stop: texts that end an answer too.
    """

    def __init__(self, tokenizer: TextTokenizer, end: int, stop: Sequence[str]):
        self.end, self.stop, self.decode = end, tuple(stop), tokenizer.decode
        # An answer is text: it can't end a turn by halves or open another speaker's.
        self.silent = np.array([token for token in tokenizer.control_tokens() if token != end], np.int64)

    def ending_at(self, stop: Sequence[str]) -> TextRules:
        """These rules with further texts that end an answer."""
        more = copy(self)
        more.stop = (*self.stop, *stop)
        return more

    def begin(self, most: int) -> TextWriter:
        """An answer that is to be written.

        Args:
            most: tokens after which it is cut.
        """
        return TextWriter(self, most)

    def follow(self, most: int) -> TextWriter:
        """As `begin`, for a model that writes by itself."""
        return self.begin(most)


class TextWriter:
    """An answer as it is written, token by token."""

    def __init__(self, rules: TextRules, most: int):
        self._rules, self._stop = rules, rules.stop
        self.wanted = WritingConfig(most, rules.end, silent=rules.silent.tolist())
        # A token has at least a byte; what was written before the last one held no stop yet.
        self._tail = max((len(each.encode()) for each in rules.stop), default=0)
        self.ids: list[int] = []
        """The tokens so far, without the one that ends the turn, a text that ended it included."""
        self.log_probabilities: list[float] = []
        """Of each token."""
        self.done = self.cut = False
        """Whether it is whole; whether it was cut, because it grew too long."""

    def choose(self, logits: npt.NDArray[np.float32]) -> None:
        """Go on with the likeliest token.

        Args:
            logits: of the token behind `ids`, [vocabulary].
        """
        among = logits.copy()
        among[self._rules.silent] = -np.inf
        best = int(among.argmax())
        among -= among[best]
        self.take(best, -float(np.log(np.exp(among, out=among).sum(dtype=np.float64))))

    def take(self, token: int, log_probability: float) -> None:
        """Go on with a token."""
        if token == self._rules.end:
            self.done = True
            return
        self.ids.append(token)
        self.log_probabilities.append(log_probability)
        stopped = bool(self._stop) and self._stopped()
        self.cut = not stopped and len(self.ids) >= self.wanted.most
        self.done = stopped or self.cut

    def finish(self) -> None:
        """End it here."""
        self.done = self.cut = True

    def _stopped(self) -> bool:
        tail = self._rules.decode(self.ids[-self._tail :])
        return any(each in tail for each in self._stop)


_LINE_END = re.compile(r"\r\n?")


class Shown:
    """What of a text that comes in pieces will stay as it is, whatever comes behind it.

    Nothing is shown that the answer's canonical form lacks, no half character, and not what may be the beginning of a
    text that ends it. Only what has not been shown yet is looked at.

    Args:
        stop: texts that end the answer.
    """

    def __init__(self, stop: Sequence[str]):
        self._stop = stop
        self._held = ""
        self.letters = 0
        """Those shown so far."""

    def add(self, piece: str) -> str:
        """What more can be shown with a further piece."""
        text = self._held + piece
        open_end = "\r" if text.endswith("\r") else ""  # a line feed may follow
        text = _LINE_END.sub("\n", text[: len(text) - len(open_end)])
        if not self.letters:
            text = text.lstrip()
        known = text.rstrip("\ufffd").rstrip()
        for each in self._stop:
            begun = next((size for size in range(len(each) - 1, 0, -1) if known.endswith(each[:size])), 0)
            known = known[: len(known) - begun].rstrip()
        self._held = text[len(known) :] + open_end
        self.letters += len(known)
        return known

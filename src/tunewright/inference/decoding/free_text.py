"""Answers in free text: the likeliest token at each place, until the model ends its turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import copy

import numpy as np
import numpy.typing as npt

from tunewright.inference.decoding.protocols import WritingConfig
from tunewright.models.tokenizer import TextTokenizer

_LINE_END = re.compile(r"\r\n?")
"""What the canonical form of an answer has \\n for."""


class TextRules:
    """The rules of an answer in free text.

    Args:
        end: the token that ends an assistant's turn.
        stop: texts that end an answer too.
    """

    def __init__(self, tokenizer: TextTokenizer, end: int, stop: Sequence[str]):
        self.end, self.stop, self.decode = end, tuple(stop), tokenizer.decode
        # An answer is text: it can't hold a part of an end of turn, or begin another speaker's turn.
        self.suppress_tokens = np.array([token for token in tokenizer.control_tokens() if token != end], np.int64)

    def ending_at(self, stop: Sequence[str]) -> TextRules:
        """These rules with further texts that end an answer."""
        more = copy(self)
        more.stop = (*self.stop, *stop)
        return more

    def begin(self, max_tokens: int, prompt: Sequence[int] = ()) -> TextWriter:  # noqa: ARG002 (the protocol)
        """An empty answer.

        Args:
            max_tokens: tokens after which the answer is cut.
        """
        return TextWriter(self, max_tokens)

    def follow(self, max_tokens: int) -> TextWriter:
        """Like `begin`, for a model that generates the whole answer itself."""
        return self.begin(max_tokens)


class TextWriter:
    """An answer in free text, generated token by token."""

    def __init__(self, rules: TextRules, max_tokens: int):
        self._rules, self._stop = rules, rules.stop
        self.config = WritingConfig(max_tokens, rules.end, suppress_tokens=rules.suppress_tokens.tolist())
        # A token has at least a byte, a line end at most two. The text before the last token holds no stop text yet.
        self._tail = max((len(each.encode()) + each.count("\n") for each in rules.stop), default=0)
        self.ids: list[int] = []
        """The tokens so far: with a stop text, but without the token that ends the turn."""
        self.log_probabilities: list[float] = []
        """One for each token."""
        self.done = self.cut = False
        """`done`: the answer is complete. `cut`: it grew too long."""

    def choose(self, logits: npt.NDArray[np.float32]) -> None:
        """Append the likeliest token.

        Args:
            logits: those after `ids`, [vocabulary].
        """
        allowed = logits.copy()
        # A tokenizer may have tokens that the model lacks, such as Gemma 3's for pictures.
        allowed[self._rules.suppress_tokens[self._rules.suppress_tokens < len(allowed)]] = -np.inf
        best = int(allowed.argmax())
        allowed -= allowed[best]
        self.take(best, -float(np.log(np.exp(allowed, out=allowed).sum(dtype=np.float64))))

    def take(self, token: int, log_probability: float) -> None:
        """Append a token."""
        if token == self._rules.end:
            self.done = True
            return
        self.ids.append(token)
        self.log_probabilities.append(log_probability)
        stopped = bool(self._stop) and self._stopped()
        self.cut = not stopped and len(self.ids) >= self.config.max_tokens
        self.done = stopped or self.cut

    def finish(self) -> None:
        """End the answer here."""
        self.done = self.cut = True

    def _stopped(self) -> bool:
        tail = _LINE_END.sub("\n", self._rules.decode(self.ids[-self._tail :]))
        return any(each in tail for each in self._stop)


class StableText:
    """The part of a streamed text that can be shown because later pieces won't change it.

    It holds back what the answer's canonical form lacks, half characters, and what may be the beginning of a stop text.
    It looks only at text that was not shown yet.

    Args:
        stop: texts that end the answer.
    """

    def __init__(self, stop: Sequence[str]):
        self._stop = stop
        self._pending = ""
        self.length = 0
        """Characters shown so far."""

    def ends_in(self, piece: str) -> bool:
        """Whether the next piece completes a stop text."""
        text, _ = self._with(piece)
        return any(each in text for each in self._stop)

    def add(self, piece: str) -> str:
        """Add a piece, and return the text that can be shown now."""
        text, open_end = self._with(piece)
        if not self.length:
            text = text.lstrip()
        stable = text.rstrip("\ufffd").rstrip()
        for each in self._stop:
            begun = next((size for size in range(len(each) - 1, 0, -1) if stable.endswith(each[:size])), 0)
            stable = stable[: len(stable) - begun].rstrip()
        self._pending = text[len(stable) :] + open_end
        self.length += len(stable)
        return stable

    def _with(self, piece: str) -> tuple[str, str]:
        """(the text that was not shown, with a further piece; what may be half a line end)."""
        text = self._pending + piece
        open_end = "\r" if text.endswith("\r") else ""  # a line feed may follow
        return _LINE_END.sub("\n", text[: len(text) - len(open_end)]), open_end

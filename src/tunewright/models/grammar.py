"""Answers confined to a grammar: which tokens may come next, and which must.

The grammar of a JSON Schema runs in llguidance, for torch and ONNX Runtime alike. Only canonical spacing is allowed, so
that what is written by force is what training has taught.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.tasks.json_schema import transformed
from tunewright.tasks.label_trie import NextTokenModel

_OUT_OF_TEXT = ('"}', '"]', '"', '","')
_ONWARD = ("}", "]", '"}', '"]', '"', "0", ",", '","')
"""What ends an answer soonest, inside a text and elsewhere, in order of preference."""


_YEAR = r"([1-9]\d{3}|0[1-9]\d{2}|00[1-9]\d|000[1-9])"
_LEAP_YEAR = r"(\d{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    rf"^({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)$"
)
"""The days there are; llguidance's own form of a date lets 31 February through."""


@dataclass(frozen=True)
class Decoded:
    """An answer's tokens, without the one that ends it."""

    ids: list[int]
    log_probabilities: list[float]
    """Of each token among those that the grammar allowed; 0 where it was the only one."""
    cut: bool
    """Whether it had to be brought to its end, because it was longer than allowed."""


class RecordGrammar:
    """The JSON records of a schema as tokens of one tokenizer.

    Args:
        folder: of the tokenizer.
        schema: of an object, and expressible: see `tunewright.spec.record_schema`.
        end: the token that ends an assistant's turn.
        vocabulary: width of the model's logits, where it is larger than the tokenizer's.
    """

    def __init__(self, folder: Path, schema: Mapping[str, Any], end: int, vocabulary: int | None = None):
        from llguidance import LLMatcher, LLTokenizer

        text = (folder / "tokenizer.json").read_text("utf-8")
        self._tokenizer = LLTokenizer(text, n_vocab=vocabulary, eos_token=end)
        self._grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(transformed(schema, _with_real_dates)), overrides={"whitespace_flexible": False}
        )
        self._end = end
        self._out_of_text, self._onward = (list(_tokens_of(self._tokenizer, t)) for t in (_OUT_OF_TEXT, _ONWARD))
        self._in_text = set(_tokens_of(self._tokenizer, ("a", "}")))

    def decode(self, model: NextTokenModel, prompt: Sequence[int], most: int) -> Decoded:
        """The greedy answer: at each place the likeliest token that the grammar allows.

        Args:
            most: tokens after which the answer is brought to its end by the shortest way.
        """
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, self._grammar)
        ids: list[int] = []
        scores: list[float] = []
        cut = False
        while True:
            if forced := matcher.compute_ff_tokens():
                matcher.consume_tokens(forced)
                ids += forced
                scores += [0.0] * len(forced)
            if matcher.is_stopped():
                break
            allowed = _allowed(matcher.compute_bitmask(), self._tokenizer.vocab_size)
            cut = len(ids) >= most
            token, score = self._shortest(allowed) if cut else _likeliest(model([*prompt, *ids]), allowed)
            matcher.consume_token(token)
            if token == self._end:
                break
            ids.append(token)
            scores.append(score)
        return Decoded(ids, scores, cut)

    def _shortest(self, allowed: npt.NDArray[np.int64]) -> tuple[int, float]:
        options = set(allowed.tolist())
        if self._end in options:
            return self._end, 0.0
        preferred = self._out_of_text if self._in_text <= options else self._onward
        return next((token for token in preferred if token in options), int(allowed[0])), 0.0


def _with_real_dates(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("format") != "date":
        return schema
    return {name: value for name, value in schema.items() if name != "format"} | {"pattern": _DATE}


def _allowed(mask: bytes, size: int) -> npt.NDArray[np.int64]:
    """The tokens of a bit mask, in order."""
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[:size]
    return np.flatnonzero(bits)


def _likeliest(logits: npt.NDArray[np.float32], allowed: npt.NDArray[np.int64]) -> tuple[int, float]:
    """The likeliest of the allowed tokens, and its log-probability among them."""
    among = logits[allowed].astype(np.float64)
    best = int(among.argmax())
    return int(allowed[best]), float(among[best] - np.logaddexp.reduce(among))


def _tokens_of(tokenizer: Any, texts: Sequence[str]) -> Iterator[int]:
    for text in texts:
        ids = tokenizer.tokenize_str(text)
        if len(ids) == 1:
            yield ids[0]

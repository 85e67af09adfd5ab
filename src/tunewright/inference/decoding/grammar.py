"""Answers confined to a grammar: which tokens may come next, and which must.

The grammar of a JSON Schema runs in llguidance, for torch and ONNX Runtime alike. Only canonical spacing is allowed, so
that what is written by force is what training has taught.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.config.json_schema import transformed
from tunewright.core.call import check_call
from tunewright.core.limits import ENDING_TOKENS
from tunewright.inference.decoding.following import WritingConfig
from tunewright.inference.decoding.shortest import Unbounded, require_bounded

_OUT_OF_TEXT = ('"}', '"]', '"', '","')
_OUT_OF_VALUES = ("}", "]", '"}', '"]', '"')
"""What ends an answer soonest, inside a text and elsewhere, in order of preference."""
_ONWARD = ("0", ",", '","', *".-:/@_ ")
"""What leads to where one of those may stand."""


_YEAR = r"([1-9]\d{3}|0[1-9]\d{2}|00[1-9]\d|000[1-9])"
_LEAP_YEAR = r"(\d{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    rf"^({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)$"
)
"""The days there are; llguidance's own form of a date lets 31 February through."""


class GrammarError(ValueError):
    """A schema that no grammar can be made of, or none whose answers come to an end."""


class RecordGrammar:
    """The JSON values of a schema as tokens of one tokenizer.

    Args:
        folder: of the tokenizer.
        schema: a spec's are known to be expressible: see `tunewright.config.record_schema`.
        end: the token that ends an assistant's turn.

    Raises:
        GrammarError: the schema is none, is not expressible, or is beyond the limits of `tunewright.core.limits`.
    """

    def __init__(self, folder: Path, schema: Mapping[str, Any], end: int):
        self.tokens = _vocabulary(folder, end)
        self.schema, self.grammar = _grammar_of(schema, self.tokens)
        self.end = end
        self.out_of_text, self.out_of_values, self.onward = (
            list(_tokens_of(self.tokens, texts)) for texts in (_OUT_OF_TEXT, _OUT_OF_VALUES, _ONWARD)
        )
        self.in_text = set(_tokens_of(self.tokens, ("a", "}")))

    def begin(self, most: int) -> RecordWriter:
        """A record that is to be written.

        Args:
            most: tokens after which it is brought to its end by the shortest way.
        """
        return RecordWriter(self, most)

    def follow(self, most: int) -> RecordFollower:
        """As `begin`, for a model that writes by itself."""
        return RecordFollower(self, most)


@lru_cache(8)
def _vocabulary(folder: Path, end: int) -> Any:
    """llguidance's view of a tokenizer; it takes half a second, and a request may bring a schema of its own."""
    from llguidance import LLTokenizer

    return LLTokenizer((folder / "tokenizer.json").read_text("utf-8"), eos_token=end)


def _grammar_of(schema: Mapping[str, Any], tokens: Any) -> tuple[dict[str, Any], str]:
    """The schema with dates that exist, and llguidance's grammar of it.

    Raises:
        GrammarError: as `RecordGrammar`.
    """
    from llguidance import LLMatcher

    try:
        require_bounded(schema)
        whole = transformed(schema, _with_real_dates)
        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(whole, allow_nan=False), overrides={"whitespace_flexible": False}
        )
        wrong = LLMatcher.validate_grammar(grammar, tokens)
    except Unbounded as error:
        raise GrammarError(str(error)) from None
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # of what is no schema, anywhere in it
        reason = f": {error}" if isinstance(error, ValueError) else ""
        raise GrammarError(f"it is no JSON Schema{reason}") from None
    if wrong:
        raise GrammarError(wrong)
    return whole, grammar


class RecordWriter:
    """A record as it is written, token by token. What must come is written at once, and no model is asked for it.

    Args:
        begun: the tokens it begins with, which the grammar allows.

    Raises:
        GrammarError: it can't come to its end within `ENDING_TOKENS` behind `most`; of `choose` too.
        Abandoned, OutOfTime: as `tunewright.core.call.check_call`; of `choose` too.
    """

    def __init__(self, rules: RecordGrammar, most: int, begun: Sequence[int] = ()):
        from llguidance import LLMatcher

        self._rules, self._most = rules, most
        self._matcher = LLMatcher(rules.tokens, rules.grammar)
        self.ids: list[int] = []
        """The tokens so far, without the one that ends the turn."""
        self.log_probabilities: list[float] = []
        """Of each token among those that the grammar allowed; 0 where nothing was decided."""
        self._led_on: Counter[int] = Counter()
        """How often each token was written to get where it can be brought to its end."""
        for token in begun:
            self._take(token, 0.0)
        self.done = self.cut = False
        """Whether it is whole; whether it had to be brought to its end, because it grew too long."""
        self._force()

    def choose(self, logits: npt.NDArray[np.float32]) -> None:
        """Go on with the likeliest token that is allowed.

        Args:
            logits: of the token behind `ids`, [vocabulary].
        """
        among = logits[(allowed := self._allowed())].astype(np.float64)
        best = int(among.argmax())
        self._take(int(allowed[best]), float(among[best] - np.logaddexp.reduce(among)))
        self._force()

    def _force(self) -> None:
        """Write what must come; and once it is too long, what brings it to its end."""
        while not self.done:
            check_call()
            forced = self._matcher.compute_ff_tokens()
            if len(self.ids) + len(forced) > self._most + ENDING_TOKENS:
                raise GrammarError(f"an answer of {self._most} tokens can't be ended within {ENDING_TOKENS} more")
            if forced:
                self._matcher.consume_tokens(forced)
                self.ids += forced
                self.log_probabilities += [0.0] * len(forced)
            if self._matcher.is_error():
                raise GrammarError(self._matcher.get_error())
            if self._matcher.is_stopped():
                self.done = True
            elif len(self.ids) >= self._most:
                self.cut = True
                self._take(self._shortest(), 0.0)
            else:
                return

    def _take(self, token: int, log_probability: float) -> None:
        self._matcher.consume_token(token)
        if token == self._rules.end:
            self.done = True
            return
        self.ids.append(token)
        self.log_probabilities.append(log_probability)

    def _allowed(self) -> npt.NDArray[np.int64]:
        """The tokens that may come next, in order."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        return np.flatnonzero(bits[: self._rules.tokens.vocab_size])

    def _shortest(self) -> int:
        """The token that is on the shortest way to the end, or at least on one.

        Where nothing can be closed yet, what was written least goes first: a pattern such as [0-9]+ would take the same
        token for ever.
        """
        options = set(self._allowed().tolist())
        if self._rules.end in options:
            return self._rules.end
        closing = self._rules.out_of_text if self._rules.in_text <= options else self._rules.out_of_values
        if (first := next((token for token in closing if token in options), None)) is not None:
            return first
        ranks = {token: rank for rank, token in enumerate(self._rules.onward)}
        token: int = min(options, key=lambda each: (self._led_on[each], ranks.get(each, len(ranks)), each))
        self._led_on[token] += 1
        return token


class RecordFollower:
    """A record that a model writes by itself, under the same grammar."""

    def __init__(self, rules: RecordGrammar, most: int):
        self._rules = rules
        self.wanted = WritingConfig(most, rules.end, rules.schema)
        self.ids: list[int] = []
        self.log_probabilities: list[float] = []
        self.done = self.cut = False

    def take(self, token: int, log_probability: float) -> None:
        if token == self._rules.end:
            self.done = True
            return
        self.ids.append(token)
        self.log_probabilities.append(log_probability)

    def finish(self) -> None:
        """Bring it to its end by the shortest way."""
        whole = RecordWriter(self._rules, len(self.ids), self.ids)
        self.log_probabilities += [0.0] * (len(whole.ids) - len(self.ids))
        self.ids, self.cut, self.done = whole.ids, True, True


def _with_real_dates(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("format") != "date":
        return schema
    return {name: value for name, value in schema.items() if name != "format"} | {"pattern": _DATE}


def _tokens_of(tokenizer: Any, texts: Sequence[str]) -> Iterator[int]:
    for text in texts:
        ids = tokenizer.tokenize_str(text)
        if len(ids) == 1:
            yield ids[0]

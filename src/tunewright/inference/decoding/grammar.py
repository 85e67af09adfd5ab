"""Answers under a grammar: the tokens that may come next, and those that must.

llguidance runs the grammar of a JSON Schema, for torch and ONNX Runtime alike. The grammar allows only canonical
spacing, so that forced tokens are those that the model was trained on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from tunewright.config.json_schema import transformed
from tunewright.config.literal import literal_fields
from tunewright.core.call import check_call
from tunewright.core.limits import ENDING_TOKENS, LITERAL_PIECES
from tunewright.inference.decoding.literal import literal_grammar
from tunewright.inference.decoding.protocols import WritingConfig
from tunewright.inference.decoding.shortest import Unbounded, require_bounded
from tunewright.models.tokenizer import TextPrompt, TextTokenizer
from tunewright.tasks.literal import pieces

_CLOSING_TEXT = ('"}', '"]', '"', '","')
_CLOSING_VALUE = ("}", "]", '"}', '"]', '"')
"""The tokens that end an answer soonest, inside a text and elsewhere, in order of preference."""
_ONWARD = ("0", ",", '","', *".-:/@_ ")
"""Tokens that lead to a place where one of those is allowed."""


_YEAR = r"([1-9]\d{3}|0[1-9]\d{2}|00[1-9]\d|000[1-9])"
_LEAP_YEAR = r"(\d{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    rf"^({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)$"
)
"""Dates that exist. llguidance's own form of a date lets 31 February through."""


class GrammarError(ValueError):
    """A schema has no grammar, or no answer to it comes to an end."""


class RecordGrammar:
    """The JSON values of a schema as tokens of one tokenizer.

    Args:
        schema: a spec's schema always has a grammar; `tunewright.config.record_schema` checks that.
        end: the token that ends an assistant's turn.
        literal: the schema is a task's, whose literal fields are confined to the request's text.

    Raises:
        GrammarError: the schema is not a JSON Schema, has no grammar, or breaks the limits of `tunewright.core.limits`.
    """

    def __init__(self, tokenizer: TextTokenizer, schema: Mapping[str, Any], end: int, *, literal: bool = False):
        self.tokens = _vocabulary(tokenizer, end)
        self.schema, self.grammar = _grammar_of(schema, self.tokens)
        self._is_literal = literal and next(literal_fields(self.schema), None) is not None
        self.end = end
        self.closing_text, self.closing_value, self.onward = (
            list(_tokens_of(self.tokens, texts)) for texts in (_CLOSING_TEXT, _CLOSING_VALUE, _ONWARD)
        )
        self.in_text = set(_tokens_of(self.tokens, ("a", "}")))

    def of(self, schema: Mapping[str, Any]) -> RecordGrammar:
        """The values of another schema, as the same tokens; its literal fields are not confined.

        Raises:
            GrammarError: as for this one.
        """
        other = copy(self)
        other.schema, other.grammar = _grammar_of(schema, self.tokens)
        other._is_literal = False
        return other

    def begin(self, max_tokens: int, prompt: Sequence[int] = ()) -> RecordWriter:
        """An empty record.

        Args:
            max_tokens: tokens after which the record takes the shortest way to its end.
            prompt: literal fields are confined to the text of a `TextPrompt`.
        """
        if self._is_literal and isinstance(prompt, TextPrompt):
            return RecordWriter(self._confined_to(prompt.text), max_tokens)
        return RecordWriter(self, max_tokens)

    def follow(self, max_tokens: int) -> RecordFollower:
        """Like `begin`, for a model that generates the whole record itself. Literal fields are not confined."""
        return RecordFollower(self, max_tokens)

    def _confined_to(self, text: str) -> RecordGrammar:
        parts = pieces(text)
        if len(parts) > LITERAL_PIECES:
            return self
        other = copy(self)
        other.grammar = literal_grammar(self.schema, parts)
        return other


_VOCABULARIES: WeakKeyDictionary[TextTokenizer, dict[int, Any]] = WeakKeyDictionary()
"""What `_vocabulary` gave for each tokenizer and end token. An entry goes with its tokenizer."""


def _vocabulary(tokenizer: TextTokenizer, end: int) -> Any:
    """llguidance's view of a tokenizer. Cached, because it takes half a second and any request may bring a schema."""
    from llguidance import LLTokenizer

    known = _VOCABULARIES.setdefault(tokenizer, {})
    if end not in known:
        known[end] = LLTokenizer(tokenizer.as_json(), eos_token=end)
    return known[end]


def _grammar_of(schema: Mapping[str, Any], tokens: Any) -> tuple[dict[str, Any], str]:
    """The schema with dates that exist, and llguidance's grammar of it.

    Raises:
        GrammarError: see `RecordGrammar`.
    """
    from llguidance import LLMatcher

    try:
        require_bounded(schema)
        whole = transformed(schema, _with_real_dates)
        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(whole, allow_nan=False), overrides={"whitespace_flexible": False}
        )
        problem = LLMatcher.validate_grammar(grammar, tokens)
    except Unbounded as error:
        raise GrammarError(str(error)) from None
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # some part of it is not a schema
        reason = f": {error}" if isinstance(error, ValueError) else ""
        raise GrammarError(f"it is no JSON Schema{reason}") from None
    if problem:
        raise GrammarError(problem)
    return whole, grammar


class RecordWriter:
    """A record, generated token by token. Tokens that the grammar forces are appended without a forward pass.

    Args:
        begun: the first tokens of the record; the grammar must allow them.

    Raises:
        GrammarError: the record can't end within `ENDING_TOKENS` after `max_tokens`. `choose` raises it too.
        Abandoned, OutOfTime: see `tunewright.core.call.check_call`. `choose` raises them too.
    """

    def __init__(self, rules: RecordGrammar, max_tokens: int, begun: Sequence[int] = ()):
        from llguidance import LLMatcher

        self._rules, self._max_tokens = rules, max_tokens
        self._matcher = LLMatcher(rules.tokens, rules.grammar)
        self.ids: list[int] = []
        """The tokens so far, without the one that ends the turn."""
        self.log_probabilities: list[float] = []
        """Of each token among those that the grammar allowed; 0 for a forced token."""
        self._onward_uses: Counter[int] = Counter()
        """How often each token was written to reach a place where the record can end."""
        for token in begun:
            self._take(token, 0.0)
        self.done = self.cut = False
        """`done`: the record is complete. `cut`: it grew too long and was ended."""
        self._force()

    def choose(self, logits: npt.NDArray[np.float32]) -> None:
        """Append the likeliest allowed token.

        Args:
            logits: those after `ids`, [vocabulary].
        """
        scores = logits[(allowed := self._allowed())].astype(np.float64)
        best = int(scores.argmax())
        self._take(int(allowed[best]), float(scores[best] - np.logaddexp.reduce(scores)))
        self._force()

    def _force(self) -> None:
        """Append the tokens that the grammar forces, and those that end a record that is too long."""
        while not self.done:
            check_call()
            forced = self._matcher.compute_ff_tokens()
            if len(self.ids) + len(forced) > self._max_tokens + ENDING_TOKENS:
                raise GrammarError(f"an answer of {self._max_tokens} tokens can't end within {ENDING_TOKENS} more")
            if forced:
                self._matcher.consume_tokens(forced)
                self.ids += forced
                self.log_probabilities += [0.0] * len(forced)
            if self._matcher.is_error():
                raise GrammarError(self._matcher.get_error())
            if self._matcher.is_stopped():
                self.done = True
            elif len(self.ids) >= self._max_tokens:
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
        """The next token of the shortest way to the end, or at least of some way.

        If nothing can be closed yet, the token that was used least comes first. Otherwise a pattern such as [0-9]+
        would take the same token for ever.
        """
        options = set(self._allowed().tolist())
        if self._rules.end in options:
            return self._rules.end
        closing = self._rules.closing_text if self._rules.in_text <= options else self._rules.closing_value
        if (first := next((token for token in closing if token in options), None)) is not None:
            return first
        ranks = {token: rank for rank, token in enumerate(self._rules.onward)}
        token: int = min(options, key=lambda each: (self._onward_uses[each], ranks.get(each, len(ranks)), each))
        self._onward_uses[token] += 1
        return token


class RecordFollower:
    """A record that a writing model generates under the same grammar."""

    def __init__(self, rules: RecordGrammar, max_tokens: int):
        self._rules = rules
        self.config = WritingConfig(max_tokens, rules.end, rules.schema)
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
        """End the record by the shortest way."""
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

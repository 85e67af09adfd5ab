"""Token counts of answers that come without, as most streams do: from other answers of the same model.

A stream has a usage block only if the client asks for one (`stream_options`), and the gateway changes no request.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tunewright.economics.usage import TokenUsage

_LEAST = 20
"""Answers with token counts from which others are estimated."""
_MOST_MODELS = 1000
"""Models that are kept apart; clients name them, so their number is bounded."""


@dataclass
class _Sums:
    answers: int = 0
    request_bytes: int = 0
    letters: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)


class UsageEstimates:
    """What the answers of each model had: tokens for each byte of the request and each letter of the answer."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sums] = {}

    def learn(self, upstream: str, model: str, request_bytes: int, letters: int, usage: TokenUsage) -> None:
        """Take an answer with token counts into account."""
        key = upstream, model
        if key not in self._sums and len(self._sums) >= _MOST_MODELS:
            return
        sums = self._sums.setdefault(key, _Sums())
        sums.answers += 1
        sums.request_bytes += request_bytes
        sums.letters += letters
        known = sums.usage
        sums.usage = TokenUsage(
            known.prompt_tokens + usage.prompt_tokens,
            known.answer_tokens + usage.answer_tokens,
            known.cached_tokens + usage.cached_tokens,
            known.cache_write_tokens + usage.cache_write_tokens,
            known.reasoning_tokens + usage.reasoning_tokens,
        )

    def estimate(self, upstream: str, model: str, request_bytes: int, letters: int) -> TokenUsage | None:
        """The token counts of an answer without; None: too little is known of its model."""
        sums = self._sums.get((upstream, model))
        if sums is None or sums.answers < _LEAST or not sums.request_bytes:
            return None
        read, written = request_bytes / sums.request_bytes, letters / max(1, sums.letters)
        return TokenUsage(
            round(sums.usage.prompt_tokens * read),
            round(sums.usage.answer_tokens * written),
            round(sums.usage.cached_tokens * read),
            round(sums.usage.cache_write_tokens * read),
            round(sums.usage.reasoning_tokens * written),
        )

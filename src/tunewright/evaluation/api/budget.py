"""A cap on spending: a request goes through only if it can't pass the cap."""

from __future__ import annotations

from threading import Condition
from typing import Any

from tunewright.core.artifacts import sha256_json
from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.paid import Paid

_TOKENS_A_BYTE = 1.0
"""Upper bound for a prompt: no tokenizer of today needs more. English has a quarter."""
_RESERVE = 1.2
"""Factor by which a prompt may have more tokens a byte than the densest so far."""
_FRAME = 64
"""Bytes of a conversation besides its text."""


class BudgetReachedError(Exception):
    """One more request could pass the limit."""


class Budget:
    """The money that may be spent on one model. Safe to use from several threads.

    An answer without a token count counts at the highest price it could have.

    Args:
        limit: in USD; it may be changed while nothing is asked.
        price: the model's price.
        section: the section of the spec whose `budget_usd` is the limit, for error messages.
        fewer: its key that sets how much is asked; empty: there is none.
    """

    def __init__(self, limit: float, price: ApiPrice, section: str = "baseline", fewer: str = "sample"):
        self.limit, self._price = limit, price
        self.section, self.fewer = section, fewer
        self._changed = Condition()
        self._reserved, self._under_way = 0.0, 0
        self._tokens_a_byte: float | None = None
        self._kept: set[str] = set()
        self.spent = 0.0
        """Cost in USD of the answers so far."""

    def reserve(self, size: int, most: int) -> float:
        """Set aside the highest cost of a request, in USD; wait for requests under way if they may leave enough.

        Args:
            size: bytes of the prompt.
            most: tokens that its answer may have.

        Raises:
            BudgetReachedError: the request could pass the limit.

        End each reservation by `settle`, `lose` or `release`.
        """
        with self._changed:
            while self.spent + self._reserved + (amount := self._most(size, most)) > self.limit:
                if not self._under_way:
                    raise BudgetReachedError
                self._changed.wait()
            self._reserved += amount
            self._under_way += 1
            return amount

    def _most(self, size: int, most: int) -> float:
        each = min(_RESERVE * self._tokens_a_byte, _TOKENS_A_BYTE) if self._tokens_a_byte else _TOKENS_A_BYTE
        return self._price.usd((size + _FRAME) * each, most)

    def allows(self, usd: float, size: int, most: int) -> bool:
        """Whether an amount can be spent and leave enough for one more request of that size."""
        with self._changed:
            return self.spent + usd + self._most(size, most) <= self.limit

    def settle(self, amount: float, size: int, most: int, answer: Paid) -> None:
        """End a reservation with the answer to its request."""
        with self._changed:
            self.release(amount)
            self.count(size, most, answer)

    def lose(self, amount: float) -> None:
        """End a reservation whose reply is no answer, but may be on the bill all the same."""
        with self._changed:
            self.release(amount)
            self.spent += amount

    def release(self, amount: float) -> None:
        """End a reservation whose request failed."""
        with self._changed:
            self._reserved -= amount
            self._under_way -= 1
            self._changed.notify_all()

    def count_kept(self, key: Any, size: int, most: int, answer: Paid) -> None:
        """Add the cost of an answer that was paid for before, once.

        Args:
            key: of the answer among the paid ones.
        """
        with self._changed:
            if (known := sha256_json(key)) not in self._kept:
                self._kept.add(known)
                self.count(size, most, answer)

    def count(self, size: int, most: int, answer: Paid) -> None:
        """Add an answer's cost to `spent`."""
        with self._changed:
            self.spent += answer.usd(self._price) if answer.prompt_tokens else self._most(size, most)
            seen = answer.prompt_tokens / (size + _FRAME)
            self._tokens_a_byte = max(self._tokens_a_byte or 0.0, seen) or None

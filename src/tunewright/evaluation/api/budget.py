"""A cap on what is spent: requests are let through only while it can't be passed."""

from __future__ import annotations

from threading import Condition

from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.paid import Paid

_TOKENS_A_BYTE = 1.0
"""Of a prompt at most: no tokenizer of today needs more. English has a quarter."""
_RESERVE = 1.2
"""What a prompt may cost over the dearest so far, byte by byte."""
_FRAME = 64
"""Bytes of a conversation that are not its text."""


class BudgetReachedError(Exception):
    """One more request could pass the limit."""


class Budget:
    """What may be spent on one model. Safe to use from several threads.

    An answer of which the endpoint does not say how many tokens it took counts as the dearest it could be.

    Args:
        limit: USD.
        price: of the model.
    """

    def __init__(self, limit: float, price: ApiPrice):
        self._limit, self._price = limit, price
        self._changed = Condition()
        self._reserved, self._under_way = 0.0, 0
        self._tokens_a_byte: float | None = None
        self.spent = 0.0
        """USD, of the answers that are in."""

    def reserve(self, size: int, most: int) -> float:
        """Set aside what a request can cost at most, in USD; waits for those under way where they may leave enough.

        Args:
            size: bytes of the prompt.
            most: tokens that its answer may have.

        Raises:
            BudgetReachedError: it could pass the limit.

        Each is ended by `settle`, `lose` or `release`.
        """
        with self._changed:
            while self.spent + self._reserved + (amount := self._most(size, most)) > self._limit:
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
        """Whether so much can be spent, and one more request of that size still be let through."""
        with self._changed:
            return self.spent + usd + self._most(size, most) <= self._limit

    def settle(self, amount: float, size: int, most: int, answer: Paid) -> None:
        """The answer to a request is in."""
        with self._changed:
            self.release(amount)
            self.count(size, most, answer)

    def lose(self, amount: float) -> None:
        """Something came that is no answer, and may be on the bill all the same."""
        with self._changed:
            self.release(amount)
            self.spent += amount

    def release(self, amount: float) -> None:
        """A request came to nothing."""
        with self._changed:
            self._reserved -= amount
            self._under_way -= 1
            self._changed.notify_all()

    def count(self, size: int, most: int, answer: Paid) -> None:
        """Add an answer's cost to what is spent."""
        with self._changed:
            self.spent += answer.usd(self._price) if answer.prompt_tokens else self._most(size, most)
            seen = answer.prompt_tokens / (size + _FRAME)
            self._tokens_a_byte = max(self._tokens_a_byte or 0.0, seen) or None

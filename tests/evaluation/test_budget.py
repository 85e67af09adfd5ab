from __future__ import annotations

import threading

import pytest

from tunewright.economics import price_book
from tunewright.evaluation.api.budget import Budget, BudgetReachedError
from tunewright.evaluation.api.paid import Paid


def test_a_budget_counts_what_is_under_way() -> None:
    price = price_book().api("gpt-4o")
    budget = Budget(0.015, price)
    first, second = budget.reserve(100, 500), threading.Event()

    def ask() -> None:
        with pytest.raises(BudgetReachedError):
            budget.reserve(100, 1000)
        second.set()

    waiting = threading.Thread(target=ask)
    waiting.start()
    assert not second.wait(0.2), "it waits for the one that is under way"
    budget.settle(first, 100, 500, Paid("", 100, 500))
    assert second.wait(5), "and is refused when that has cost what it might"
    waiting.join()

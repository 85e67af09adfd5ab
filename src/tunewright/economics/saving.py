"""What a model of your own saves against APIs within the horizon.

Nobody pays an API beyond its end. So a saving counts the API paid for today until then, and after that the cheapest
API that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from tunewright.economics.cost import usd

_LEAST_USD = 1.0
"""A part of a saving that a sentence names."""


def aim(engineering_usd: float, horizon_months: int) -> str:
    """What a saving is for, behind "would not" or "does not"."""
    what = f"pay for {usd(engineering_usd)} of engineering" if engineering_usd else "save money"
    return f"{what} within {horizon_months} months"


@dataclass(frozen=True)
class ApiBill:
    """What an API would be paid for all requests, for as long as it can be asked."""

    name: str
    usd_per_month: float
    until: float | None
    """Months from today to its end; None: it lasts."""
    note: str = ""
    """What a sentence adds to its price."""


def bills_of(first: ApiBill, then: ApiBill | None) -> tuple[ApiBill, ...]:
    """The bills that a model of your own would save, in their order; none where nothing is known of an API that could
    be paid.

    Args:
        then: the cheapest API that lasts, for the time after the first one's end; None: none is known.
    """
    if first.until is None:
        return (first,)
    return tuple(bill for bill in (first, then) if bill and bill.until != 0)


@dataclass(frozen=True)
class Saving:
    """What a model of your own saves: the parts of the APIs' bills that it takes over, less its own costs."""

    own_usd: float
    """Its costs a month."""
    bills: tuple[ApiBill, ...]
    """As `bills_of` returns them."""
    horizon_months: int
    share: float = 1.0
    """The share of the requests that it answers itself; the API answers the rest."""

    @property
    def usd(self) -> float:
        """The saving within the horizon; negative where the APIs cost less."""
        return sum(self._parts())

    def pays(self, spent_usd: float) -> bool:
        """Whether the saving pays for what is spent once, within the horizon."""
        return self.usd > 0 and self.usd >= spent_usd

    def payback_months(self, spent_usd: float) -> float | None:
        """Months after which the saving has paid for what was spent once; None: nothing was, or never for good, because
        the last API costs less than the model."""
        if spent_usd <= 0 or (self.usd < spent_usd and not any(self._a_month(bill) > 0 for bill in self.bills[-1:])):
            return None
        start, left = 0.0, spent_usd
        for bill in self.bills:
            month, end = self._a_month(bill), inf if bill.until is None else bill.until
            if month > 0 and left <= month * (end - start):
                return start + left / month
            left, start = left - month * (end - start), end
        return None

    def counted(self, subject: str = "It") -> str:
        """A sentence that says what the saving within the horizon counts, where an API ends within it or has not been
        measured; else empty."""
        if all(bill.until is None and not bill.note for bill in self.bills):
            return ""
        texts: list[str] = []
        for bill, part in zip(self.bills, self._parts(), strict=True):
            if texts and abs(part) < _LEAST_USD:  # the first API ends as the horizon does
                continue
            amount, beside = (f"saves {usd(part)}", "against") if part >= 0 else (f"costs {usd(-part)} more", "than")
            if bill.until is not None:
                texts.append(f"{amount} until {bill.name} ends")
            else:
                time = f"in {'the rest of the ' if texts else ''}{self.horizon_months} months"
                texts.append(f"{amount} {time} {beside} {bill.name} at {usd(bill.usd_per_month)} a month{bill.note}")
        if self.bills[-1].until is not None:
            texts.append("nothing is counted after that, because no other API that comes into question lasts")
        return f"{subject} {', and '.join(texts)}."

    def _a_month(self, bill: ApiBill) -> float:
        return self.share * bill.usd_per_month - self.own_usd

    def _parts(self) -> list[float]:
        """The saving within the horizon against each bill."""
        start, parts = 0.0, []
        for bill in self.bills:
            end = self.horizon_months if bill.until is None else min(bill.until, self.horizon_months)
            parts.append((end - start) * self._a_month(bill))
            start = end
        return parts

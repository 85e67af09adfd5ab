"""Compare how often something bad happens to each of two models, and test whether the difference is more than
chance."""

from __future__ import annotations

from dataclasses import dataclass

ESCALATED = "were escalated"
"""The event that a bundle asks for another model's answer."""


@dataclass(frozen=True)
class Rate:
    """The rates of two models on requests of the same time, or on the same requests."""

    what: str
    """The event, as it follows "of the requests"."""
    challenger: tuple[int, int]
    """(requests to which it happened, requests)"""
    champion: tuple[int, int]

    @property
    def is_measured(self) -> bool:
        """Whether there are requests of both models."""
        return bool(self.challenger[1] and self.champion[1])

    @property
    def p_value(self) -> float:
        """The probability of a challenger's count as high as this if both models were alike (Fisher's exact test)."""
        from scipy.stats import fisher_exact

        table = [[count, of - count] for count, of in (self.challenger, self.champion)]
        return float(fisher_exact(table, "greater").pvalue)

    def too_high(self, chance: float, margin: float) -> bool:
        """Whether the challenger's rate is higher by more than a margin and by more than chance."""
        if not self.is_measured:
            return False
        return _share(self.challenger) - _share(self.champion) > margin and self.p_value < chance

    @property
    def summary(self) -> str:
        """The rates in words."""
        (count, of), (other, of_other) = self.challenger, self.champion
        return f"{count:,} of its {of:,} requests {self.what}, of the champion's {other:,} of {of_other:,}"


def _share(rate: tuple[int, int]) -> float:
    return rate[0] / rate[1]

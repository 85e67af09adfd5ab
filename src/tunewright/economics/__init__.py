"""Costs before anything is paid: the price book, a month of each way of answering, and the fit forecast."""

from tunewright.economics.cost import Cost, api_cost, host_cost
from tunewright.economics.prices import PriceBook, price_book

__all__ = ["Cost", "PriceBook", "api_cost", "host_cost", "price_book"]

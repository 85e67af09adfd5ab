"""Before paying: the price book, what each way of answering costs in a month, and the fit forecast (`assess.fit`)."""

from tunewright.economics.cost import Cost, api_cost, host_cost
from tunewright.economics.prices import PriceBook, price_book

__all__ = ["Cost", "PriceBook", "api_cost", "host_cost", "price_book"]

"""Personal data and secrets in texts: finding them by their form, and putting stand-ins in their place."""

from tunewright.data.pii.finders import Span, find_pii
from tunewright.data.pii.pseudonyms import Pseudonymiser

__all__ = ["Pseudonymiser", "Span", "find_pii"]

"""Personal data and secrets in texts: finding them by their form, and replacing them by stand-ins."""

from tunewright.pii.finders import find_pii
from tunewright.pii.pseudonyms import Pseudonymiser, Replacement
from tunewright.pii.spans import Span

__all__ = ["Pseudonymiser", "Replacement", "Span", "find_pii"]

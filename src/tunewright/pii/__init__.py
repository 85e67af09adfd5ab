"""Personal data and secrets in texts: finding them by their form, and putting stand-ins in their place."""

from tunewright.pii.finders import find_pii
from tunewright.pii.pseudonyms import Pseudonymiser
from tunewright.pii.spans import Span

__all__ = ["Pseudonymiser", "Span", "find_pii"]

"""What the process that reads documents (`worker`) and the one that needs them (`pool`) send each other.

A request is its head, the name in UTF-8 and the content; an answer is its head and its body. Nothing is unpickled.
"""

from __future__ import annotations

from struct import Struct

REQUEST = Struct(">IQI")
"""Bytes of the name, bytes of the content, seconds of processor time that reading it may take."""
ANSWER = Struct(">BBQ")
"""The answer's kind, whether the worker must be replaced, bytes of the body."""

TEXT, REFUSED, MISSING = range(3)
"""Kinds of an answer. Its body is the text in UTF-8, the arguments of a UserError as JSON, or the name of a module that
is not installed."""

OUT_OF_MEMORY = 3
"""The exit code of a worker that may not have the memory which a document needs."""

ENCODING, ERRORS = "utf-8", "surrogatepass"
"""Names of files and texts from JSON may hold lone surrogates."""
READY = "--ready"
"""The argument of a worker that imports all parsers before its first document."""

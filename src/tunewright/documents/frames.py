"""The messages between the process that needs documents (`pool`) and the one that reads them (`worker`).

A request has a head, the name in UTF-8 and the content. An answer has a head and a body. Neither side unpickles.
"""

from __future__ import annotations

from struct import Struct

REQUEST = Struct(">IQI")
"""Bytes of the name, bytes of the content, seconds of processor time that reading may take."""
ANSWER = Struct(">BBQ")
"""The answer's kind, whether the worker must be replaced, bytes of the body."""

TEXT, REFUSED, MISSING = range(3)
"""Kinds of an answer. The body is the text in UTF-8, the arguments of a UserError as JSON, or the name of a module that
is not installed."""

OUT_OF_MEMORY = 3
"""The exit code of a worker whose document needs more memory than allowed."""

ENCODING, ERRORS = "utf-8", "surrogatepass"
"""Names of files and texts from JSON may hold lone surrogates."""
READY = "--ready"
"""The argument of a worker that imports all parsers before its first document."""

"""What protects against whatever is sent in: every default limit, with the reason for its size."""

from __future__ import annotations

# A schema that a request brings (`response_format`) or a spec names
MOST_SCHEMA_BYTES = 64 << 10
"""Bytes of a JSON Schema. The largest of known APIs have some ten thousand; a grammar is made of one in a second."""
DEEPEST_SCHEMA = 48
"""Levels of nesting. The library that makes the grammar reads 128 levels of JSON, and a schema takes two a level."""
MOST_FORCED_LETTERS = 8192
"""Letters of the shortest answer that a schema allows: they would be written without asking the model."""
ENDING_TOKENS = 4096
"""Tokens in which an answer that grew too long must come to its end."""

# Stop texts
LONGEST_STOP = 256
"""Letters of a text that ends an answer. Stop texts are a few words."""

# Texts
LETTERS_A_TOKEN = 100
"""Letters of a text for each token of a model's window, beyond which it is refused unread, of tokenizers that have one
token for any unknown word: a word of more than 100 letters is one to them. Others know their longest token."""

# Documents
DOCUMENT_MEMORY_BYTES = 1 << 30
"""Bytes of address space that reading one document may take beside the reading process itself. A PDF of 64 MiB takes
half of it; a PDF of 4 kB can be made to take any memory."""
DOCUMENT_CPU_SECONDS = 20
"""Seconds of processor time that reading one document may take: a thousand pages of text take half of it."""
DOCUMENT_WALL_SECONDS = 60
"""Seconds that reading one document may take on the clock, on a machine that does other work or where the reading
process is stuck."""
DOCUMENT_TEXT_BYTES = 64 << 20
"""Bytes of UTF-8 of a document's text: as many as a document may have itself. The process that needs it holds it a few
times."""
DOCUMENT_IN_PROCESS_BYTES = 1 << 20
"""Bytes of plain text up to which it is read without a process of its own: its work is linear, and takes
milliseconds."""
DOCUMENT_FAR = 1e9
"""Units from its page's origin within which a word may stand. A page in pixels, points or 1/1200 inches has some
thousands; of numbers near the largest that there are differences and means are none."""
MAIL_SUBJECT_CHARACTERS = 4096
"""Characters of a mail's subject that are read: Python's decoder of encoded words is quadratic in it."""
MAIL_HEADER_CHARACTERS = 8192
"""Characters of a mail's header about its content (Content-Type and such), whose parser in Python is quadratic in it.
Real ones have two hundred."""
MAIL_DEPTH = 50
"""Parts of a mail within each other: every line is compared with the end of each. A forwarded message has two or
three more than the one it is in."""

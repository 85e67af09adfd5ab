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

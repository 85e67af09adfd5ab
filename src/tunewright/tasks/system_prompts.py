"""Which system prompts a tuned model answers to.

A tuned model has a system prompt of its own, or none. A client's is left out, so it has to be one of the same job: the
model's own, that of an API in its place, or one of the training rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

MOST_KNOWN = 100
"""Prompts of training rows beyond which they count as written anew for each request."""


def hash_of(prompt: str) -> str:
    """What a bundle keeps of a prompt, whatever its white space."""
    return hashlib.sha256(" ".join(prompt.split()).encode()).hexdigest()[:16]


def known_prompts(prompts: Iterable[str]) -> list[str] | None:
    """The hashes of prompts, sorted; None where there are too many, so that any prompt may be one of them."""
    known = set()
    for prompt in prompts:
        known.add(hash_of(prompt))
        if len(known) > MOST_KNOWN:
            return None
    return sorted(known)

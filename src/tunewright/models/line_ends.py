"""A token for the end of a line, for encoders whose tokenizer reads it as white space, as BERT's does.

On a form or a receipt the lines say where a value ends. The vocabularies of such encoders have places that pre-training
never used, `[unused0]` and so on. One of them becomes the line's end; training on records teaches its embedding.
"""

from __future__ import annotations

import json
import re
from typing import Any

LINE_END = "\n"
_UNUSED = re.compile(r"\[unused\d+\]")


def with_line_ends(content: bytes) -> bytes:
    """A `tokenizer.json` whose tokenizer has a token for a line's end. It is the same file if the tokenizer reads line
    ends anyway, or has no unused place in its vocabulary."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(content)
    if tokenizer.encode(f"a{LINE_END}a").ids != tokenizer.encode("a a").ids:
        return content
    made: dict[str, Any] = json.loads(content)
    vocabulary = made["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        return content
    taken = {token["content"] for token in made["added_tokens"]}
    unused = [word for word in vocabulary if _UNUSED.fullmatch(word) and word not in taken]
    if not unused:
        return content
    place = vocabulary.pop(min(unused, key=vocabulary.__getitem__))
    vocabulary[LINE_END] = place
    settings = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": False}
    made["added_tokens"].append({"id": place, "content": LINE_END, **settings})
    made["added_tokens"].sort(key=lambda token: token["id"])
    return json.dumps(made, ensure_ascii=False).encode()

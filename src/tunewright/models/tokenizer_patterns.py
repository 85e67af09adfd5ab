"""The patterns by which known tokenizers first cut a text; none of them takes more steps than a text has characters."""

from __future__ import annotations

_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = _SHORT + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = r"[^\r\n\p{L}\p{N}]?" + _UPPER + r"%s" + _LOWER + r"%s"
_CASES = _CASED % ("*", "+%s") + "|" + _CASED % ("+", "*%s") + r"|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _REST
CUTS = {
    _WORDS % "{1,3}": "llama-bpe",
    _WORDS % "": "qwen2",
    _CASES % (_SHORT + "?", _SHORT + "?", "{1,3}"): "gpt-4o",
    _CASES % ("", "", ""): "tekken",
}
"""The pattern by which a tokenizer first cuts a text -> llama.cpp's name of it (src/llama-vocab.cpp, 2026-11-27)."""
KNOWN_PATTERNS = frozenset({*CUTS, " {2,}", r"\p{N}{1,3}", r"\d", r"\s+"})

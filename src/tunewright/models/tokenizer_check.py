"""Checks whether a tokenizer.json is safe to use. It is a program too: patterns and replacements from somebody else.

The `tokenizers` library runs patterns in Oniguruma, which tries each start of a match ten million times and then
panics. Even below that, a text of some thousand characters can keep it busy for minutes. A replacement may have any
length, and one that doesn't fit in memory ends the process.

So we accept parts, settings and patterns that are known to end soon. A process with limits tries everything else on
texts that are known to be hard. That finds common mistakes and attacks. It can't prove that no other text is hard, so a
server also verifies that the file is the bundle's own.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.limits import (
    PROBE_CPU_SECONDS,
    PROBE_MEMORY,
    PROBE_SECONDS,
    PROBE_TEXT,
    TOKENIZER_GROWTH,
    TOKENIZER_LARGEST_NUMBER,
    TOKENIZER_LONGEST_PIECE,
    TOKENIZER_LONGEST_WORD,
)

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
"""The pattern with which a tokenizer first cuts a text -> llama.cpp's name for it (src/llama-vocab.cpp, 2026-11-27)."""
KNOWN_PATTERNS = frozenset({*CUTS, " {2,}", r"\p{N}{1,3}", r"\d", r"\s+"})


_PLAIN = frozenset(
    {
        "BertNormalizer",
        "BertPreTokenizer",
        "BPEDecoder",
        "ByteFallback",
        "ByteLevel",
        "CharDelimiterSplit",
        "Digits",
        "Fuse",
        "Lowercase",
        "Metaspace",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Punctuation",
        "Strip",
        "StripAccents",
        "UnicodeScripts",
        "Whitespace",
        "WhitespaceSplit",
        "WordPiece",
    }
)
"""Parts that take linear time with any settings."""
_SIGNS = frozenset(r"\^$.|?*+()[]{}")
"""A pattern without any of these matches only itself."""
_FIX = "Use a model with the tokenizer.json that its makers published."


def check_tokenizer(content: bytes, file: Path) -> None:
    """Refuse a tokenizer that would hang or fill memory. One with unusual parts is tried, which takes a second or two.

    Raises:
        UserError: it can't be read, or did not end within the limits.
    """
    if why := _refused(content):
        raise UserError("The tokenizer can't be used.", where=file, why=why, fix=_FIX)


@functools.lru_cache(4)
def _refused(content: bytes) -> str:
    """The reason to refuse a tokenizer; empty if there is none."""
    try:
        definition = json.loads(content)
        if not isinstance(definition, dict):
            return "It is not a JSON object."
        if (largest := max(_token_ids(definition), default=0)) > TOKENIZER_LARGEST_NUMBER:
            return f"One of its tokens has the number {largest:,}; the library makes a list of all numbers before it."
        unusual = next(_unusual(definition), None)
    except (ValueError, RecursionError) as error:
        return f"It is not JSON: {error}."
    except (KeyError, TypeError, AttributeError) as error:
        unusual = f"a part that can't be read ({type(error).__name__})"
    return _tried(content, unusual) if unusual else ""


def _unusual(definition: Mapping[str, Any]) -> Iterator[str]:
    """The parts of a tokenizer that are not known to end soon."""
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        replaced = 0
        for node in parts_of(definition.get(part)):
            kind = node.get("type")
            if kind == "Prepend" and len(node["prepend"]) <= TOKENIZER_GROWTH:
                continue
            if kind == "Replace" and not replaced and _is_short(node):
                replaced += node["content"] != "" and len(node["content"]) > 1
                continue
            if kind == "Split" and _is_known(node["pattern"]):
                continue
            if kind not in _PLAIN:
                yield f"a {part} of the type {str(kind)[:40]}"
    model = definition["model"]
    if model.get("type") == "WordPiece" and model.get("max_input_chars_per_word", 100) > TOKENIZER_LONGEST_WORD:
        yield "words without a limit"
    if model.get("type") == "Unigram" and max((len(piece) for piece, _ in model["vocab"]), default=0) > (
        TOKENIZER_LONGEST_PIECE
    ):
        yield "pieces without a limit"
    if model.get("type") not in ("BPE", "WordPiece", "Unigram", "WordLevel"):
        yield "a model of an unknown type"


def _token_ids(definition: Mapping[str, Any]) -> Iterator[int]:
    vocabulary = definition["model"].get("vocab")
    yield from vocabulary.values() if isinstance(vocabulary, dict) else ()
    yield from (each["id"] for each in definition.get("added_tokens") or ())


def parts_of(node: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The parts of a normalizer, pre-tokenizer or decoder, in their order."""
    if node is None:
        return
    if node["type"] == "Sequence":
        for each in node.get("pretokenizers") or node.get("normalizers") or node.get("decoders") or ():
            yield from parts_of(each)
    else:
        yield node


def _is_known(pattern: Mapping[str, str]) -> bool:
    """Whether a pattern is known to match in linear time."""
    regex = pattern.get("Regex", "")
    return "String" in pattern or regex in KNOWN_PATTERNS or (regex != "" and not _SIGNS & set(regex))


def _is_short(node: Mapping[str, Any]) -> bool:
    """Whether a replacement can't make a text much longer."""
    replaced = node["pattern"].get("String") or " "
    return _is_known(node["pattern"]) and len(node["content"]) <= TOKENIZER_GROWTH * len(replaced)


def _tried(content: bytes, unusual: str) -> str:
    """Try a tokenizer. Returns the reason to refuse it; empty if it ended in time."""
    command = [sys.executable, "-m", "tunewright.models.tokenizer_check", str(PROBE_CPU_SECONDS)]
    because = f"It has {unusual}, and was tried on texts that are hard for such tokenizers: "
    try:
        done = subprocess.run(command, input=content, capture_output=True, check=False, timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"{because}it did not end within {PROBE_SECONDS} seconds."
    if done.returncode == 0:
        return ""
    last = done.stdout.decode("utf-8", "replace").strip().splitlines()[-1:]
    if last and done.returncode == 1:
        return f"{because}{last[0][:300]}"
    return f"{because}it took more than {PROBE_CPU_SECONDS} seconds or {PROBE_MEMORY >> 30} GiB."


def _try(content: bytes) -> str:
    """Use a tokenizer in this process. Returns what is wrong with it; empty if nothing is."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(content)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    most = 4 * TOKENIZER_GROWTH * (PROBE_TEXT + 2000)  # a character has at most four bytes, and each may be a token
    for text in _hard(content):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) > most:
            return f"{len(text):,} characters became {len(ids):,} tokens."
        if len(decoded := tokenizer.decode(ids)) > TOKENIZER_LONGEST_PIECE * (len(ids) + 1):
            return f"{len(ids):,} tokens became {len(decoded):,} characters."
    known = tokenizer.get_vocab_size(with_added_tokens=True)
    longest = max((len(tokenizer.decode([number])) for number in range(known)), default=0)
    if longest > TOKENIZER_LONGEST_PIECE * TOKENIZER_GROWTH:
        return f"one token became {longest:,} characters."
    if tokenizer.normalizer:
        for start in range(0, 0x110000, 256):
            block = "".join(chr(each) for each in range(start, start + 256) if not 0xD800 <= each < 0xE000)
            if len(tokenizer.normalizer.normalize_str(block)) > 20 * 256:  # Unicode's own maximum is 18 to one
                return f"some of the characters from {start:#x} become many."
    return ""


def _hard(content: bytes) -> Iterator[str]:
    """Long runs of characters that patterns repeat: signs of each kind, and the letters in the patterns themselves.

    After the run come a sign that ends it and the text of the patterns. The library does not even try a pattern on a
    text that lacks a character of all its matches.
    """
    definition = json.loads(content)
    nodes = [node for part in ("normalizer", "pre_tokenizer", "decoder") for node in parts_of(definition.get(part))]
    patterns = "".join(text for node in nodes for text in (node.get("pattern") or {}).values() if isinstance(text, str))
    own = "".join(dict.fromkeys(letter for letter in patterns if letter.isalnum()))[:32]
    end = f"\u2603{patterns[:1000]}"
    for letter in dict.fromkeys("aA1 \n\t\r.'é中\u0301_" + own):
        for length in (PROBE_TEXT // 25, PROBE_TEXT):
            yield letter * length + end
    for pair in ("a1", "a ", "aA", " \n", "a'", "1."):
        yield pair * (PROBE_TEXT // 2) + end


def main() -> int:
    """Try the tokenizer on standard input, for as many seconds as the first argument says."""
    import resource

    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (PROBE_MEMORY, PROBE_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        problem = _try(sys.stdin.buffer.read())
    except BaseException as error:  # noqa: BLE001 (a panic in Rust is not an Exception)
        problem = f"{type(error).__name__}: {error}"
    sys.stdout.write(" ".join(problem.split()))
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())

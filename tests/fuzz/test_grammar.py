"""Schemas: a grammar that begins an answer, or why there is none."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.conftest import TOKENIZER
from tests.fuzz.mutation import ANYTHING, as_json, json_of, mutated, names, seeds
from tests.fuzz.running import Input
from tunewright.config.record_schema import record_schema
from tunewright.core.errors import UserError
from tunewright.inference.decoding.grammar import GrammarError, RecordGrammar
from tunewright.models.tokenizer import TextTokenizer

TOKENS = TextTokenizer(TOKENIZER)
END = TOKENS.encode_text("<|im_end|>")[0]
KNOWN = [json.loads(content) for name, content in seeds("grammar") if name.startswith("known")]
TEXTS = ("string", "number", "integer", "boolean", "null", "array", "object")
COUNTS = st.sampled_from([0, 1, 2, 30, 2000, 2**31, 2**63, 10**30, -1, 0.5])
PATTERNS = (
    "^[A-Z]{3}-[0-9]{4}$",
    "(a+)+$",
    "[z-a]",
    "(?=a)",
    r"\p{L}+",
    "a{1000}",
    "((a{99}){99}){99}",
    "(",
    r"\1",
    "^(a|aa)*b$",
    r"^\d{1,3}(,\d{3})*$",
    "\ud800",
    r"[^\s\S]",
)
DIALECTS = ("https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-04/schema#", "nonesuch")
REFERENCES = (
    "#",
    "#/$defs/a",
    "#/$defs/b",
    "#/nowhere",
    "a",
    "http://example.com/a",
    "file:///etc/passwd",
    "#/properties/a",
    "#/$defs/%61",
    "",
)


def _schemas(inner: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """All keywords that there are, most of them with a value of the right type."""
    several = st.lists(inner, min_size=1, max_size=3)
    named = st.dictionaries(st.sampled_from(["a", "b", "c", "\ud800", ""]), inner, max_size=3)
    keywords: dict[str, SearchStrategy[Any]] = {
        "type": st.sampled_from([*TEXTS, list(TEXTS), [], "strin", ["string", "null"]]),
        "properties": named,
        "$defs": named,
        "definitions": named,
        "patternProperties": named,
        "dependentSchemas": named,
        "required": st.lists(st.sampled_from(["a", "b", "z"]), max_size=3),
        "additionalProperties": inner,
        "propertyNames": inner,
        "unevaluatedProperties": inner,
        "items": inner,
        "prefixItems": several,
        "contains": inner,
        "uniqueItems": st.booleans(),
        "enum": st.lists(ANYTHING, max_size=3),
        "const": ANYTHING,
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "$ref": st.sampled_from(REFERENCES),
        "$dynamicRef": st.sampled_from(REFERENCES),
        "$id": st.sampled_from(REFERENCES),
        "$anchor": st.just("a"),
        "pattern": st.sampled_from(PATTERNS),
        "default": ANYTHING,
        "x-guidance": ANYTHING,
        "format": st.sampled_from(["date", "date-time", "email", "uuid", "uri", "ipv4", "regex", "nonesuch", ""]),
        "minimum": COUNTS,
        "maximum": COUNTS,
        "exclusiveMinimum": COUNTS,
        "exclusiveMaximum": COUNTS,
        "multipleOf": COUNTS,
        "$schema": st.sampled_from(DIALECTS),
    }
    for name in ("Length", "Items", "Properties", "Contains"):
        keywords |= {f"min{name}": COUNTS, f"max{name}": COUNTS}
    pairs = st.sampled_from(sorted(keywords)).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(keywords[name], keywords[name], keywords[name], ANYTHING))
    )
    return st.lists(pairs, min_size=1, max_size=5).map(dict)


SCHEMAS = st.recursive(st.sampled_from([True, False, {}, {"type": "string"}, {"$ref": "#"}]), _schemas, max_leaves=8)
RECORDS = st.tuples(SCHEMAS, SCHEMAS, SCHEMAS).map(
    lambda parts: {
        "type": "object",
        "properties": {"a": parts[0], "b": parts[1]},
        "required": ["a"],
        "$defs": {"a": parts[2]},
    }
)


def check(_: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "schema.json").write_bytes(content)
        with suppress(UserError):
            record_schema("schema.json", Path(folder))
    try:
        schema = json.loads(content)
    except (ValueError, RecursionError):
        return
    with suppress(GrammarError):
        RecordGrammar(TOKENS, schema, END).begin(16)
    if isinstance(schema, dict):
        record_schema(schema, Path("/nowhere"))


@pytest.mark.parametrize("seed", seeds("grammar"), ids=names("grammar"))
def test_kept(seed: Input, keep: Callable[..., None]) -> None:
    keep(check, seed)


def test_mutated_schemas(fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("grammar"), 50)


def test_known_schemas_that_hold_anything(fuzz: Callable[..., None]) -> None:
    fuzz(check, json_of(KNOWN, "schema.json", ("properties", "items", "minLength", "pattern", "enum", "format")), 50)


def test_all_keywords_with_each_other(fuzz: Callable[..., None]) -> None:
    fuzz(check, (SCHEMAS | RECORDS).map(lambda schema: ("schema.json", as_json(schema))), 125)

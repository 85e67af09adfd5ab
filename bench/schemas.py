"""Schemas of the records in public data sets, for the benches that extract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

TEXT = {"type": "string"}


def texts(*names: str) -> dict[str, Any]:
    """A record of some texts, each optional."""
    return {"type": "object", "properties": dict.fromkeys(names, TEXT)}


def all_fields(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Every field that some record has is optional; one that stands twice in some record is a list where it does."""
    records = list(records)
    names = dict.fromkeys(name for record in records for name in record)
    several = {name for record in records for name, value in record.items() if isinstance(value, list)}
    one_or_more = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}
    return {"type": "object", "properties": {name: one_or_more if name in several else TEXT for name in names}}

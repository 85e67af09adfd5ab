"""What a verdict that is shown again does not know: that an API which it rests on has ended since."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any


def ended_since(data: Mapping[str, Any], day: date) -> str:
    """A sentence about the APIs that a verdict rests on and that have ended since it was made; empty where none has.

    Args:
        data: the content of `verdict.json`.
        day: today.
    """
    verdict, apis = data["verdict"], data["comparison"]["apis"]
    bills = [bill["name"] for bill in (verdict.get("saving") or {}).get("bills", ())]
    named = dict.fromkeys([*list(apis)[:1], verdict["reference"], verdict["answers"], *bills])
    spans = {name: apis[name].get("lifetime") or {} for name in named if name in apis}
    gone = [
        f"{name} on {span['end']}"
        for name, span in spans.items()
        if span.get("end") and not span["ended"] and date.fromisoformat(span["end"]) <= day
    ]
    if not gone:
        return ""
    return (
        f"Since this verdict was made, an API that it counts on has ended: {', '.join(gone)}. Make the verdict anew: "
        "tunewright run … --from verdict"
    )

"""Marks that LiteLLM leaves where it cut, hid or lost a text. Such a text must not be taught.

Source: litellm 1.108.7 (2026-11-30), proxy/spend_tracking/spend_tracking_utils.py, integrations/custom_logger.py,
litellm_core_utils/{redact_messages,logging_utils,safe_json_dumps}.py and constants.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tunewright.logs.call import LoggedCall

_CUT = re.compile(
    r"litellm_truncated skipped \d+ chars"
    r"|\.\.\.truncated by litellm, this logger does not support large content"
    r"|;base64,\[base64_data truncated: "
    # Of older versions, which cut the end off.
    r"|\.\.\. \(truncated \d+ chars\)\Z"
)
_HIDDEN = ("redacted-by-litellm", "REDACTED_BY_LITELM")  # the second one has one L in LiteLLM, too
_LOST = ("Unserializable Object", "CircularReference Detected", "MaxDepthExceeded")
_UNTAUGHT = ("reasoning_content", "thinking_blocks", "provider_specific_fields", "reasoning", "metadata")
"""Keys of a message whose texts are not taught."""

CUT_TEXT = (
    "cut-text",
    "LiteLLM cut a text of this call when it logged it. Raise MAX_STRING_LENGTH_PROMPT_IN_DB there, or export from a "
    "log that keeps whole texts.",
)
REDACTED = ("redacted", "LiteLLM hid this call's texts when it logged it (turn_off_message_logging).")
PARTIAL = ("partial", "LiteLLM could not write down a part of this call.")


def fault_of_marks(call: LoggedCall) -> tuple[str, str] | None:
    """Why the texts of a call are not those that were sent; None: no mark says so."""
    taught: list[Any] = [call.messages, *(call.request.get(name) for name in ("tools", "response_format", "text"))]
    if call.answer:
        taught += [call.answer.text, call.answer.refusal, call.answer.tool_calls]
    for each in _texts(taught):
        if each in _HIDDEN:
            return REDACTED
        if each in _LOST:
            return PARTIAL
        if _CUT.search(each):
            return CUT_TEXT
    return None


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, at any depth."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            rest += value
        elif isinstance(value, Mapping):
            rest += [inner for key, inner in value.items() if key not in _UNTAUGHT]

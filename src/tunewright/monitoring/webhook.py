"""Send a message to a webhook such as Slack's. Its address is a secret, because anybody who knows it can post there."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import httpx

from tunewright.config import Spec
from tunewright.core.errors import UserError

TRIES = 4
_LONGEST_WAIT = 30.0
_TIMEOUT = 10.0


class NotSent(Exception):
    """A message did not arrive. The reason never names the address."""


def webhook_of(spec: Spec) -> str | None:
    """The webhook's address; None if the spec names none.

    Raises:
        UserError: the spec's variable is not set, or does not hold an address.
    """
    variable = spec.monitor.webhook
    if variable is None:
        return None
    address = os.environ.get(variable, "")
    if not address.startswith(("https://", "http://")):
        raise UserError(
            f"The environment variable {variable} {'does not hold an address' if address else 'is not set'}.",
            where="monitor.webhook",
            fix=f"Type: export {variable}=https://hooks.example.com/…",
        )
    return address


def send(address: str, text: str, details: Mapping[str, Any], first_wait: float = 1.0) -> None:
    """Post a message, and retry a few times if the server is busy or fails.

    Args:
        first_wait: seconds before the second try, doubled from try to try; the server's Retry-After overrides it.

    Raises:
        NotSent: the message did not arrive.
    """
    # httpx logs each request with its address.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    wait, why = first_wait, ""
    for number in range(TRIES):
        if number:
            time.sleep(min(wait, _LONGEST_WAIT))
            wait = first_wait * 2**number
        try:
            answer = httpx.post(address, json={"text": text, "details": details}, timeout=_TIMEOUT)
        except httpx.TransportError as error:
            why = type(error).__name__
            continue
        except httpx.InvalidURL:
            raise NotSent("the variable does not hold an address") from None
        if answer.is_success:
            return
        why = f"HTTP {answer.status_code}"
        if answer.status_code != 429 and answer.status_code < 500:
            break
        retry_after = answer.headers.get("retry-after", "")
        wait = float(retry_after) if retry_after.isdigit() else wait
    raise NotSent(why)

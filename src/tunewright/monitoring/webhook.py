"""Sending a message to a webhook, as Slack has them. Its address is a secret: who knows it can post there."""

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
    """Why a message did not arrive; never names the address."""


def webhook_of(spec: Spec) -> str | None:
    """The address that alarms go to; None where the spec names none.

    Raises:
        UserError: the variable that the spec names is not set, or holds no address.
    """
    variable = spec.monitor.webhook
    if variable is None:
        return None
    address = os.environ.get(variable, "")
    if not address.startswith(("https://", "http://")):
        raise UserError(
            f"The environment variable {variable} {'holds no address' if address else 'is not set'}.",
            where="monitor.webhook",
            fix=f"Type: export {variable}=https://hooks.example.com/…",
        )
    return address


def send(address: str, text: str, details: Mapping[str, Any], first_wait: float = 1.0) -> None:
    """Post a message; where the other side is busy or out of order, a few times.

    Args:
        first_wait: seconds before the second try, doubled from try to try; what the other side asks for counts more.

    Raises:
        NotSent: it did not arrive.
    """
    # It logs each request with its address.
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
            raise NotSent("what the variable holds is no address") from None
        if answer.is_success:
            return
        why = f"HTTP {answer.status_code}"
        if answer.status_code != 429 and answer.status_code < 500:
            break
        asked = answer.headers.get("retry-after", "")
        wait = float(asked) if asked.isdigit() else wait
    raise NotSent(why)

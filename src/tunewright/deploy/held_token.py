"""A sign-in's token, kept for as long as it is good: `az login` alone starts a program for each one, which takes a
second and would count as the tried version's latency."""

from __future__ import annotations

import threading
import time
from typing import Any

from tunewright.backends.azure.refusals import azure_errors

_EARLY = 300.0
"""Seconds before its end from which another one is fetched."""


class HeldToken:
    """A token for one scope. Safe to use from several threads.

    Args:
        credential: one of azure-identity's.
        how: further arguments of its `get_token`.
    """

    def __init__(self, credential: Any, scope: str, **how: Any):
        self._credential, self._scope, self._how = credential, scope, how
        self._lock = threading.Lock()
        self._token, self._ends = "", 0.0

    def __call__(self) -> str:
        """The token.

        Raises:
            UserError: the sign-in has ended.
        """
        with self._lock:
            if time.time() > self._ends - _EARLY:
                with azure_errors("a token for the new version"):
                    got = self._credential.get_token(self._scope, **self._how)
                self._token, self._ends = str(got.token), float(got.expires_on)
            return self._token

"""The endpoints behind the gateway: which one gets a request, at which address, and with which key."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from tunewright.config.sections import ENTRA, ENTRA_SCOPE
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.gateway.config import GatewaySpec, UpstreamSpec
from tunewright.gateway.routes import Route, is_azure

OVERLOADED = "overloaded"
"""The code of a refusal after which a client may try again soon."""
_ANTHROPIC = "api.anthropic.com"
_ANTHROPIC_AS_OPENAI = "/v1/chat/completions"
"""Anthropic's route that takes OpenAI's requests, and a bearer token. Its own routes, such as /v1/messages, take the
key as `x-api-key`. Source: docs.claude.com, API overview and OpenAI SDK compatibility (2026-12-04)."""
_EARLY = 300.0
"""Seconds before its end at which a token of Entra ID is replaced."""
_AGAIN_SECONDS = 5.0
"""Seconds after a failed sign-in before the next one. Until then, requests don't wait for Entra ID."""


class UpstreamFault(Exception):
    """An upstream can't be asked, or does not answer.

    Args:
        status: what the client gets.
        may_be_billed: whether the upstream may have the request, and may bill the answer that never came.
    """

    def __init__(self, status: int, message: str, code: str, *, may_be_billed: bool = False):
        self.status, self.code, self.may_be_billed = status, code, may_be_billed
        super().__init__(message)


class Upstream:
    """An endpoint.

    Raises:
        UserError: its key is not set, or the library that signs in is not installed.
    """

    def __init__(self, name: str, spec: UpstreamSpec):
        self.name, self.spec = name, spec
        self.is_azure = spec.kind == "azure"
        parts = urlsplit(spec.url)
        self._host = f"{parts.scheme}://{parts.netloc}"
        self.hostname, self.port = parts.hostname or "", parts.port or {"https": 443}.get(parts.scheme, 80)
        self._root = self._azure_root(parts.path) if self.is_azure else spec.url
        self.proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        self._key = _key(name, spec)

    def answers_for(self, model: str) -> bool:
        return any(fnmatchcase(model, pattern) for pattern in self.spec.models)

    def address(self, path: str, query: str) -> URL:
        """The address of a request.

        Args:
            path: as the client sent it, still encoded. What follows /v1 is added to the endpoint's own root; any other
                path begins at its host.
        """
        if path == "/v1" or path.startswith("/v1/"):
            address = self._root + path.removeprefix("/v1")
        else:
            address = self._host + path
        return URL(f"{address}?{query}" if query else address, encoded=True)

    async def credential(self, path: str) -> tuple[str, str] | None:
        """The header with the upstream's key for a path of the client's; None: the client's own key is passed on.

        Raises:
            UpstreamFault: Entra ID gives no token.
        """
        if self._key is None:
            return None
        key = self._key if isinstance(self._key, str) else await self._key()
        if self.is_azure and self.spec.key != ENTRA:
            return "api-key", key
        if self.hostname == _ANTHROPIC and path != _ANTHROPIC_AS_OPENAI:
            return "x-api-key", key
        return "authorization", f"Bearer {key}"

    def _azure_root(self, path: str) -> str:
        """Azure's root is /openai/v1, whether the settings give the resource's address or the root's."""
        return self._host + (path if path.rstrip("/").endswith("/v1") else "/openai/v1")


class Upstreams:
    """All endpoints of a gateway.

    Raises:
        UserError: as `Upstream`.
    """

    def __init__(self, spec: GatewaySpec):
        self.all = [Upstream(name, each) for name, each in spec.upstreams.items()]

    def needs_model(self, route: Route) -> bool:
        """Whether the body's model decides which upstream gets a request."""
        return len(self.all) > 1 and route.kind != "other" and route.deployment is None

    def choose(self, path: str, model: str | None) -> Upstream:
        """The upstream for a request: the first that has the model, of those that know such a path.

        Args:
            model: the model or deployment that the request names; None: not known.
        """
        able = [each for each in self.all if each.is_azure] if is_azure(path) else self.all
        able = able or self.all
        named = (each for each in able if model is not None and each.answers_for(model))
        return next(named, able[0])


def _key(name: str, spec: UpstreamSpec) -> str | Callable[[], Awaitable[str]] | None:
    if spec.key is None:
        return None
    if spec.key == ENTRA:
        return _entra()
    if key := os.environ.get(spec.key):
        return key
    raise UserError(
        f"The key of the upstream '{name}' is not set.",
        where=f"environment variable {spec.key}",
        fix=f"Type: export {spec.key}=…  (or leave `key` out: then the client's own key is passed on)",
    )


def _entra() -> Callable[[], Awaitable[str]]:
    from azure.core.exceptions import AzureError
    from azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential()
    token, ends = "", 0.0
    again = 0.0  # when Entra ID may be asked again, by the monotonic clock
    turn = asyncio.Lock()

    async def sign_in() -> None:
        nonlocal token, ends, again
        try:
            got = await asyncio.to_thread(credential.get_token, ENTRA_SCOPE)
        except AzureError as error:
            again = time.monotonic() + _AGAIN_SECONDS
            say(f"Entra ID gives no token: {error.message.strip()}")
            if time.time() > ends:
                raise _no_token() from None
        else:
            token, ends = got.token, float(got.expires_on)

    async def key() -> str:
        if turn.locked() and time.time() < ends:  # another request replaces the token, and this one still holds
            return token
        async with turn:
            if time.time() > ends - _EARLY and time.monotonic() >= again:
                await sign_in()
            elif time.time() > ends:
                raise _no_token()
        return token

    return key


def _no_token() -> UpstreamFault:
    return UpstreamFault(502, "The gateway can't sign in to Entra ID; its log says why.", "no_token")

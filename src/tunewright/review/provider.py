"""Sign in at Microsoft Entra ID or any other OpenID Connect provider, with the authorization code flow and PKCE
(RFC 7636).

`state` protects against sign-ins that another browser started, and `nonce` against tokens for another sign-in.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, ConfigDict, Field

from tunewright.auth.identity import Signer, read_provider, roles_in
from tunewright.core.errors import UserError
from tunewright.review.people import Claimed, Role, printable

_SECONDS = 600.0
"""Seconds in which a person must sign in at the provider."""
_MOST = 1000
"""The most pending sign-ins."""
MOST_NAME = 100
"""Letters of a name. `tunewright.review.people` adds a part of the account's digest."""
_RANK: tuple[Role, ...] = ("admin", "reviewer", "reader")


class ReviewProvider(BaseModel):
    """The provider that signs people in, and the roles that it gives them."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(pattern=r"^https://|^http://(localhost|127\.0\.0\.1)[:/]")
    """For Entra ID https://login.microsoftonline.com/TENANT/v2.0."""
    client_id: str = Field(min_length=1)
    """The id of the app registration, whose redirect address is ADDRESS/sign-in/provider/back."""
    client_secret: str | None = None
    """The environment variable that holds the app's secret, if it has one."""
    roles: dict[Role, list[str]] = Field(min_length=1)
    """The provider's roles and groups for reader, reviewer and admin. The highest role counts."""


@dataclass
class _PendingSignIn:
    """A sign-in that has started."""

    to: str
    """The page that the person wanted to see."""
    back: str
    """The address to which the provider redirects."""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    since: float = field(default_factory=time.monotonic)


class SignInProvider:
    """Signs people in at a provider.

    Args:
        file: a `ReviewProvider` in JSON.

    Raises:
        UserError: the file is wrong, its secret is not set, or the provider can't be reached or offers no sign-in.
    """

    def __init__(self, file: Path):
        self._settings = read_provider(file, ReviewProvider)
        variable = self._settings.client_secret
        self._secret = os.environ.get(variable) if variable else None
        if variable and not self._secret:
            raise UserError(f"The environment variable {variable} is not set.", where=file)
        self._signer = Signer(self._settings.issuer, self._settings.client_id, file)
        metadata = self._signer.configuration
        try:
            self._authorize, self._token = str(metadata["authorization_endpoint"]), str(metadata["token_endpoint"])
        except KeyError as error:
            raise UserError(f"The identity provider names no {error.args[0]}.", where=self._settings.issuer) from None
        self._pending: OrderedDict[str, _PendingSignIn] = OrderedDict()

    def begin(self, to: str, back: str) -> tuple[str, str]:
        """(the provider's page to redirect to, the state that the browser must return)."""
        state, pending = secrets.token_urlsafe(24), _PendingSignIn(to, back)
        self._pending[state] = pending
        while len(self._pending) > _MOST:
            self._pending.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(pending.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "client_id": self._settings.client_id,
            "response_type": "code",
            "scope": "openid profile email",
            "redirect_uri": back,
            "state": state,
            "nonce": pending.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in self._authorize else "?"
        return f"{self._authorize}{joint}{urlencode(query)}", state

    async def finish(self, state: str, code: str) -> tuple[Claimed, str] | None:
        """(the person's identity, the page that they wanted to see); None if they may not sign in."""
        pending = self._pending.pop(state, None)
        if pending is None or time.monotonic() - pending.since > _SECONDS:
            return None
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": pending.back,
            "client_id": self._settings.client_id,
            "code_verifier": pending.verifier,
        }
        if self._secret:
            form["client_secret"] = self._secret
        try:
            async with httpx.AsyncClient(timeout=10) as client:
                reply = (await client.post(self._token, data=form)).raise_for_status().json()
            claims = await self._signer.claims(str(reply["id_token"]))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
        if claims is None or not secrets.compare_digest(str(claims.get("nonce", "")).encode(), pending.nonce.encode()):
            return None
        role = self._role(claims)
        if role is None:
            return None
        return Claimed(str(claims["iss"]).rstrip("/"), str(claims["sub"]), _name(claims), role), pending.to

    def _role(self, claims: dict[str, Any]) -> Role | None:
        has = roles_in(claims)
        return next((role for role in _RANK if has & set(self._settings.roles.get(role, ()))), None)


def _name(claims: dict[str, Any]) -> str:
    """The person's name, usually their address in the organisation."""
    name = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
    return printable(name)[:MOST_NAME]

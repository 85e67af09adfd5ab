"""Signing in at Microsoft Entra ID, or any other provider that speaks OpenID Connect: the authorization code flow with
PKCE (RFC 7636), `state` against sign-ins that somebody else began, and `nonce` against tokens made for another sign-in.
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
"""In which somebody has to sign in at the provider."""
_MOST = 1000
"""Sign-ins that are under way."""
MOST_NAME = 100
"""Letters of a name; behind it the account is told in what `tunewright.review.people` calls it."""
_RANK: tuple[Role, ...] = ("admin", "reviewer", "reader")


class ReviewProvider(BaseModel):
    """Who signs people in, and what they may do then."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(pattern=r"^https://|^http://(localhost|127\.0\.0\.1)[:/]")
    """Of Entra ID https://login.microsoftonline.com/TENANT/v2.0."""
    client_id: str = Field(min_length=1)
    """Of the app registration, whose redirect address is ADDRESS/sign-in/provider/back."""
    client_secret: str | None = None
    """The environment variable that holds the app's secret, where it has one."""
    roles: dict[Role, list[str]] = Field(min_length=1)
    """For reader, reviewer and admin, the provider's roles and groups that make one. The highest counts."""


@dataclass
class _Begun:
    """A sign-in under way."""

    to: str
    """Where the person wanted to go."""
    back: str
    """Where the provider sends him."""
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    since: float = field(default_factory=time.monotonic)


class SignInProvider:
    """Args:
        file: a `ReviewProvider` in JSON.

    Raises:
        UserError: the file is none, its secret is not set, or the provider can't be reached or offers no sign-in.
    """

    def __init__(self, file: Path):
        self._settings = read_provider(file, ReviewProvider)
        variable = self._settings.client_secret
        self._secret = os.environ.get(variable) if variable else None
        if variable and not self._secret:
            raise UserError(f"The environment variable {variable} is not set.", where=file)
        self._signer = Signer(self._settings.issuer, self._settings.client_id, file)
        told = self._signer.configuration
        try:
            self._authorize, self._token = str(told["authorization_endpoint"]), str(told["token_endpoint"])
        except KeyError as error:
            raise UserError(f"The identity provider names no {error.args[0]}.", where=self._settings.issuer) from None
        self._begun: OrderedDict[str, _Begun] = OrderedDict()

    def begin(self, to: str, back: str) -> tuple[str, str]:
        """(the provider's page to go to, the state that the browser must show on its return)."""
        state, begun = secrets.token_urlsafe(24), _Begun(to, back)
        self._begun[state] = begun
        while len(self._begun) > _MOST:
            self._begun.popitem(last=False)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": self._settings.client_id,
            "response_type": "code",
            "scope": "openid profile email",
            "redirect_uri": back,
            "state": state,
            "nonce": begun.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        joint = "&" if "?" in self._authorize else "?"
        return f"{self._authorize}{joint}{urlencode(asked)}", state

    async def finish(self, state: str, code: str) -> tuple[Claimed, str] | None:
        """Who has signed in, and where he wanted to go; None: nobody who may be here."""
        begun = self._begun.pop(state, None)
        if begun is None or time.monotonic() - begun.since > _SECONDS:
            return None
        sent = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": begun.back,
            "client_id": self._settings.client_id,
            "code_verifier": begun.verifier,
        }
        if self._secret:
            sent["client_secret"] = self._secret
        try:
            async with httpx.AsyncClient(timeout=10) as client:
                reply = (await client.post(self._token, data=sent)).raise_for_status().json()
            claims = await self._signer.claims(str(reply["id_token"]))
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
        if claims is None or not secrets.compare_digest(str(claims.get("nonce", "")).encode(), begun.nonce.encode()):
            return None
        role = self._role(claims)
        if role is None:
            return None
        return Claimed(str(claims["iss"]).rstrip("/"), str(claims["sub"]), _name(claims), role), begun.to

    def _role(self, claims: dict[str, Any]) -> Role | None:
        has = roles_in(claims)
        return next((role for role in _RANK if has & set(self._settings.roles.get(role, ()))), None)


def _name(claims: dict[str, Any]) -> str:
    """What a person is called: as a rule his address in the organisation."""
    told = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])
    return printable(told)[:MOST_NAME]

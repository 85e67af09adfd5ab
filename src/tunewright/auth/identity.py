"""Askers who sign in elsewhere: tokens of Microsoft Entra ID, or of any other provider that speaks OpenID Connect.

A token is a JWT that the provider signed (RFC 7519). It is good here if the signature is by one of the provider's keys,
if it was made for this server (`aud`), by this provider (`iss`), and is not over (`exp`). What its owner may ask is
decided by the roles in it: app roles and groups (`roles`, `groups`) and the scopes of a user's app (`scp`, `scope`).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.auth.keys import Principal
from tunewright.core.errors import UserError

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Those with a public key: with a shared one, whoever can check a token could make one."""
_LEEWAY = 60.0
"""Seconds that clocks may differ."""
_REFRESH = 60.0
"""Seconds between two looks for new keys, however many tokens name unknown ones."""
_SECONDS = 10.0
"""That the provider has to answer."""
_CLAIMS = ("roles", "groups", "scp", "scope")


class Grant(BaseModel):
    """What those who have a role may do."""

    model_config = ConfigDict(extra="forbid")

    role: str = Field(min_length=1)
    models: list[str] | None = None
    """Those they may ask; None: all."""
    per_minute: int | None = Field(None, ge=1)
    """Requests that each of them may send in a minute; None: any number."""


class Provider(BaseModel):
    """Who signs, for whom, and what follows from it."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(pattern=r"^https://|^http://(localhost|127\.0\.0\.1)[:/]")
    """Of Entra ID https://login.microsoftonline.com/TENANT/v2.0."""
    audience: str = Field(min_length=1)
    """Of Entra ID the client id of this server's app registration."""
    grants: list[Grant] = Field(min_length=1)
    """The first one counts whose role a token has."""


class NoRole(Exception):
    """A good token, whose owner may do nothing here."""


class Signer:
    """What a provider has signed, checked.

    Args:
        issuer: the provider.
        audience: for whom tokens must be made.
        file: that names them, for errors.

    Raises:
        UserError: the provider can't be reached or is another one.
    """

    def __init__(self, issuer: str, audience: str, file: Path):
        import jwt

        self._jwt = jwt
        self._issuer, self._audience = issuer, audience
        self._keys: dict[str, Any] = {}
        self._looked = -_REFRESH
        self._turn = asyncio.Lock()
        self.configuration = self._discover(file)
        """What the provider tells of itself (OpenID Connect Discovery)."""

    def _discover(self, file: Path) -> dict[str, Any]:
        issuer, fix = self._issuer.rstrip("/"), f"Check issuer in {file}."
        try:
            reply = httpx.get(f"{issuer}/.well-known/openid-configuration", timeout=_SECONDS, follow_redirects=True)
            told: dict[str, Any] = dict(reply.raise_for_status().json())
            named = str(told["issuer"])
            self._take(httpx.get(str(told["jwks_uri"]), timeout=_SECONDS).raise_for_status().json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError, self._jwt.PyJWTError) as error:
            why = f"{type(error).__name__}: {error}"
            raise UserError("The identity provider can't be reached.", where=issuer, why=why, fix=fix) from None
        if named.rstrip("/") != issuer:
            raise UserError(
                f"The identity provider calls itself {named}.",
                where=self._issuer,
                fix=f"Write that as issuer in {file}, if you trust it.",
            )
        return told

    async def claims(self, token: str) -> dict[str, Any] | None:
        """What a token says; None: it is not good here."""
        jwt = self._jwt
        try:
            identity = str(jwt.get_unverified_header(token).get("kid", ""))
            key = self._keys.get(identity) or await self._look_for(identity)
            if key is None:
                return None
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                leeway=_LEEWAY,
                issuer=[self._issuer, self._issuer.rstrip("/")],
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError:
            return None
        return claims

    async def _look_for(self, identity: str) -> Any:
        """A key that is not known: the provider may have begun to sign with a new one."""
        async with self._turn:
            if identity not in self._keys and time.monotonic() - self._looked > _REFRESH:
                self._looked = time.monotonic()
                try:
                    async with httpx.AsyncClient(timeout=_SECONDS) as client:
                        found = await client.get(str(self.configuration["jwks_uri"]))
                    self._take(found.raise_for_status().json())
                except (httpx.HTTPError, ValueError, self._jwt.PyJWTError):
                    pass  # the keys that are known stay good
        return self._keys.get(identity)

    def _take(self, told: Any) -> None:
        keys = self._jwt.PyJWKSet.from_dict(told).keys
        self._keys = {str(key.key_id): key for key in keys if key.public_key_use in (None, "sig")}


class Identity:
    """The askers of a provider.

    Args:
        file: a `Provider` in JSON.

    Raises:
        UserError: the file is none, or the provider can't be reached or is another one.
    """

    def __init__(self, file: Path):
        self.provider = read_provider(file, Provider)
        self._signer = Signer(self.provider.issuer, self.provider.audience, file)

    async def find(self, token: str) -> Principal | None:
        """Whose token it is; None: nobody's that is known here.

        Raises:
            NoRole: none of the token's roles has a grant.
        """
        claims = await self._signer.claims(token)
        if claims is None:
            return None
        has = roles_in(claims)
        for grant in self.provider.grants:
            if grant.role in has:
                return Principal(
                    f"oidc:{claims['sub']}", grant.per_minute, tuple(grant.models) if grant.models else None
                )
        raise NoRole


Settings = TypeVar("Settings", bound=BaseModel)


def read_provider(file: Path, form: type[Settings]) -> Settings:
    """Who signs in, as a file says in JSON.

    Raises:
        UserError: the file can't be read, or says something else.
    """
    try:
        return form.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError("The identity provider's file can't be read.", where=file, why=error.strerror) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"This names no identity provider: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            where=file,
            fix="See docs/serving.md, 'Who may ask', and docs/review.md, 'Who may review'.",
        ) from None


def roles_in(claims: dict[str, Any]) -> set[str]:
    """The roles, groups and scopes that a token tells of."""
    return {role for claim in _CLAIMS for role in _listed(claims.get(claim))}


def _listed(claim: Any) -> list[str]:
    """Roles are a list, scopes are words."""
    return claim.split() if isinstance(claim, str) else [str(each) for each in claim or ()]

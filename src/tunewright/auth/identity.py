"""Clients with a token of an identity provider: Microsoft Entra ID, or any other that speaks OpenID Connect.

A token is a JWT that the provider signed (RFC 7519). The server accepts it if one of the provider's keys signed it, it
was made for this server (`aud`) by this provider (`iss`), and it has not expired (`exp`). The roles in the token decide
what its owner may do: app roles and groups (`roles`, `groups`) and the scopes of a user's app (`scp`, `scope`).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.auth.keys import Principal
from tunewright.core.errors import UserError

_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Only algorithms with a public key: with a shared key, everybody who can check a token could make one."""
_LEEWAY = 60.0
"""Seconds that clocks may differ."""
_REFRESH = 60.0
"""Seconds between two requests for new keys, however many tokens name unknown keys."""
_SECONDS = 10.0
"""Time limit for the provider's reply."""
_CLAIMS = ("roles", "groups", "scp", "scope")


class Grant(BaseModel):
    """The rights that a role gives."""

    model_config = ConfigDict(extra="forbid")

    role: str = Field(min_length=1)
    models: list[str] | None = None
    """The models that its holders may use; None: all, an empty list: none."""
    per_minute: int | None = Field(None, ge=1)
    """Requests that each holder may send in a minute; None: any number."""


class Provider(BaseModel):
    """An identity provider, the audience of its tokens, and the grants of its roles."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(pattern=r"^https://|^http://(localhost|127\.0\.0\.1)[:/]")
    """For Entra ID: https://login.microsoftonline.com/TENANT/v2.0."""
    audience: str = Field(min_length=1)
    """For Entra ID: the client id of this server's app registration."""
    grants: list[Grant] = Field(min_length=1)
    """A token gets the first grant whose role it has."""


class NoRole(Exception):
    """A valid token without any role that has a grant."""


class Signer:
    """Checks the tokens that a provider signed.

    Args:
        issuer: the provider.
        audience: the audience that tokens must name.
        file: the configuration file, for error messages.

    Raises:
        UserError: the provider can't be reached or is another one.
    """

    def __init__(self, issuer: str, audience: str, file: Path):
        # Imported here, because most servers have no identity provider.
        import httpx
        import jwt

        self._http, self._jwt = httpx, jwt
        self._issuer, self._audience = issuer, audience
        self._keys: dict[str, Any] = {}
        self._refreshed = -_REFRESH
        self._lock = asyncio.Lock()
        self.configuration = self._discover(file)
        """The provider's metadata (OpenID Connect Discovery)."""

    def _discover(self, file: Path) -> dict[str, Any]:
        issuer, fix = self._issuer.rstrip("/"), f"Check issuer in {file}."
        try:
            reply = self._http.get(
                f"{issuer}/.well-known/openid-configuration", timeout=_SECONDS, follow_redirects=True
            )
            configuration: dict[str, Any] = dict(reply.raise_for_status().json())
            named = str(configuration["issuer"])
            self._set_keys(self._http.get(str(configuration["jwks_uri"]), timeout=_SECONDS).raise_for_status().json())
        except (self._http.HTTPError, ValueError, KeyError, TypeError, self._jwt.PyJWTError) as error:
            why = f"{type(error).__name__}: {error}"
            raise UserError("The identity provider can't be reached.", where=issuer, why=why, fix=fix) from None
        if named.rstrip("/") != issuer:
            raise UserError(
                f"The identity provider calls itself {named}.",
                where=self._issuer,
                fix=f"If you trust it, write that as issuer in {file}.",
            )
        return configuration

    async def claims(self, token: str) -> dict[str, Any] | None:
        """A token's claims; None: the token is not valid here."""
        jwt = self._jwt
        try:
            identity = str(jwt.get_unverified_header(token).get("kid", ""))
            key = self._keys.get(identity) or await self._refreshed_key(identity)
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

    async def _refreshed_key(self, identity: str) -> Any:
        """An unknown key, from the provider: it may have begun to sign with a new one. None: the provider has none."""
        async with self._lock:
            if identity not in self._keys and time.monotonic() - self._refreshed > _REFRESH:
                self._refreshed = time.monotonic()
                try:
                    async with self._http.AsyncClient(timeout=_SECONDS) as client:
                        reply = await client.get(str(self.configuration["jwks_uri"]))
                    self._set_keys(reply.raise_for_status().json())
                except (self._http.HTTPError, ValueError, self._jwt.PyJWTError):
                    pass  # the known keys stay valid
        return self._keys.get(identity)

    def _set_keys(self, key_set: Any) -> None:
        keys = self._jwt.PyJWKSet.from_dict(key_set).keys
        self._keys = {str(key.key_id): key for key in keys if key.public_key_use in (None, "sig")}


class Identity:
    """The clients that an identity provider signs in.

    Args:
        file: a `Provider` in JSON.

    Raises:
        UserError: the file is no `Provider`, or the provider can't be reached or is another one.
    """

    def __init__(self, file: Path):
        self.provider = read_provider(file, Provider)
        self._signer = Signer(self.provider.issuer, self.provider.audience, file)

    async def find(self, token: str) -> Principal | None:
        """The client that a token belongs to; None: the token is not valid here.

        Raises:
            NoRole: none of the token's roles has a grant.
        """
        claims = await self._signer.claims(token)
        if claims is None:
            return None
        roles = roles_in(claims)
        for grant in self.provider.grants:
            if grant.role in roles:
                return Principal(
                    f"oidc:{claims['sub']}", grant.per_minute, tuple(grant.models) if grant.models is not None else None
                )
        raise NoRole


Settings = TypeVar("Settings", bound=BaseModel)


def read_provider(file: Path, form: type[Settings]) -> Settings:
    """An identity provider's settings, from a JSON file.

    Raises:
        UserError: the file can't be read, or holds something else.
    """
    try:
        return form.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UserError("The identity provider's file can't be read.", where=file, why=error.strerror) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"This file names no identity provider: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            where=file,
            fix="See docs/serving.md, 'Who may ask', and docs/review.md, 'Who may review'.",
        ) from None


def roles_in(claims: dict[str, Any]) -> set[str]:
    """The roles, groups and scopes in a token's claims."""
    return {role for claim in _CLAIMS for role in _listed(claims.get(claim))}


def _listed(claim: Any) -> list[str]:
    """The entries of a claim: roles are a list, scopes are words with spaces between them."""
    return claim.split() if isinstance(claim, str) else [str(each) for each in claim or ()]

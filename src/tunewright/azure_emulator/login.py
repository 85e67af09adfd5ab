"""Entra ID as far as clients and servers need it: metadata, signed tokens for any scope, and the keys."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable
from urllib.parse import parse_qs

from tunewright.azure_emulator.cloud import PERSON, TENANT, HttpRequest, HttpResponse, error

LOGIN = "login.microsoftonline.com"
SECONDS = 3600
"""How long a token is valid."""
_TENANT = re.compile(r"^/([^/]+)/")
_KEY = "emulator"


def principal_of(resource: str) -> str:
    """The object id of the managed identity at a path in Resource Manager, or of the system-assigned identity of the
    resource there. The emulator uses it as the client id too."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, resource.lower()))


class Login:
    """Signs everybody in: a caller that names a client id is the principal with this id."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._roles: dict[str, list[str]] = {}

    def grant(self, audience: str, roles: Iterable[str]) -> None:
        """Give these roles to every caller that signs in to this audience."""
        self._roles[audience] = list(roles)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        match = _TENANT.match(request.path)
        tenant = match[1] if match and match[1] != "common" else TENANT
        if request.path.endswith("/discovery/instance"):
            return HttpResponse(body=_instance(tenant))
        if request.path.endswith("openid-configuration"):
            return HttpResponse(body=_configuration(tenant))
        if request.path.endswith("/keys"):
            return HttpResponse(body={"keys": [self._public()]})
        if request.path.endswith("/token"):
            form = parse_qs(request.body.decode())
            scope, principal = form["scope"][0].split()[0], form.get("client_id", [PERSON])[0]
            token = self.token(scope.removesuffix("/.default"), tenant, principal)
            return HttpResponse(body={"token_type": "Bearer", "expires_in": SECONDS, "access_token": token})
        return error(404, "NotFound", request.path)

    def token(self, audience: str, tenant: str, principal: str) -> str:
        """A JWT as Entra ID issues it: version 2 for an application's own audience, version 1 for Azure's services."""
        import jwt

        now = int(time.time())
        issuer = f"https://sts.windows.net/{tenant}/" if "://" in audience else f"https://{LOGIN}/{tenant}/v2.0"
        claims = {
            "aud": audience,
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + SECONDS,
            "tid": tenant,
            "oid": principal,
            "sub": "emulator",
            "appid": "emulator",
            "name": "emulator",
            "roles": self._roles.get(audience, []),
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": _KEY})

    def _public(self) -> dict[str, str]:
        from jwt.algorithms import RSAAlgorithm

        key: dict[str, str] = json.loads(RSAAlgorithm.to_jwk(self._key.public_key()))
        return key | {"kid": _KEY, "use": "sig", "alg": "RS256"}


def _instance(tenant: str) -> dict[str, object]:
    return {
        "tenant_discovery_endpoint": f"https://{LOGIN}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": LOGIN, "preferred_cache": LOGIN, "aliases": [LOGIN]}],
    }


def _configuration(tenant: str) -> dict[str, str]:
    base = f"https://{LOGIN}/{tenant}"
    return {
        "token_endpoint": f"{base}/oauth2/v2.0/token",
        "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
        "issuer": f"{base}/v2.0",
        "jwks_uri": f"{base}/discovery/v2.0/keys",
    }

"""Entra ID as far as a client needs it: metadata, and tokens for whatever scope is asked."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import parse_qs

from tunewright.places.rehearsal.cloud import TENANT, Answer, Asked, error

LOGIN = "login.microsoftonline.com"
SECONDS = 3600
"""How long a token is good for."""


def token(audience: str) -> str:
    """A JWT that says what Azure's say and is signed by nobody."""
    now = int(time.time())
    claims = {
        "aud": audience, "iss": f"https://sts.windows.net/{TENANT}/", "iat": now, "nbf": now, "exp": now + SECONDS,
        "tid": TENANT, "oid": "00000000-0000-0000-0000-000000000002", "appid": "rehearsal", "name": "rehearsal",
    }  # fmt: skip
    return ".".join(map(_part, ({"alg": "RS256", "typ": "JWT"}, claims, {"signed": "by nobody"})))


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def login(asked: Asked) -> Answer:
    base = f"https://{LOGIN}/{TENANT}"
    if asked.path.endswith("/discovery/instance"):
        return Answer(body={
            "tenant_discovery_endpoint": f"{base}/v2.0/.well-known/openid-configuration",
            "api-version": "1.1",
            "metadata": [{"preferred_network": LOGIN, "preferred_cache": LOGIN, "aliases": [LOGIN]}],
        })  # fmt: skip
    if asked.path.endswith("openid-configuration"):
        return Answer(body={
            "token_endpoint": f"{base}/oauth2/v2.0/token", "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "issuer": f"https://sts.windows.net/{TENANT}/", "jwks_uri": f"{base}/discovery/keys",
        })  # fmt: skip
    if asked.path.endswith("/token"):
        scope = parse_qs(asked.body.decode())["scope"][0].split()[0]
        made = token(scope.removesuffix("/.default"))
        return Answer(body={"token_type": "Bearer", "expires_in": SECONDS, "access_token": made})
    return error(404, "NotFound", asked.path)

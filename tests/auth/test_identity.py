"""Tokens of an identity provider: a small one that signs with real keys over real HTTP."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.testclient import TestClient

from tests.serving.test_app import Echo
from tunewright.auth import identity as module
from tunewright.auth.identity import Identity
from tunewright.auth.keys import KeyRing, add_key
from tunewright.core.errors import UserError
from tunewright.serving.app import build_app
from tunewright.serving.hosts import OneModel

pytestmark = pytest.mark.slow

AUDIENCE = "4f6d-server"


class Provider:
    """Serves its configuration and its keys, and signs tokens."""

    def __init__(self) -> None:
        self.private: dict[str, rsa.RSAPrivateKey] = {}
        self.looked = 0
        self.turn("one")
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(provider.answer(self.path)).encode()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.issuer = f"http://127.0.0.1:{self.server.server_port}/tenant/v2.0"

    def turn(self, name: str) -> None:
        """Sign with a new key from now on."""
        self.private = {name: rsa.generate_private_key(65537, 2048)}

    def answer(self, path: str) -> Any:
        if path.endswith("openid-configuration"):
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        self.looked += 1
        algorithm = jwt.algorithms.RSAAlgorithm
        return {
            "keys": [
                {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": name, "use": "sig"}
                for name, key in self.private.items()
            ]
        }

    def token(self, *roles: str, **claims: Any) -> str:
        ((name, key),) = self.private.items()
        payload = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ann", "exp": time.time() + 600, "roles": list(roles)}
        return jwt.encode(payload | claims, key, "RS256", {"kid": name})


@pytest.fixture
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def file(provider: Provider, tmp_path: Path) -> Path:
    file = tmp_path / "identity.json"
    grants: list[dict[str, Any]] = [
        {"role": "Tunewright.Ask"},
        {"role": "Tunewright.Few", "per_minute": 2},
        {"role": "other.scope", "models": ["another"]},
        {"role": "Tunewright.None", "models": []},
    ]
    file.write_text(json.dumps({"issuer": provider.issuer, "audience": AUDIENCE, "grants": grants}), "utf-8")
    return file


@pytest.fixture
def status(file: Path, tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Token -> the status of a request with it. Keys work too."""
    add_key(tmp_path / "keys.json", "shop")
    app = build_app(OneModel(Echo("classify")), KeyRing(tmp_path / "keys.json"), Identity(file))
    with TestClient(app) as client:
        yield (
            lambda token: (
                client.post(
                    "/v1/classify", json={"text": "a"}, headers={"Authorization": f"Bearer {token}"}
                ).status_code
            )
        )


def test_a_token_with_a_granted_role_is_accepted(provider: Provider, status: Callable[[str], int]) -> None:
    assert status(provider.token("Tunewright.Ask")) == 200
    assert status(provider.token("Else", "Tunewright.Ask")) == 200
    assert status(provider.token(scp="openid Tunewright.Ask")) == 200
    assert status(provider.token()) == 403
    assert status(provider.token("Tunewright.Asker")) == 403


def test_keys_work_beside_tokens(tmp_path: Path, status: Callable[[str], int]) -> None:
    assert status(add_key(tmp_path / "keys.json", "other")) == 200
    assert status("tw-nothing") == 401
    assert status("") == 401


def test_a_grant_limits_models_and_rate(provider: Provider, status: Callable[[str], int]) -> None:
    assert status(provider.token(scp="other.scope")) == 403, "to another model"
    assert [status(provider.token("Tunewright.Few")) for _ in range(3)] == [200, 200, 429]
    assert status(provider.token("Tunewright.Few", sub="bob")) == 200, "each client has its own allowance"


def test_a_grant_of_no_models_gives_none(provider: Provider, status: Callable[[str], int]) -> None:
    assert status(provider.token("Tunewright.None")) == 403


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def forged(algorithm: str, payload: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A token that PyJWT would not make."""
    head = {"alg": algorithm, "kid": "one"}
    text = f"{part(json.dumps(head).encode())}.{part(json.dumps(payload).encode())}"
    return f"{text}.{part(sign(text.encode()))}"


def test_an_invalid_token_is_refused(provider: Provider, status: Callable[[str], int]) -> None:
    now = time.time()
    role = "Tunewright.Ask"
    for claims in ({"exp": now - 120}, {"aud": "another"}, {"iss": "http://127.0.0.1/evil"}, {"nbf": now + 600}):
        assert status(provider.token(role, **claims)) == 401, claims
    good = provider.token(role)
    payload = jwt.decode(good, options={"verify_signature": False})
    assert status(forged("none", payload, lambda _: b"")) == 401
    head, _, signature = good.split(".")
    assert status(f"{head}.{part(json.dumps(payload | {'sub': 'root'}).encode())}.{signature}") == 401
    assert status(jwt.encode(payload, rsa.generate_private_key(65537, 2048), "RS256", {"kid": "one"})) == 401
    public = (
        provider.private["one"]
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    shared = forged("HS256", payload, lambda text: hmac.digest(public, text, "sha256"))
    assert status(shared) == 401, "a public key used as a shared one"
    without = {name: value for name, value in payload.items() if name != "exp"}
    assert status(jwt.encode(without, provider.private["one"], "RS256", {"kid": "one"})) == 401
    assert status("a.b.c") == 401


def test_new_keys_are_fetched_at_most_once_a_minute(
    provider: Provider, status: Callable[[str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = provider.token("Tunewright.Ask")
    provider.turn("two")
    assert status(provider.token("Tunewright.Ask")) == 200
    assert status(old) == 401, "its key is withdrawn"
    looked = provider.looked
    for number in range(20):
        provider.turn(f"made up {number}")
        assert status(provider.token("Tunewright.Ask")) == 401
    assert provider.looked == looked
    monkeypatch.setattr(module, "_REFRESH", 0.0)
    assert status(provider.token("Tunewright.Ask")) == 200


def test_known_keys_stay_valid_while_the_provider_is_down(provider: Provider, status: Callable[[str], int]) -> None:
    good, unknown = provider.token("Tunewright.Ask"), Provider()
    provider.server.shutdown()
    provider.server.server_close()
    assert status(jwt.encode({}, unknown.private["one"], "RS256", {"kid": "three"})) == 401
    assert status(good) == 200


def test_an_invalid_provider_is_refused(file: Path, provider: Provider) -> None:
    settings = json.loads(file.read_text("utf-8"))

    def refused(match: str, **changes: Any) -> None:
        file.write_text(json.dumps(settings | changes), "utf-8")
        with pytest.raises(UserError, match=match):
            Identity(file)

    refused("can't be reached", issuer="http://127.0.0.1:9/tenant")
    refused("issuer", issuer="http://example.com/tenant")
    refused("grants", grants=[])
    refused("audience", audience="")
    refused("secret", secret="x")
    refused("calls itself", issuer=provider.issuer.replace("127.0.0.1", "localhost"))
    with pytest.raises(UserError, match="can't be read"):
        Identity(file.with_name("nothing"))

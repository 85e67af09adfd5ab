"""Clients' keys are the gateway's own, and the upstream's key never leaves it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import azure.identity
import httpx
import pytest
from azure.core.exceptions import ServiceRequestError
from openai import AuthenticationError, AzureOpenAI, OpenAI, PermissionDeniedError, RateLimitError

from tests.gateway.conftest import Running, Start
from tests.gateway.test_pass_through import CHAT
from tests.gateway.upstream import Upstream
from tunewright.auth.keys import add_key
from tunewright.core.errors import UserError
from tunewright.gateway.app import Gateway
from tunewright.gateway.config import UpstreamSpec, load_gateway
from tunewright.gateway.upstreams import Upstream as Endpoint


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def guarded(start: Start, paid: Upstream, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A gateway with keys of its own, whose upstream has another."""
    monkeypatch.setenv("PAID_KEY", "sk-upstream")
    add_key(keys, "first")
    return start({"openai": UpstreamSpec(url=paid.url, key="PAID_KEY")}, keys=keys)


def client_with(gateway: Running, key: str) -> OpenAI:
    return OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


@pytest.mark.slow
def test_the_gateways_key_is_replaced_by_the_upstreams(guarded: Running, paid: Upstream, keys: Path) -> None:
    key = add_key(keys, "shop")
    assert client_with(guarded, key).chat.completions.create(**CHAT).choices
    azure = AzureOpenAI(azure_endpoint=guarded.url, api_version="2024-10-21", api_key=key)
    assert azure.chat.completions.create(**CHAT).choices
    for asked in paid.asked:
        assert asked.headers["authorization"] == "Bearer sk-upstream"
        assert key not in str(asked.headers)
    assert {each.client for each in guarded.exchanges()} == {"shop"}


@pytest.mark.slow
def test_a_key_may_come_in_anthropics_header(guarded: Running, paid: Upstream, keys: Path) -> None:
    key = add_key(keys, "shop")
    told = {"x-api-key": key, "anthropic-version": "2023-06-01"}
    httpx.post(f"{guarded.url}/v1/messages", json=CHAT, headers=told)
    (asked,) = paid.asked
    assert asked.headers["authorization"] == "Bearer sk-upstream"
    assert key not in str(asked.headers)


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/v1/chat/completions", ("authorization", "Bearer sk-ant")),
        ("/v1/messages", ("x-api-key", "sk-ant")),
        ("/v1/messages/count_tokens", ("x-api-key", "sk-ant")),
        ("/v1/models", ("x-api-key", "sk-ant")),
    ],
)
def test_anthropics_own_routes_get_its_own_header(
    monkeypatch: pytest.MonkeyPatch, path: str, header: tuple[str, str]
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
    anthropic = Endpoint("claude", UpstreamSpec(url="anthropic", key="ANTHROPIC_API_KEY"))
    assert asyncio.run(anthropic.credential(path)) == header


@pytest.mark.slow
def test_without_a_key_nobody_is_asked(guarded: Running, paid: Upstream) -> None:
    for key in ("sk-upstream", "tw-made-up"):
        with pytest.raises(AuthenticationError):
            client_with(guarded, key).chat.completions.create(**CHAT)
    assert httpx.post(f"{guarded.url}/v1/files", content=b"x").status_code == 401
    assert paid.asked == []
    assert httpx.get(f"{guarded.url}/health").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_without_a_key_nothing_can_be_sent_to_a_probes_path(guarded: Running, paid: Upstream, path: str) -> None:
    assert httpx.post(f"{guarded.url}{path}", content=b"x").status_code == 401
    assert paid.asked == []
    assert httpx.get(f"{guarded.url}{path}").status_code == 200


@pytest.mark.slow
def test_a_key_may_have_a_rate_and_models(guarded: Running, paid: Upstream, keys: Path) -> None:
    slow = client_with(guarded, add_key(keys, "slow", per_minute=1))
    assert slow.chat.completions.create(**CHAT).choices
    with pytest.raises(RateLimitError, match="'slow' may send 1 requests a minute"):
        slow.chat.completions.create(**CHAT)
    few = client_with(guarded, add_key(keys, "few", models=["gpt-6-luna"]))
    assert few.chat.completions.create(**CHAT).choices
    with pytest.raises(PermissionDeniedError, match="'few' may use these models only: gpt-6-luna"):
        few.chat.completions.create(model="gpt-6", messages=CHAT["messages"])
    with pytest.raises(PermissionDeniedError):
        few.files.list()
    assert len(paid.asked) == 2


@pytest.mark.slow
def test_a_key_with_models_may_use_no_deployment_of_another_name(
    start: Start, paid: Upstream, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAID_KEY", "azure-secret")
    few = add_key(keys, "few", models=["gpt-6-luna"])
    azure = UpstreamSpec(url=paid.url.removesuffix("/v1"), kind="azure", key="PAID_KEY")
    gateway = start({"azure": azure}, keys=keys)

    def asked(deployment: str, model: str) -> int:
        path = f"/openai/deployments/{deployment}/chat/completions"
        body = {**CHAT, "model": model}
        return httpx.post(f"{gateway.url}{path}", json=body, headers={"api-key": few}).status_code

    assert asked("gpt-6-sol", model="gpt-6-luna") == 403
    assert paid.asked == []
    assert asked("gpt-6-luna", model="gpt-6-luna") == 200


@pytest.mark.parametrize("step", ["..", "%2e%2e", ".", "..%5c", "a%5c..%5c..", "..;a=b", ".%3b"])
def test_no_path_leads_around_a_keys_deployment(
    start: Start, paid: Upstream, keys: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("PAID_KEY", "azure-secret")
    few = add_key(keys, "few", models=["gpt-6-luna"])
    azure = UpstreamSpec(url=paid.url.removesuffix("/v1"), kind="azure", key="PAID_KEY")
    address = httpx.URL(start({"azure": azure}, keys=keys).url)
    connection = HTTPConnection(address.host, address.port)  # httpx itself leaves such steps out
    path = f"/openai/deployments/gpt-6-luna/{step}/gpt-6-sol/chat/completions"
    connection.request("POST", path, json.dumps(CHAT), {"api-key": few})
    assert connection.getresponse().status == 400
    connection.close()
    assert paid.asked == []


@pytest.mark.parametrize(
    "models",
    [
        '"model": "gpt-6-sol", "model": "gpt-6-luna"',
        '"model": "gpt-6-luna", "Model": "gpt-6-sol"',
        '"model": "gpt-6-luna", "mod\\u0065l": "gpt-6-luna"',
    ],
)
def test_a_key_with_models_names_one(guarded: Running, paid: Upstream, keys: Path, models: str) -> None:
    def asked(key: str, models: str) -> int:
        body = f'{{{models}, "messages": [{{"role": "user", "content": "hello"}}]}}'
        headers = {"api-key": key}
        return httpx.post(f"{guarded.url}/v1/chat/completions", content=body, headers=headers).status_code

    few = add_key(keys, "few", models=["gpt-6-luna"])
    assert asked(few, models) == 400
    assert paid.asked == []
    assert asked(few, '"model": "gpt-6-luna", "metadata": {"model": "a"}') == 200
    assert asked(add_key(keys, "all"), models) == 200


def test_keys_need_upstreams_with_a_key(tmp_path: Path) -> None:
    settings = tmp_path / "gateway.yaml"
    settings.write_text("upstreams: {openai: {url: openai}}\nkeys: keys.json\n", "utf-8")
    with pytest.raises(UserError, match=r"upstreams.openai needs a key: the client's own is the gateway's"):
        load_gateway(settings)


def test_a_key_that_is_not_set_is_one_paragraph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    settings = tmp_path / "gateway.yaml"
    settings.write_text("upstreams: {openai: {url: openai, key: NOT_SET}}\n", "utf-8")
    with pytest.raises(UserError, match=r"key of the upstream 'openai' is not set.*export NOT_SET="):
        Gateway(lambda: load_gateway(settings))


@pytest.mark.slow
def test_entra_signs_in_with_the_real_credential_chain(
    start: Start, paid: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chain's last link is Azure's command line, which a script plays; the rest is azure-identity itself."""
    program = tmp_path / "bin" / "az"
    program.parent.mkdir()
    told = {"accessToken": "entra-token", "expiresOn": "2099-01-01 00:00:00.000000", "expires_on": 4070908800}
    program.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho '{json.dumps(told)}'\n", "utf-8")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    azure = UpstreamSpec(url=paid.url.removesuffix("/v1"), kind="azure", key="entra")
    gateway = start({"azure": azure})
    for _ in range(3):
        assert client_with(gateway, "sk-of-the-client").chat.completions.create(**CHAT).choices
    assert {asked.headers["authorization"] for asked in paid.asked} == {"Bearer entra-token"}
    assert (tmp_path / "asked").read_text("utf-8") == "asked\n", "one token serves many requests"
    program.write_text("#!/bin/sh\necho 'Please run az login' >&2\nexit 1\n", "utf-8")
    refused = httpx.post(f"{start({'azure': azure}).url}/v1/chat/completions", json=CHAT)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "no_token")
    assert len(paid.asked) == 3


class Credential:
    """A credential whose sign-in fails after the first time, because Entra ID can't be reached.

    Args:
        lasts: seconds for which its token holds.
    """

    def __init__(self, lasts: float):
        self._lasts, self.asked = lasts, 0

    def get_token(self, _scope: str) -> SimpleNamespace:
        self.asked += 1
        if self.asked > 1:
            time.sleep(0.2)
            raise ServiceRequestError("The network is unreachable.")
        return SimpleNamespace(token="entra-token", expires_on=time.time() + self._lasts)


@pytest.mark.parametrize(("lasts", "status"), [(-1, 502), (60, 200)])
def test_where_entra_is_out_of_reach_it_is_asked_once_and_a_token_that_holds_is_used(
    start: Start,
    paid: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lasts: float,
    status: int,
) -> None:
    credential = Credential(lasts)
    monkeypatch.setattr(azure.identity, "DefaultAzureCredential", lambda: credential)
    gateway = start({"azure": UpstreamSpec(url=paid.url.removesuffix("/v1"), kind="azure", key="entra")})

    def asked(_: int = 0) -> httpx.Response:
        return httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT)

    assert asked().status_code == 200
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(asked, range(10)))
    assert {each.status_code for each in answers} == {status}
    if status == 502:
        assert {each.json()["error"]["code"] for each in answers} == {"no_token"}
    assert credential.asked == 2
    assert capsys.readouterr().err.count("Entra ID gives no token: The network is unreachable.") == 1

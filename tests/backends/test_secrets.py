"""The user sees messages of Azure and of HTTP libraries without their secrets."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import RequestsTransport

from tests.conftest import make_spec
from tunewright.backends.azure import follow, store
from tunewright.backends.azure.answers import hidden, without_secrets
from tunewright.backends.azure.connection import Connection, transport
from tunewright.backends.azure.follow import JobFollower
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.throwaway import Throwaway
from tunewright.backends.azure.workspace import WorkspaceName
from tunewright.core.errors import UserError
from tunewright.deploy import images
from tunewright.deploy.cluster import Cluster
from tunewright.deploy.endpoint import ManagedEndpoint
from tunewright.deploy.live import error_sentence
from tunewright.deploy.trial import DeploymentAddress, TrialQuestion, _Client

SECRET = "s3cr3tS3cr3tS3cr3t"
SIGNED = f"https://a.blob.core.windows.net/c/b?sv=2024-05-04&sr=b&sig={SECRET}%3D&sp=r"
LEAKY = f"Max retries exceeded with url: {SIGNED} (Caused by NewConnectionError)"


@pytest.mark.parametrize(
    "text",
    [
        LEAKY,
        f"url: /c/b?sig={SECRET}",
        f"/c/b?a=1&amp;sig={SECRET}&amp;b=2",
        f"to=https%3A%2F%2Fx%3Fsig%3D{SECRET}%26sp%3Dr",
        f"GET /callback?code={SECRET}&state=1",
        f"GET /api?key={SECRET}",
        f"access_token={SECRET}",
        f"TOKEN={SECRET}",
        f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={SECRET}+/a==;EndpointSuffix=core.windows.net",
        f"Endpoint=sb://x/;SharedAccessKey={SECRET}=",
        f'{{"accountKey": "{SECRET}=="}}',
        f"{{'clusterToken': '{SECRET}'}}",
        f"Authorization: Bearer {SECRET}",
        f"'Authorization': 'Bearer {SECRET}'",
        f"authorization: SharedKey a:{SECRET}",
        f"Bearer {SECRET}",
        f"eyJhbGciOi.{SECRET}.abc",
        f"http://kim:{SECRET}@proxy:8080/",
        f"https://{SECRET}@feed/simple",
    ],
)
def test_a_text_without_its_secrets(text: str) -> None:
    said = without_secrets(text)
    assert SECRET not in said and "<" in said
    assert without_secrets(said) == said, "twice is as good as once"
    assert SECRET not in hidden(text, {})


@pytest.mark.parametrize(
    "text",
    [
        "code=Conflict: another operation is in progress",
        "Bearer token is missing",
        "The token: it has expired.",
        "the client does not have 'Microsoft.Authorization/roleAssignments/write'",
        "key=value",
        "design=1, assigned=2",
        "azure.workspace=SUBSCRIPTION_ID/GROUP/NAME",
        "ask somebody@example.com, https://learn.microsoft.com/a?view=b",
    ],
)
def test_the_rest_of_a_text_stays(text: str) -> None:
    assert without_secrets(text) == text


def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def retrying() -> Any:
    """A transport with a session whose retries urllib3 counts, as it does by default."""
    return RequestsTransport(session=requests.Session(), session_owner=False)


@pytest.mark.slow
@pytest.mark.parametrize(("sender", "quoted"), [(transport, "Connection refused"), (retrying, "&sig=<secret>&sp=c")])
def test_an_upload_that_nobody_takes_tells_no_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sender: Any, quoted: str
) -> None:
    monkeypatch.setattr(images, "transport", sender)
    monkeypatch.setattr(store, "RETRIES", {"retry_total": 1, "initial_backoff": 0, "increment_base": 0})
    packed = tmp_path / "context.tar.gz"
    packed.write_bytes(b"packed")
    with pytest.raises(UserError) as caught, azure_errors("the image x"):
        images._send(f"http://127.0.0.1:{closed_port()}/c/b?sv=2024-05-04&sr=b&sig={SECRET}%3D&sp=c", packed)
    said = caught.value.paragraph()
    assert "could not be reached for the image x" in said and quoted in said and SECRET not in said


@pytest.mark.parametrize(
    "kind",
    [
        AzureError,
        ClientAuthenticationError,
        DecodeError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    ],
)
def test_no_error_of_azures_clients_tells_a_secret(kind: type[AzureError]) -> None:
    with pytest.raises(UserError) as caught, azure_errors("the image x"):
        raise kind(message=f"{'so ' * 100}{LEAKY}")
    assert SECRET not in caught.value.paragraph()
    with pytest.raises(UserError) as caught, azure_errors("the image x"):
        error = kind(message="Not so.")
        error.error = SimpleNamespace(details=[SimpleNamespace(message=LEAKY)], code="No")
        raise error
    assert SECRET not in caught.value.paragraph() and "sig=<secret>" in caught.value.paragraph()


def test_no_log_has_a_signed_address() -> None:
    Connection(WorkspaceName("s", "g", "w"))
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.DEBUG)


def test_the_log_of_a_build_is_told_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    at: Any = SimpleNamespace(ask=lambda *_: {"logLink": SIGNED})
    log = f"Looking in indexes: https://build:{SECRET}@feed/simple\nNo matching distribution"
    monkeypatch.setattr(httpx, "get", lambda url, **_: httpx.Response(200, text=log, request=httpx.Request("GET", url)))
    said = images._log_end(at, "/runs/cb1")
    assert SECRET not in said and "No matching distribution" in said


def test_what_a_deployment_says_is_told_without_secrets() -> None:
    def answers(request: httpx.Request) -> httpx.Response:
        if "away" in str(request.url):
            raise httpx.ConnectError(LEAKY)
        return httpx.Response(403, text=f"You sent {request.headers['authorization']}.")

    for host in ("https://away/v1", "https://here/v1"):
        with httpx.Client(transport=httpx.MockTransport(answers)) as client:
            ask = _Client(client, DeploymentAddress(host, lambda: {"Authorization": f"Bearer {SECRET}"}), "m")
            assert ask(TrialQuestion([], "a")) is None
        assert SECRET not in ask.fault and "<secret>" in ask.fault


def test_what_a_cluster_prints_is_told_without_secrets() -> None:
    said = {"provisioningState": "Succeeded", "exitCode": 1, "logs": f"Error: Authorization: Bearer {SECRET} refused"}
    at: Any = SimpleNamespace(
        ask=lambda method, *_, **__: {"properties": said if method == "POST" else {}},
        name=SimpleNamespace(resource_group="g"),
    )
    for code, call in ((1, Cluster(at, "/aks").run), (0, Cluster(at, "/aks")._run_json)):
        said["exitCode"] = code
        with pytest.raises(UserError) as caught:
            call("helm list --all")
        assert SECRET not in caught.value.paragraph() and "<secret>" in caught.value.paragraph()


def test_what_a_container_says_is_told_without_secrets() -> None:
    deployments = SimpleNamespace(get_logs=lambda *_, **__: f"GET {SIGNED} failed")
    at = SimpleNamespace(ml=SimpleNamespace(online_deployments=deployments))
    own: Any = SimpleNamespace(_at=at, fresh="v1", name="endpoint")
    said = str(ManagedEndpoint._log(own))
    assert SECRET not in said and "failed" in said


def test_what_a_run_says_is_told_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history: Any = SimpleNamespace(error=SimpleNamespace(error=SimpleNamespace(message=LEAKY)), log_files={})
    runs = SimpleNamespace(get_run_details=lambda _: history)
    told = {"provisioningState": "Failed", "properties": {"errors": [{"message": LEAKY}]}}
    at: Any = SimpleNamespace(
        ml=SimpleNamespace(jobs=SimpleNamespace(_runs_operations=runs)),
        name=SimpleNamespace(path="/w"),
        ask=lambda *_: {"properties": told},
    )
    follower = JobFollower(at, "job", {"train": 1.0}, 10.0)
    monkeypatch.setattr(follow, "_tail", lambda *_: f"reading {SIGNED}\n".encode())
    says = [follower.error("run"), follower._cluster_state(SimpleNamespace(compute="/gpu"))]
    history.log_files = {"azureml-logs/20_image_build_log.txt": SIGNED}
    says.append(follower.build_log("run"))
    history.log_files = {"user_logs/std_log.txt": SIGNED}
    assert follower._print_log(SimpleNamespace(name="run", status="Running"))
    says.append(capsys.readouterr().err)
    for said in says:
        assert said and SECRET not in said and "sig=<secret>" in said


def test_what_a_probe_is_told_is_without_secrets() -> None:
    def refuses(*_: Any, **__: Any) -> dict[str, Any]:
        error = HttpResponseError(message=LEAKY)
        error.status_code = 400
        raise error

    def fails(*_: Any, **__: Any) -> dict[str, Any]:
        return {"properties": {"provisioningState": "Failed", "provisioningErrors": [LEAKY]}}

    for ask in (refuses, fails):
        at: Any = SimpleNamespace(name=SimpleNamespace(path="/w"), ask=ask)
        said = Throwaway(make_spec(), at).put("a cluster", "taken", "computes/x", {"properties": {}}, "size")
        assert SECRET not in said.message and "sig=<secret>" in said.message


def test_a_failed_undo_is_told_without_secrets() -> None:
    told = error_sentence(httpx.ConnectError(LEAKY))
    assert SECRET not in told and "sig=<secret>" in told

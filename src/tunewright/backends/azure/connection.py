"""A connection to a workspace: signing in, Azure's clients, and calls of Resource Manager that take long."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import httpx

from tunewright.backends.azure.refusals import azure_errors, clock_ahead, found, http_date
from tunewright.backends.azure.waiting import Wait
from tunewright.backends.azure.workspace import WorkspaceName, workspace_of
from tunewright.config import Spec
from tunewright.core.errors import UserError

ARM = "https://management.azure.com"
_LONGEST_SECONDS = 3000.0
_POLL_SECONDS = 2.0
_LONGEST_POLL = 30.0
"""The most seconds between two polls of a long operation, whatever `Retry-After` asks for: the user gets a line each
minute, and an answer that asks for an hour must not outlast `_LONGEST_SECONDS`."""
_LONGEST_WAIT = 12
"""Seconds: the most that one retry waits, whatever Azure asks for."""
RETRIES = {"retry_total": 5, "retry_status": 5, "retry_backoff_max": _LONGEST_WAIT}
"""How often clients try again if Azure asks to slow down or has a fault: for a minute at most."""
_WORKSPACE_VERSION = "2024-04-01"
"""The api-version of the call that reads Azure's time."""


class Connection:
    """A workspace and the sign-in to it. Everything is looked up when it is first needed."""

    def __init__(self, name: WorkspaceName):
        self.name = name
        # Otherwise they log experimental classes, uploads and each way to sign in that failed.
        for logger in ("azure.ai.ml", "azure.identity", "azure.core", "azure.storage"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        for logger in ("httpx", "urllib3"):  # they log whole addresses, and some are signed
            logging.getLogger(logger).setLevel(logging.WARNING)

    @cached_property
    def credential(self) -> Any:
        """Entra ID by what this machine has: variables, a managed identity, az login, azd auth login."""
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential(additionally_allowed_tenants=["*"])

    @cached_property
    def ml(self) -> Any:
        """Azure ML's own client."""
        from azure.ai.ml import MLClient

        name = self.name
        return MLClient(
            self.credential,
            name.subscription,
            name.resource_group,
            name.workspace,
            show_progress=False,
            transport=transport(),
            **RETRIES,
        )

    @cached_property
    def workspace(self) -> Any:
        """The workspace as the SDK describes it.

        Raises:
            UserError: it does not exist, or Azure refuses.
        """
        name = self.name
        with azure_errors(f"the workspace {name.workspace}"):
            workspace = found(self.ml.workspaces.get, name.workspace)
        if workspace is None:
            raise UserError(
                f"There is no workspace {name.workspace} in the resource group {name.resource_group}.",
                # The rule deleted-workspaces-keep-their-names.
                why="If it was deleted, Azure keeps it for 14 days: nobody can use it, and its name stays taken.",
                fix="Check azure.workspace. Bring a deleted one back at portal.azure.com > Azure Machine Learning > "
                "Recently deleted, or make another: azd env new NAME && azd up",
            )
        return workspace

    @cached_property
    def datastore(self) -> Any:
        """The workspace's default datastore."""
        with azure_errors("the workspace's storage"):
            return self.ml.datastores.get_default()

    @property
    def is_private(self) -> bool:
        """Whether the workspace is closed to the public network."""
        return bool(self.workspace.public_network_access == "Disabled")

    @property
    def region(self) -> str:
        return str(self.workspace.location)

    @cached_property
    def arm(self) -> Any:
        """A signed-in client of Resource Manager, for calls that the SDK lacks: `send_request(HttpRequest)`."""
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy, UserAgentPolicy

        policies = [
            UserAgentPolicy("tunewright"),
            RetryPolicy(**RETRIES),
            BearerTokenCredentialPolicy(self.credential, f"{ARM}/.default"),
        ]
        return PipelineClient(ARM, policies=policies, transport=transport())

    @cached_property
    def _ahead(self) -> float:
        """Seconds that Azure's clock is ahead of this machine's; 0 if they about agree."""
        with azure_errors(f"the workspace {self.name.workspace}"):
            answer = self._send("GET", f"{ARM}{self.name.path}", {"api-version": _WORKSPACE_VERSION}, None)
        return clock_ahead(answer)

    @property
    def now(self) -> datetime:
        """The time by Azure's clock, which dates the runs.

        Raises:
            UserError: Azure can't be asked.
        """
        return datetime.now(UTC) + timedelta(seconds=self._ahead)

    def ask(
        self,
        method: str,
        path: str,
        version: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        *,
        what: str = "",
        costs: str = "",
    ) -> dict[str, Any]:
        """Make one call of Resource Manager and return its JSON.

        A long operation is followed to its end, and a list to its last page.

        Args:
            what: as in `Wait.look`, if the call takes long; the call itself if empty.
            costs: as in `Wait.look`.

        Raises:
            azure.core.exceptions.HttpResponseError: Azure refused.
            UserError: it takes longer than any operation should.
        """
        response = self._send(method, f"{ARM}{path}", {"api-version": version, **(query or {})}, body)
        wait, what = Wait(), what or f"Azure to end {method} {'/'.join(path.split('/')[-2:])}"
        while response.status_code == httpx.codes.ACCEPTED and (location := response.headers.get("location")):
            if wait.look(what, _LONGEST_SECONDS, costs):
                raise UserError(
                    f"Azure has not ended {method} {path} after {_LONGEST_SECONDS / 60:.0f} minutes.",
                    fix="See in the Azure portal what holds it up.",
                )
            time.sleep(_pause(response.headers))
            response = self._send("GET", location, {}, None)
        return self._with_all_pages(dict(_json(response))) if response.content else {}

    def _with_all_pages(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer together with the entries of its further pages. An answer names the next page in `nextLink`; the
        service decides how long a page is (learn.microsoft.com/rest/api/azure, 2026-11-28)."""
        following = answer.pop("nextLink", None)
        while following:
            page = _json(self._send("GET", following, {}, None))
            answer["value"] = [*answer.get("value", []), *page.get("value", [])]
            following = page.get("nextLink")
        return answer

    def _send(self, method: str, url: str, parameters: dict[str, str], body: Any) -> Any:
        from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
        from azure.core.rest import HttpRequest

        response = self.arm.send_request(HttpRequest(method, url, params=parameters, json=body))
        if response.status_code >= httpx.codes.BAD_REQUEST:
            response.read()
            kind = ResourceNotFoundError if response.status_code == httpx.codes.NOT_FOUND else HttpResponseError
            raise kind(response=response)
        return response


def connect(spec: Spec) -> Connection:
    """A connection to the workspace that a spec means.

    Raises:
        UserError: the extra [azure] is not installed, or nothing names a workspace.
    """
    import importlib.util

    from tunewright.core.errors import missing_extra

    if importlib.util.find_spec("azure") is None or importlib.util.find_spec("azure.ai.ml") is None:
        raise missing_extra("azure", "azure.ai.ml")
    return Connection(workspace_of(spec))


def transport() -> Any:
    """An HTTP transport for Azure's clients. Their default one waits an hour if a `Retry-After` asks for it, and takes
    a proxy's page for Azure's answer."""
    from azure.core.exceptions import ServiceResponseError
    from azure.core.pipeline.transport import RequestsTransport

    requests = RequestsTransport()
    sleep, send = requests.sleep, requests.send

    def send_checked(request: Any, **options: Any) -> Any:
        answer = send(request, **options)
        # A blob may be a page too; Azure's own answers have a request id.
        if answer.status_code < httpx.codes.MULTIPLE_CHOICES and _is_page(answer.headers):
            raise ServiceResponseError("Something between this machine and Azure answered with a page of HTML.")
        return answer

    requests.sleep = lambda seconds: sleep(min(seconds, _LONGEST_WAIT))
    requests.send = send_checked
    return requests


def _is_page(headers: Mapping[str, str]) -> bool:
    """Whether an answer is a page that is not Azure's."""
    return headers.get("content-type", "").startswith("text/html") and "x-ms-request-id" not in headers


def _json(response: Any) -> Any:
    """The JSON of an answer.

    Raises:
        azure.core.exceptions.DecodeError: it has none.
    """
    from azure.core.exceptions import DecodeError

    try:
        return response.json()
    except ValueError as error:
        raise DecodeError(f"JSON was expected: {error}", response=response) from error


def _pause(headers: Mapping[str, str]) -> float:
    """Seconds until the next poll of a long operation. `Retry-After` gives them as a number, or as a date by the
    server's clock; without either it is `_POLL_SECONDS`."""
    retry_after, seconds = headers.get("retry-after", ""), _POLL_SECONDS
    if re.fullmatch(r"\d+(\.\d+)?", retry_after.strip()):
        seconds = float(retry_after)
    elif then := http_date(headers, "retry-after"):
        ahead = (then - (http_date(headers, "date") or datetime.now(UTC))).total_seconds()
        seconds = ahead if ahead > 0 else _POLL_SECONDS
    return min(seconds, _LONGEST_POLL)

"""Which workspace is meant, who signs in to it, and what its refusals mean to a user."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tunewright.backends.azure import azd
from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.waiting import Wait
from tunewright.config import Spec
from tunewright.core.errors import UserError

VARIABLES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_ML_WORKSPACE")
"""Of a workspace, as `azd env` has them after `azd up`."""
_CONFIG_KEYS = ("subscription_id", "resource_group", "workspace_name")
_CONFIGS = ("config.json", ".azureml/config.json")
ARM = "https://management.azure.com"
_LONGEST_SECONDS = 3000.0
_POLL_SECONDS = 2.0
_LONGEST_POLL = 30.0
"""Seconds between two looks at a long operation, whatever `Retry-After` asks for: a line is due each minute, and one
answer that asks for an hour must not outlast `_LONGEST_SECONDS`."""
_LONGEST_WAIT = 12
"""Seconds: the most that one retry waits, whatever Azure asks for."""
RETRIES = {"retry_total": 5, "retry_status": 5, "retry_backoff_max": _LONGEST_WAIT}
"""How often clients ask again where Azure says to slow down or is at fault: for a minute at most."""


_AWAY = re.compile(
    r"Unable to connect|Failed to (?:establish|resolve)|Max retries|timed out|Connection (?:refused|reset)"
)
"""In the words of a sign-in that failed: that nobody answered."""
_SET_UP = re.compile(r"Credential: (?:Authentication failed|.*AADSTS|Please run 'a)")
"""That this way to sign in was set up, and refused."""
_PROXY = re.compile(r"407 Proxy Authentication|proxy authentication required", re.I)
_EARLY = re.compile(r"AADSTS(?:700024|500133)|not yet valid|within its valid time range|request date header", re.I)
"""In a refusal: the clocks differ."""
_WORKSPACE = "2024-04-01"
"""The version in which the workspace is asked for the time."""
_NOBODY = "Nobody is signed in on this machine: neither by variables, nor a managed identity, az or azd"


UNREGISTERED = "MissingSubscriptionRegistration"
"""The code of a refusal where the subscription is not registered for a resource provider. It then has none of the
provider's resources, because none can be unregistered that has some (learn.microsoft.com/azure/azure-resource-manager/\
management/resource-providers-and-types, read 2026-11-28)."""

_LONGEST_SAID = 400
"""How many signs of what Azure says a message has."""
_UNDER_WAY = re.compile(r"in progress|another operation|(?:Creating|Updating|Deleting) provisioning state", re.I)
"""In the words of a refusal because of a change that has not ended (rule changes-follow-each-other)."""
_NAMESPACE = re.compile(r"namespace '([^']+)'")
_CLOCK_SECONDS = 120.0
"""From which on this machine's clock counts as wrong: answers are dated to the second, and come within seconds."""
_HINTS = {
    # Free trials' registries build nothing (github.com/Azure-Samples/azure-search-openai-demo/issues/2592).
    "TasksOperationsNotAllowed": "Subscriptions on free credit have no builds in a registry: go over to pay as "
    "you go, or ask support. "
    "Azure ML can build on a cluster instead: az ml workspace update --name WORKSPACE --resource-group GROUP "
    "--image-build-compute tunewright-cpu",
    # With 409 (Azure/ARO-RP, which passes it on; read 2026-11-28).
    "ScopeLocked": "A lock keeps it as it is. See which: az lock list --resource-group GROUP. Who set it can "
    "take it off; then "
    "type the same command again.",
    # With 403 (learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-policy-requestdisallowedbypolicy,
    # read 2026-11-29).
    "RequestDisallowedByPolicy": "A policy of your company denies it, whatever your roles are. See what it "
    "wants: az policy definition show "
    "--name NAME  (the name stands in the refusal); name what it allows, or ask who assigned it for an exemption.",
    # The rule storage-refusals.
    "AuthorizationFailure": "The storage account's firewall does not let this machine in. Add its address "
    "(Networking, in the portal), or "
    "type the command on a machine of that network.",
    "KeyBasedAuthenticationNotPermitted": "The storage account takes no keys, and the workspace's datastore has "
    "one. Let it sign in instead: az ml "
    "workspace update --name WORKSPACE --resource-group GROUP --system-datastores-auth-mode identity",
    "AuthenticationFailed": "The signed address or the sign-in is not valid now. Type the same command again, "
    "which gets a new one; where "
    "that does not help, look at this machine's clock.",
}
"""What to do about a refusal, by Azure's code of it."""

_Found = TypeVar("_Found")


class Unreachable(UserError):
    """Azure can't be reached, is at fault or asks to slow down: later the same call may do."""


@dataclass(frozen=True)
class WorkspaceName:
    subscription: str
    resource_group: str
    workspace: str

    @property
    def path(self) -> str:
        """ARM's path of it."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )


def workspace_of(spec: Spec) -> WorkspaceName:
    """The workspace that a spec means: by its own words, by azd's variables, by what `azd up` wrote above the spec or
    above the current folder, or by a `config.json` of the studio's.

    Raises:
        UserError: none of them names it.
    """
    if spec.azure.workspace:
        return WorkspaceName(*spec.azure.workspace.split("/"))
    told = [os.environ.get(name, "") for name in VARIABLES]
    if not all(told):
        made = azd.written(spec.folder, Path.cwd())
        told = [made.get(name, "") for name in VARIABLES]
    if not all(told):
        config = _config(spec.folder)
        told = [str(config.get(key) or "") for key in _CONFIG_KEYS]
    if not all(told):
        raise UserError(
            "It is not said which Azure Machine Learning workspace to use.",
            where=spec.folder,
            why="Looked in the spec, in azd's variables and files, and for a config.json beside the spec or above it.",
            fix="Make one with azd up (docs/azure-infrastructure.md), download config.json from ml.azure.com, or add "
            "azure.workspace=SUBSCRIPTION_ID/RESOURCE_GROUP/NAME. Without a subscription: --emulate",
        )
    return WorkspaceName(*told)


def _config(folder: Path) -> dict[str, Any]:
    for place in (folder, *folder.parents):
        for name in _CONFIGS:
            file = place / name
            if file.is_file():
                try:
                    data = json.loads(file.read_text("utf-8"))
                except ValueError as error:
                    raise UserError(f"This is not JSON: {error}.", where=file, fix="Download it again.") from None
                if isinstance(data, dict) and "workspace_name" in data:
                    return data
    return {}


class Connection:
    """A workspace, signed in to. Everything is looked up when it is first needed."""

    def __init__(self, name: WorkspaceName):
        self.name = name
        # Experimental classes, uploads and every way to sign in that failed are announced otherwise.
        for logger in ("azure.ai.ml", "azure.identity", "azure.core", "azure.storage"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        for logger in ("httpx", "urllib3"):  # they log whole addresses, and some are signed
            logging.getLogger(logger).setLevel(logging.WARNING)

    @cached_property
    def credential(self) -> Any:
        """Entra ID by whatever this machine has: variables, a managed identity, az login, azd auth login."""
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
        """
        Raises:
            UserError: it is not there, or Azure refuses.
        """
        name = self.name
        with azure_errors(f"the workspace {name.workspace}"):
            there = found(self.ml.workspaces.get, name.workspace)
        if there is None:
            raise UserError(
                f"There is no workspace {name.workspace} in the resource group {name.resource_group}.",
                # The rule deleted-workspaces-keep-their-names.
                why="If it was deleted, Azure keeps it for 14 days: nothing can be done in it, and its name is taken.",
                fix="Check azure.workspace. Bring a deleted one back at portal.azure.com > Azure Machine Learning > "
                "Recently deleted, or make another: azd env new NAME && azd up",
            )
        return there

    @cached_property
    def datastore(self) -> Any:
        """The default one."""
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
        """A client of Resource Manager for what the SDK has no call for: `send_request(HttpRequest)`, signed in."""
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
        """Seconds that Azure's clock is ahead of this machine's; 0 where it is about right."""
        with azure_errors(f"the workspace {self.name.workspace}"):
            answer = self._sent("GET", f"{ARM}{self.name.path}", {"api-version": _WORKSPACE}, None)
        return _ahead(answer)

    @property
    def now(self) -> datetime:
        """The time by Azure's clock, which what it says of runs is in.

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
        """One call of Resource Manager: its JSON. It is followed to its end where it takes long, and to the last page
        where it lists.

        Args:
            what: is waited for where it takes long, as of `Wait.look`; the call itself where it is not said.
            costs: as of `Wait.look`.

        Raises:
            azure.core.exceptions.HttpResponseError: it refused.
            UserError: it takes longer than anything does.
        """
        response = self._sent(method, f"{ARM}{path}", {"api-version": version, **(query or {})}, body)
        wait, what = Wait(), what or f"Azure to end {method} {'/'.join(path.split('/')[-2:])}"
        while response.status_code == httpx.codes.ACCEPTED and (place := response.headers.get("location")):
            if wait.look(what, _LONGEST_SECONDS, costs):
                raise UserError(
                    f"Azure has not ended {method} {path} after {_LONGEST_SECONDS / 60:.0f} minutes.",
                    fix="See in the Azure portal what holds it up.",
                )
            time.sleep(_pause(response.headers))
            response = self._sent("GET", place, {}, None)
        return self._with_all_pages(dict(_json(response))) if response.content else {}

    def _with_all_pages(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer with what the pages behind it list, too. As long as there is a next page an answer names it in
        `nextLink`; how long a page is, the service decides (learn.microsoft.com/rest/api/azure, 2026-11-28)."""
        following = answer.pop("nextLink", None)
        while following:
            page = _json(self._sent("GET", following, {}, None))
            answer["value"] = [*answer.get("value", []), *page.get("value", [])]
            following = page.get("nextLink")
        return answer

    def _sent(self, method: str, url: str, parameters: dict[str, str], body: Any) -> Any:
        from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
        from azure.core.rest import HttpRequest

        response = self.arm.send_request(HttpRequest(method, url, params=parameters, json=body))
        if response.status_code >= httpx.codes.BAD_REQUEST:
            response.read()
            kind = ResourceNotFoundError if response.status_code == httpx.codes.NOT_FOUND else HttpResponseError
            raise kind(response=response)
        return response


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


def _ahead(answer: Any) -> float:
    """Seconds that the clock of who answered is ahead of this machine's; 0 where the answer does not tell, or it is
    about right."""
    told = _moment(answer.headers if answer is not None else {}, "date")
    seconds = (told - datetime.now(UTC)).total_seconds() if told else 0.0
    return seconds if abs(seconds) > _CLOCK_SECONDS else 0.0


def _pause(headers: Mapping[str, str]) -> float:
    """Seconds until a long operation is looked at again. `Retry-After` says it, as seconds or as a date by the clock of
    who answered; ours where it says neither."""
    told, seconds = headers.get("retry-after", ""), _POLL_SECONDS
    if re.fullmatch(r"\d+(\.\d+)?", told.strip()):
        seconds = float(told)
    elif then := _moment(headers, "retry-after"):
        ahead = (then - (_moment(headers, "date") or datetime.now(UTC))).total_seconds()
        seconds = ahead if ahead > 0 else _POLL_SECONDS
    return min(seconds, _LONGEST_POLL)


def _moment(headers: Mapping[str, str], name: str) -> datetime | None:
    """The HTTP date in a header; None where there is none."""
    try:
        told = parsedate_to_datetime(headers.get(name) or "")
    except ValueError:
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)  # "-0000" is UTC as well


def is_unregistered(error: UserError) -> bool:
    """Whether Azure refused because the subscription is not registered for what was asked about."""
    return code_of(error.__cause__) == UNREGISTERED


def register(provider: str, subscription: str) -> str:
    """What somebody types to register a subscription for a resource provider."""
    return (
        f"Register it once: az provider register --namespace {provider} --subscription {subscription} --wait  "
        "(as Contributor or Owner of the subscription)"
    )


def code_of(error: BaseException | None) -> str:
    """What Azure calls its refusal; empty where it has no name."""
    # The storage's client has it elsewhere than the others.
    code = getattr(getattr(error, "error", None), "code", None) or getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def found(call: Callable[..., _Found], *arguments: Any) -> _Found | None:
    """What a call of Azure's clients gives; None where what it asks for is not there."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return call(*arguments)
    except ResourceNotFoundError:
        return None


def transport() -> Any:
    """What clients send by. As they come, they wait an hour where a `Retry-After` says so, and take the page of a proxy
    for Azure's answer."""
    from azure.core.exceptions import ServiceResponseError
    from azure.core.pipeline.transport import RequestsTransport

    made = RequestsTransport()
    wait, send = made.sleep, made.send

    def sent(request: Any, **options: Any) -> Any:
        answer = send(request, **options)
        # A blob may be a page too; what is Azure's has the number of the request.
        if answer.status_code < httpx.codes.MULTIPLE_CHOICES and _is_page(answer.headers):
            raise ServiceResponseError("Something between this machine and Azure answered with a page of HTML.")
        return answer

    made.sleep = lambda seconds: wait(min(seconds, _LONGEST_WAIT))
    made.send = sent
    return made


def _is_page(headers: Mapping[str, str]) -> bool:
    """Whether an answer is a page that is not Azure's."""
    return headers.get("content-type", "").startswith("text/html") and "x-ms-request-id" not in headers


def connect(spec: Spec) -> Connection:
    """The workspace a spec means.

    Raises:
        UserError: the extra [azure] is not installed, or none is named.
    """
    import importlib.util

    from tunewright.core.errors import missing_extra

    if importlib.util.find_spec("azure") is None or importlib.util.find_spec("azure.ai.ml") is None:
        raise missing_extra("azure", "azure.ai.ml")
    return Connection(workspace_of(spec))


@contextmanager
def azure_errors(what: str) -> Iterator[None]:
    """Tell in one paragraph why Azure did not do something, and what to do about it.

    Args:
        what: it was about, such as "the workspace prod".

    Raises:
        UserError: for whatever Azure's clients raise.
    """
    from azure.core.exceptions import (
        AzureError,
        ClientAuthenticationError,
        DecodeError,
        HttpResponseError,
        ServiceRequestError,
        ServiceResponseError,
    )

    try:
        # The SDK draws dots on standard output while it waits, where the answer alone belongs.
        with redirect_stdout(sys.stderr):
            yield
    except ClientAuthenticationError as error:
        if _AWAY.search(str(error)):
            raise _unreachable(what, error) from error
        raise UserError(
            f"Azure does not know who asks for {what}.",
            why=_first_line(error),
            fix=_clock(error)
            or _HINTS.get(code_of(error))
            or "Sign in again, then type the same command: az login  (or azd auth login)",
        ) from error
    except DecodeError as error:  # an answer that is cut off among them
        raise _not_whole(what, error) from error
    except HttpResponseError as error:
        # The storage's client says so of an answer that broke off.
        raise (_not_whole if isinstance(error.inner_exception, AzureError) else _refused)(what, error) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise _unreachable(what, error) from error
    except AzureError as error:  # the SDK's own checks, MlException among them
        raise UserError(
            f"Azure did not take {what}.", why=_first_line(error), fix="Mend that, then run again."
        ) from error


def _not_whole(what: str, error: Any) -> Unreachable:
    return Unreachable(
        f"What came for {what} was not whole, or not Azure's.",
        why=_first_line(error),
        fix="Check the network, and whether a proxy stands in between (HTTPS_PROXY); then type the same command again: "
        "it goes on from there.",
    )


def _unreachable(what: str, error: Any) -> Unreachable:
    fix = "Check the network (and HTTPS_PROXY), then type the same command again: it goes on from there."
    if _PROXY.search(str(error)):
        fix = (
            "The proxy asks who you are: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT. Then type the same command again."
        )
    return Unreachable(f"Azure could not be reached for {what}.", why=_first_line(error), fix=fix)


def _clock(error: Any) -> str | None:
    """What to do where the clocks differ, which makes tokens and signed addresses invalid."""
    ahead = _ahead(getattr(error, "response", None))
    if not ahead and not _EARLY.search(str(error)):
        return None
    minutes = (
        f" is {abs(ahead) / 60:.0f} minutes {'behind' if ahead > 0 else 'ahead of'} Azure's"
        if ahead
        else " differs from Azure's"
    )
    return f"This machine's clock{minutes}. Set it (timedatectl set-ntp true), then type the same command again."


def _refused(what: str, error: Any) -> UserError:
    code, said = code_of(error), _first_line(error)
    match error.status_code:
        case 401:
            fix = "The sign-in has expired. Type: az login  (then the same command again)"
        case 403:
            fix = "A role is missing, or is not in force yet, because it was given less than ten minutes ago. "
            fix += "Type: tunewright azure preflight  (it says which)"
        case 404:
            fix = "Check azure.workspace."
        case 409:
            fix = (
                "Something else is being done with it, or it is there and says something else. Type the same command "
                "again in some minutes; what stands: tunewright azure ls"
            )
        case 412:
            fix = "Somebody else changes or holds it (a lease). Type the same command again in a minute."
        case 429:
            fix = "Azure asks to slow down, and waiting did not help. Type the same command again in some minutes."
        case status if status and status >= 500:
            fix = "It is a fault of Azure's. Type the same command again: what is done is not done twice."
        case _:
            fix = "Mend that, then type the same command again."
    fix = _HINTS.get(code, fix)
    if error.status_code in (400, 409) and (code == "ContainerAppOperationInProgress" or _UNDER_WAY.search(said)):
        fix = (
            "Another change of it is under way, maybe another command's. Type the same command again when it has ended."
        )
    if code == UNREGISTERED:
        named = _NAMESPACE.search(said)
        fix = register(named[1] if named else "NAMESPACE", "SUBSCRIPTION_ID")
    if error.status_code in (401, 403):
        fix = _clock(error) or fix
    if "quota" in f"{code} {said}".lower():
        fix = (
            "Ask for more cores (Quotas in the portal), or name a smaller machine: azure.gpu=… or azure.gpu=null for "
            "steps, traffic.machine=… for what serves. How many are free: tunewright azure preflight  (with --to aml "
            "for an endpoint)"
        )
    if error.status_code and error.status_code < httpx.codes.BAD_REQUEST:  # it was taken up, and came to nothing
        return UserError(f"Azure could not bring {what} to an end{f' ({code})' if code else ''}.", why=said, fix=fix)
    kind = Unreachable if error.status_code == 429 or (error.status_code or 0) >= 500 else UserError
    return kind(f"Azure refused {what} ({error.status_code}{f', {code}' if code else ''}).", why=said, fix=fix)


def _first_line(error: BaseException) -> str:
    """What an error says first, with its first detail, without secrets; of a sign-in that tried several ways, what the
    first came to that was set up."""
    told = without_secrets(str(getattr(error, "message", None) or error))
    lines = told.strip().splitlines() or [type(error).__name__]
    if "DefaultAzureCredential" in lines[0]:
        lines = [line for line in lines if _SET_UP.search(line)] or [_NOBODY]
    details = getattr(getattr(error, "error", None), "details", None) or []
    detail = without_secrets(str(getattr(details[0], "message", None) or "")) if details else ""
    more = f" {detail}" if detail and detail not in lines[0] else ""
    return f"{lines[0].strip()[:_LONGEST_SAID]}{more[:_LONGEST_SAID]}".rstrip(".") + "."

"""What Azure's refusals mean, and what a user does about each."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from tunewright.backends.azure.answers import without_secrets
from tunewright.core.errors import UserError

_NO_ANSWER = re.compile(
    r"Unable to connect|Failed to (?:establish|resolve)|Max retries|timed out|Connection (?:refused|reset)"
)
"""Matches the message of a failed sign-in if nobody answered."""
_SET_UP = re.compile(r"Credential: (?:Authentication failed|.*AADSTS|Please run 'a)")
"""Matches a line about a way to sign in that was set up and then refused."""
_PROXY = re.compile(r"407 Proxy Authentication|proxy authentication required", re.I)
_CLOCKS_DIFFER = re.compile(
    r"AADSTS(?:700024|500133)|not yet valid|within its valid time range|request date header", re.I
)
"""Matches a refusal whose cause is that the clocks differ."""
_NOT_SIGNED_IN = "Nobody is signed in on this machine: neither by variables, nor a managed identity, az or azd"

UNREGISTERED = "MissingSubscriptionRegistration"
"""The code of a refusal if the subscription is not registered for a resource provider. It then has none of the
provider's resources, because a provider that has some can't be unregistered (learn.microsoft.com/azure/azure-resource-\
manager/management/resource-providers-and-types, read 2026-11-28)."""

_MAX_CHARACTERS = 400
"""Characters of Azure's message that ours quotes."""
_UNDER_WAY = re.compile(r"in progress|another operation|(?:Creating|Updating|Deleting) provisioning state", re.I)
"""Matches a refusal because of a change that has not ended (rule changes-follow-each-other)."""
_NAMESPACE = re.compile(r"namespace '([^']+)'")
CLOCK_SECONDS = 120.0
"""A difference above this means that this machine's clock is wrong: answers are dated to the second, and come within
seconds."""
_HINTS = {
    # Free trials' registries build nothing (github.com/Azure-Samples/azure-search-openai-demo/issues/2592).
    "TasksOperationsNotAllowed": "A registry of a subscription on free credit builds nothing: change to pay as you go, "
    "or ask support. Azure ML can build on a cluster instead: az ml workspace update --name WORKSPACE "
    "--resource-group GROUP --image-build-compute tunewright-cpu",
    # With 409 (Azure/ARO-RP, which passes it on; read 2026-11-28).
    "ScopeLocked": "A lock protects it from changes. See which: az lock list --resource-group GROUP. The person who "
    "set the lock can remove it; then type the same command again.",
    # With 403 (learn.microsoft.com/azure/azure-resource-manager/troubleshooting/error-policy-requestdisallowedbypolicy,
    # read 2026-11-29).
    "RequestDisallowedByPolicy": "A policy of your company denies it, whatever your roles are. See what the policy "
    "requires: az policy definition show --name NAME  (the refusal has the name); use what it allows, or ask the "
    "person who assigned it for an exemption.",
    # The rule storage-refusals.
    "AuthorizationFailure": "The storage account's firewall does not let this machine in. Add its address "
    "(Networking, in the portal), or type the command on a machine of that network.",
    "KeyBasedAuthenticationNotPermitted": "The storage account takes no keys, and the workspace's datastore has "
    "one. Let it sign in instead: az ml workspace update --name WORKSPACE --resource-group GROUP "
    "--system-datastores-auth-mode identity",
    "AuthenticationFailed": "The signed address or the sign-in is not valid now. Type the same command again, "
    "which gets a new one; if that does not help, check this machine's clock.",
}
"""What to do about a refusal, by Azure's code for it."""

_Found = TypeVar("_Found")


class Unreachable(UserError):
    """Azure can't be reached, has a fault or asks us to slow down: the same call may work later."""


def is_unregistered(error: UserError) -> bool:
    """Whether Azure refused because the subscription is not registered for the resource provider."""
    return code_of(error.__cause__) == UNREGISTERED


def register(provider: str, subscription: str) -> str:
    """The command that registers a subscription for a resource provider, as a sentence."""
    return (
        f"Register it once: az provider register --namespace {provider} --subscription {subscription} --wait  "
        "(as Contributor or Owner of the subscription)"
    )


def code_of(error: BaseException | None) -> str:
    """Azure's code for a refusal; empty if it has none."""
    # The storage's client keeps it in another attribute than the others.
    code = getattr(getattr(error, "error", None), "code", None) or getattr(error, "error_code", None) or ""
    return str(getattr(code, "value", code))


def found(call: Callable[..., _Found], *arguments: Any) -> _Found | None:
    """The result of a call of Azure's clients; None if the resource does not exist."""
    from azure.core.exceptions import ResourceNotFoundError

    try:
        return call(*arguments)
    except ResourceNotFoundError:
        return None


def http_date(headers: Mapping[str, str], name: str) -> datetime | None:
    """The HTTP date in a header; None if there is none."""
    try:
        date = parsedate_to_datetime(headers.get(name) or "")
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)  # "-0000" is UTC as well


def clock_ahead(answer: Any) -> float:
    """Seconds that the answering server's clock is ahead of this machine's; 0 if the answer has no date, or the clocks
    agree to within `CLOCK_SECONDS`."""
    date = http_date(answer.headers if answer is not None else {}, "date")
    seconds = (date - datetime.now(UTC)).total_seconds() if date else 0.0
    return seconds if abs(seconds) > CLOCK_SECONDS else 0.0


@contextmanager
def azure_errors(what: str) -> Iterator[None]:
    """Turn an error of Azure's clients into one paragraph: why Azure did not do something, and what to do about it.

    Args:
        what: the thing that the call was about, such as "the workspace prod".

    Raises:
        UserError: for every error that Azure's clients raise.
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
        # The SDK draws dots on standard output while it waits, and only the answer belongs there.
        with redirect_stdout(sys.stderr):
            yield
    except ClientAuthenticationError as error:
        if _NO_ANSWER.search(str(error)):
            raise _unreachable(what, error) from error
        raise UserError(
            f"The sign-in to Azure for {what} failed.",
            why=_first_line(error),
            fix=_clock_hint(error)
            or _HINTS.get(code_of(error))
            or "Sign in again, then type the same command: az login  (or azd auth login)",
        ) from error
    except DecodeError as error:  # an answer that was cut off raises this too
        raise _not_whole(what, error) from error
    except HttpResponseError as error:
        # The storage's client reports an answer that broke off as an inner error.
        raise (_not_whole if isinstance(error.inner_exception, AzureError) else _refused)(what, error) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise _unreachable(what, error) from error
    except AzureError as error:  # the SDK's own checks, MlException among them
        raise UserError(
            f"Azure did not take {what}.", why=_first_line(error), fix="Fix that, then run again."
        ) from error


def _not_whole(what: str, error: Any) -> Unreachable:
    return Unreachable(
        f"The answer for {what} was cut off, or did not come from Azure.",
        why=_first_line(error),
        fix="Check the network, and whether a proxy stands in between (HTTPS_PROXY); then type the same command again: "
        "it goes on from there.",
    )


def _unreachable(what: str, error: Any) -> Unreachable:
    fix = "Check the network (and HTTPS_PROXY), then type the same command again: it goes on from there."
    if _PROXY.search(str(error)):
        fix = "The proxy wants a sign-in: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT. Then type the same command again."
    return Unreachable(f"Azure could not be reached for {what}.", why=_first_line(error), fix=fix)


def _clock_hint(error: Any) -> str | None:
    """What to do if the clocks differ, which makes tokens and signed addresses invalid; None if they don't."""
    ahead = clock_ahead(getattr(error, "response", None))
    if not ahead and not _CLOCKS_DIFFER.search(str(error)):
        return None
    minutes = (
        f" is {abs(ahead) / 60:.0f} minutes {'behind' if ahead > 0 else 'ahead of'} Azure's"
        if ahead
        else " differs from Azure's"
    )
    return f"This machine's clock{minutes}. Set it (timedatectl set-ntp true), then type the same command again."


def _refused(what: str, error: Any) -> UserError:
    code, message = code_of(error), _first_line(error)
    match error.status_code:
        case 401:
            fix = "The sign-in has expired. Type: az login  (then the same command again)"
        case 403:
            fix = "A role is missing, or is not in force yet, because it was given less than ten minutes ago. "
            fix += "Type: tunewright azure preflight …  (it says which)"
        case 404:
            fix = "Check azure.workspace."
        case 409:
            fix = (
                "Another operation uses it, or it exists with other content. Type the same command again in some "
                "minutes; list what exists: tunewright azure ls …"
            )
        case 412:
            fix = "Somebody else changes or holds it (a lease). Type the same command again in a minute."
        case 429:
            fix = "Azure asks to slow down, and waiting did not help. Type the same command again in some minutes."
        case status if status and status >= 500:
            fix = "It is a fault of Azure's. Type the same command again: finished work is not repeated."
        case _:
            fix = "Fix that, then type the same command again."
    fix = _HINTS.get(code, fix)
    if error.status_code in (400, 409) and (code == "ContainerAppOperationInProgress" or _UNDER_WAY.search(message)):
        fix = (
            "Another change of it is under way, maybe another command's. Type the same command again when it has ended."
        )
    if code == UNREGISTERED:
        namespace = _NAMESPACE.search(message)
        fix = register(namespace[1] if namespace else "NAMESPACE", "SUBSCRIPTION_ID")
    if error.status_code in (401, 403):
        fix = _clock_hint(error) or fix
    if "quota" in f"{code} {message}".lower():
        fix = (
            "Ask for more cores (Quotas in the portal), or name a smaller machine: azure.gpu=… or azure.gpu=null for "
            "steps, traffic.machine=… for the server. How many are free: tunewright azure preflight …  (with --to aml "
            "for an endpoint)"
        )
    # A status below 400 means that Azure accepted the operation, and that the operation failed later.
    if error.status_code and error.status_code < httpx.codes.BAD_REQUEST:
        return UserError(f"Azure could not complete {what}{f' ({code})' if code else ''}.", why=message, fix=fix)
    kind = Unreachable if error.status_code == 429 or (error.status_code or 0) >= 500 else UserError
    return kind(f"Azure refused {what} ({error.status_code}{f', {code}' if code else ''}).", why=message, fix=fix)


def _first_line(error: BaseException) -> str:
    """An error's first line and its first detail, without secrets.

    A sign-in tries several ways: then it is the line about the first way that was set up.
    """
    message = without_secrets(str(getattr(error, "message", None) or error))
    lines = message.strip().splitlines() or [type(error).__name__]
    if "DefaultAzureCredential" in lines[0]:
        lines = [line for line in lines if _SET_UP.search(line)] or [_NOT_SIGNED_IN]
    details = getattr(getattr(error, "error", None), "details", None) or []
    detail = without_secrets(str(getattr(details[0], "message", None) or "")) if details else ""
    more = f" {detail}" if detail and detail not in lines[0] else ""
    return f"{lines[0].strip()[:_MAX_CHARACTERS]}{more[:_MAX_CHARACTERS]}".rstrip(".") + "."

"""Resources that a probe makes in a workspace only to see Azure's answer. Each is remembered before it is requested,
and deleted at the end."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tunewright.backends.azure.answers import AzureAnswer, Wanted, without_secrets
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import ARM, Connection
from tunewright.backends.azure.machines import price_of
from tunewright.backends.azure.refusals import code_of
from tunewright.backends.azure.waiting import BROKEN, Wait
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say

VERSIONS = {
    "models": "2023-08-01-preview",
    "environments": "2023-04-01-preview",
    "computes": "2023-08-01-preview",
    "onlineEndpoints": "2022-02-01-preview",
    "deployments": "2023-04-01-preview",
    "schedules": "2023-06-01-preview",
}
"""The api-versions that Azure ML's own client uses, by kind."""
_SETTLING = ("creating", "updating", "provisioning", "accepted", "running")
_SETTLE_SECONDS = 600.0
_POLL_SECONDS = 2.0
_MOST = 300
"""Characters of a message."""


@dataclass(frozen=True)
class ThrowawayItem:
    """A resource that exists, or may exist."""

    what: str
    remove: Callable[[], object] = field(repr=False)
    command: str
    """The command that deletes it by hand."""


class Throwaway:
    """The throwaway resources of one probe: one name, the project's tag, one workspace."""

    def __init__(self, spec: Spec, at: Connection):
        self._spec, self.at = spec, at
        self.name = f"tw-probe-p{secrets.token_hex(4)}"  # no dash before digits alone (rule cluster-name)
        self.tags = {TAG: spec.name, f"{TAG}.probe": "true"}
        self._made: list[ThrowawayItem] = []
        self.left: list[str] = []
        """The commands that delete what could not be deleted."""

    def remember(self, item: ThrowawayItem) -> None:
        """Delete a resource at the end. Call this before the resource is made."""
        self._made.append(item)

    @contextmanager
    def taken_away(self) -> Iterator[None]:
        """Delete everything that was made, the last first, however the block ends. If something stays, say with which
        command to delete it."""
        try:
            yield
        finally:
            for each in reversed(self._made):
                try:
                    each.remove()
                except BaseException as error:  # noqa: BLE001 (an interruption must not hide what is left)
                    self.left.append(each.command)
                    say(f"  azure: {each.what} may still exist ({type(error).__name__}). Delete it: {each.command}")

    def get(self, path: str, version: str) -> tuple[int, dict[str, Any]]:
        """(status, JSON), a list with all its pages; empty JSON if Azure refuses."""
        from azure.core.exceptions import HttpResponseError

        try:
            return httpx.codes.OK, self.at.ask("GET", path, version)
        except HttpResponseError as error:
            return int(error.status_code or 0), {}

    def kept(self, path: str) -> dict[str, Any]:
        """The properties of a resource as Azure keeps them.

        Args:
            path: below the workspace.
        """
        kind, _ = _kind_and_name(path)
        properties = self.get(f"{self.at.name.path}/{path}", VERSIONS[kind])[1].get("properties", {})
        return dict(properties)

    def put(
        self, asked: str, wanted: Wanted, path: str, body: dict[str, Any], about: str, *, settle: bool = True
    ) -> AzureAnswer:
        """Request a resource.

        Args:
            path: below the workspace.
            about: a pattern that matches a refusal because of the rule.
            settle: whether to wait until Azure has made it.

        Raises:
            UserError: Azure does not finish.
        """
        from azure.core.exceptions import HttpResponseError

        kind, name = _kind_and_name(path)
        whole, version = f"{self.at.name.path}/{path}", VERSIONS[kind]
        command = f"az rest --method delete --url '{ARM}{whole}?api-version={version}'"
        costs = self._costs(body)
        item = ThrowawayItem(f"{kind} {name}", lambda: self._delete(whole, version, costs), command)
        self.remember(item)
        say(f"  azure: {asked}")
        try:
            self.at.ask("PUT", whole, version, body, costs=costs)
        except HttpResponseError as error:
            status = int(error.status_code or 0)
            if httpx.codes.is_client_error(status):
                self._made.remove(item)  # a refusal makes nothing
            message = without_secrets(str(getattr(error.error, "message", None) or error.message))
            return AzureAnswer(asked, wanted, status, code_of(error), message.partition("\n")[0][:_MOST], about)
        state, fault = self._settled(whole, version, costs) if settle else ("", "")
        if state.lower() in BROKEN:
            return AzureAnswer(asked, wanted, httpx.codes.BAD_REQUEST, state, fault[:_MOST], about)
        return AzureAnswer(asked, wanted, httpx.codes.OK, about=about)

    def _costs(self, body: dict[str, Any]) -> str:
        """What a resource costs while it exists, in words; only a deployment has a machine (see `probe.outlook`)."""
        size = body["properties"].get("instanceType")
        return f"${price_of(size, self._spec).usd_per_hour:.2f} an hour" if size else "it costs nothing"

    def _settled(self, path: str, version: str, costs: str) -> tuple[str, str]:
        """(the final state of a resource, what went wrong).

        Raises:
            UserError: it reaches no final state.
        """
        wait, (kind, name) = Wait(), _kind_and_name(path)
        while True:
            properties = self.at.ask("GET", path, version).get("properties", {})
            state = str(properties.get("provisioningState") or "")
            if state.lower() not in _SETTLING:
                return state, without_secrets(json.dumps(properties.get("provisioningErrors") or ""))
            if wait.look(f"{kind} {name} to be made", _SETTLE_SECONDS, costs):
                minutes = f"{_SETTLE_SECONDS / 60:.0f} minutes"
                raise UserError(
                    f"Azure has not made {path.rpartition('/')[2]} after {minutes}.",
                    fix="See in the Azure portal what holds it up.",
                )
            time.sleep(_POLL_SECONDS)

    def _delete(self, path: str, version: str, costs: str) -> None:
        """Delete a resource. An asset's name would be left behind, so delete that too."""
        from azure.core.exceptions import ResourceNotFoundError

        asset, versioned, _ = path.partition("/versions/")
        query = {"underlyingResourceAction": "Delete"} if "/computes/" in path else None
        for each in (path, asset) if versioned else (path,):
            try:
                self.at.ask("DELETE", each, version, query=query, costs=costs)
            except ResourceNotFoundError:
                continue


def _kind_and_name(path: str) -> tuple[str, str]:
    """The kind and the name of the resource at a path below the workspace, without its version."""
    parts = path.split("/")
    return next((kind, name) for kind, name in zip(parts[-2::-2], parts[::-2], strict=True) if kind in VERSIONS)

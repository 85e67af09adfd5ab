"""Things made in a workspace only to see what Azure says: each is remembered before it is asked for, and taken away."""

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
from tunewright.backends.azure.connection import ARM, Connection, code_of
from tunewright.backends.azure.machines import price_of
from tunewright.backends.azure.waiting import Wait
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
"""The api-versions that Azure ML's own client asks with, by kind."""
_SETTLING = ("creating", "updating", "provisioning", "accepted", "running")
_SETTLE_SECONDS = 600.0
_POLL_SECONDS = 2.0
_MOST = 300
"""Signs of a message."""


@dataclass(frozen=True)
class ThrowawayItem:
    """Something that stands by now, or may."""

    what: str
    remove: Callable[[], object] = field(repr=False)
    command: str
    """That takes it away by hand."""


class Throwaway:
    """What is made of one name, with the project's tag, in one workspace."""

    def __init__(self, spec: Spec, at: Connection):
        self._spec, self.at = spec, at
        self.name = f"tw-probe-p{secrets.token_hex(4)}"  # no dash before digits alone (rule cluster-name)
        self.tags = {TAG: spec.name, f"{TAG}.probe": "true"}
        self._made: list[ThrowawayItem] = []
        self.left: list[str] = []
        """The commands that take away what could not be taken away."""

    def remember(self, made: ThrowawayItem) -> None:
        """Let something be taken away at the end; called before it is made."""
        self._made.append(made)

    @contextmanager
    def taken_away(self) -> Iterator[None]:
        """Take away what was made, the last first, however the block ends; what stays is named with its command."""
        try:
            yield
        finally:
            for each in reversed(self._made):
                try:
                    each.remove()
                except BaseException as error:  # noqa: BLE001 (an interruption must not hide what still stands)
                    self.left.append(each.command)
                    say(f"  azure: {each.what} may still stand ({type(error).__name__}). Take it away: {each.command}")

    def get(self, path: str, version: str) -> tuple[int, dict[str, Any]]:
        """(status, JSON), of a list with all its pages; no JSON where Azure refuses."""
        from azure.core.exceptions import HttpResponseError

        try:
            return httpx.codes.OK, self.at.ask("GET", path, version)
        except HttpResponseError as error:
            return int(error.status_code or 0), {}

    def kept(self, path: str) -> dict[str, Any]:
        """The properties that something has by now.

        Args:
            path: below the workspace.
        """
        kind, _ = _kind_and_name(path)
        properties = self.get(f"{self.at.name.path}/{path}", VERSIONS[kind])[1].get("properties", {})
        return dict(properties)

    def put(
        self, asked: str, wanted: Wanted, path: str, body: dict[str, Any], about: str, *, settle: bool = True
    ) -> AzureAnswer:
        """Ask for something.

        Args:
            path: below the workspace.
            about: a pattern of the words of a refusal that is of the rule.
            settle: wait until it stands.

        Raises:
            UserError: it comes to no end.
        """
        from azure.core.exceptions import HttpResponseError

        kind, name = _kind_and_name(path)
        whole, version = f"{self.at.name.path}/{path}", VERSIONS[kind]
        command = f"az rest --method delete --url '{ARM}{whole}?api-version={version}'"
        costs = self._costs(body)
        made = ThrowawayItem(f"{kind} {name}", lambda: self._delete(whole, version, costs), command)
        self.remember(made)
        say(f"  azure: {asked}")
        try:
            self.at.ask("PUT", whole, version, body, costs=costs)
        except HttpResponseError as error:
            status = int(error.status_code or 0)
            if httpx.codes.is_client_error(status):
                self._made.remove(made)  # a refusal makes nothing
            told = without_secrets(str(getattr(error.error, "message", None) or error.message))
            return AzureAnswer(asked, wanted, status, code_of(error), told.partition("\n")[0][:_MOST], about)
        state, fault = self._settled(whole, version, costs) if settle else ("", "")
        if state.lower() in ("failed", "canceled"):
            return AzureAnswer(asked, wanted, httpx.codes.BAD_REQUEST, state, fault[:_MOST], about)
        return AzureAnswer(asked, wanted, httpx.codes.OK, about=about)

    def _costs(self, body: dict[str, Any]) -> str:
        """What something costs while it stands, in words; only a deployment has a machine (see `probe.outlook`)."""
        size = body["properties"].get("instanceType")
        return f"${price_of(size, self._spec).usd_per_hour:.2f} an hour" if size else "it costs nothing"

    def _settled(self, path: str, version: str, costs: str) -> tuple[str, str]:
        """(the state that something comes to, what went wrong).

        Raises:
            UserError: it comes to none.
        """
        wait, (kind, name) = Wait(), _kind_and_name(path)
        while True:
            found = self.at.ask("GET", path, version).get("properties", {})
            state = str(found.get("provisioningState") or "")
            if state.lower() not in _SETTLING:
                return state, without_secrets(json.dumps(found.get("provisioningErrors") or ""))
            if wait.look(f"{kind} {name} to be made", _SETTLE_SECONDS, costs):
                minutes = f"{_SETTLE_SECONDS / 60:.0f} minutes"
                raise UserError(
                    f"Azure has not made {path.rpartition('/')[2]} after {minutes}.",
                    fix="See in the Azure portal what holds it up.",
                )
            time.sleep(_POLL_SECONDS)

    def _delete(self, path: str, version: str, costs: str) -> None:
        """Take something away; of an asset its name too, which is left behind otherwise."""
        from azure.core.exceptions import ResourceNotFoundError

        asset, versioned, _ = path.partition("/versions/")
        query = {"underlyingResourceAction": "Delete"} if "/computes/" in path else None
        for each in (path, asset) if versioned else (path,):
            try:
                self.at.ask("DELETE", each, version, query=query, costs=costs)
            except ResourceNotFoundError:
                continue


def _kind_and_name(path: str) -> tuple[str, str]:
    """Of a path below the workspace: the kind of what it leads to, its versions not counted, and its name."""
    parts = path.split("/")
    return next((kind, name) for kind, name in zip(parts[-2::-2], parts[::-2], strict=True) if kind in VERSIONS)

"""The state of a project's container app: its revisions and their traffic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.backends.azure import machines
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.config import Spec
from tunewright.core.progress import say
from tunewright.deploy.capacity import container_of
from tunewright.deploy.live import State, hourly, marked, marks, require_fresh, require_ours

VERSION = "2025-07-01"
"""The api-version of Container Apps."""


class LiveApp:
    """One project's container app, `tw-NAME`, and its active revisions, whatever made them.

    A tag of the app names the fresh revision, so that it changes in the same call as the traffic. Revisions themselves
    have no tags.
    """

    target, kind = "aca", "container app"

    def __init__(self, spec: Spec, at: Connection):
        self._spec, self._at = spec, at
        self.name = machines.azure_name(spec, 32)
        self.providers = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}/providers"
        self.path = f"{self.providers}/Microsoft.App/containerApps/{self.name}"

    def get(self) -> dict[str, Any] | None:
        """The app; None if there is none."""
        with azure_errors(f"the container app {self.name}"):
            return found(self._at.ask, "GET", self.path, VERSION)

    def state(self) -> State | None:
        """See `Live`."""
        app = self.get()
        if app is None:
            return None
        require_ours(self._spec, f"the container app {self.name}", (app.get("tags") or {}).get(TAG))
        revisions = self.revisions()
        shares = {name: 0 for name, is_active in revisions.items() if is_active}
        for each in app["properties"]["configuration"]["ingress"].get("traffic") or []:
            # Somebody may have given traffic to "the latest" in the portal, instead of to a name.
            name = each.get("revisionName") or app["properties"].get("latestReadyRevisionName")
            if name and revisions.get(name, True):
                shares[name] = shares.get(name, 0) + int(each.get("weight") or 0)
        costs = dict.fromkeys(shares, app_cost(self._spec))
        fresh, is_canary = marked(app.get("tags"))
        return State(shares, fresh, is_canary, costs=costs) if fresh in shares else State(shares, costs=costs)

    def revisions(self) -> dict[str, bool]:
        """Whether a revision is active, by name."""
        with azure_errors(f"the revisions of {self.name}"):
            listed = self._at.ask("GET", f"{self.path}/revisions", VERSION).get("value", [])
        return {each["name"]: bool(each["properties"].get("active")) for each in listed}

    def host_of(self, revision: str) -> str:
        """The host name at which a revision answers, whatever its share of the traffic."""
        with azure_errors(f"the revision {revision}"):
            found = self._at.ask("GET", f"{self.path}/revisions/{revision}", VERSION)
        return str(found["properties"]["fqdn"])

    def activate(self, revision: str) -> None:
        """Activate a revision that was deactivated: the same template makes no new one."""
        with azure_errors(f"the revision {revision}"):
            self._at.ask("POST", f"{self.path}/revisions/{revision}/activate", VERSION, costs=app_cost(self._spec))

    def change(self, shares: Mapping[str, int], fresh: str | None, is_canary: bool) -> None:
        """Divide the traffic, and name the fresh revision, in one call."""
        app = self.get() or {}
        change = {
            # Container Apps takes a JSON merge patch (learn.microsoft.com, Container Apps - Update, 2026-11-28).
            "tags": (app.get("tags") or {}) | marks(fresh, is_canary),
            "properties": {"configuration": {"ingress": {"traffic": traffic_of(shares)}}},
        }
        with azure_errors(f"the traffic of {self.name}"):
            self._at.ask("PATCH", self.path, VERSION, change, costs=app_cost(self._spec))

    def promote(self) -> None:
        """See `Live`. The tag stays until the others are gone, so that a promotion that is broken off can go on."""
        state = require_fresh(self)
        shares = {str(state.fresh): 100}
        if state.others:
            self.change(shares, state.fresh, True)
        for name in state.others:
            self._deactivate(name)
        self.change(shares, None, False)

    def withdraw(self) -> None:
        """See `Live`."""
        state = require_fresh(self)
        if state.others:
            self.change(state.without_fresh, state.fresh, state.is_canary)
        self._deactivate(str(state.fresh))
        if state.others:
            self.change(state.without_fresh, None, False)

    def remove(self) -> None:
        """See `Live`."""
        say(f"  azure: removing the container app {self.name}")
        with azure_errors(f"the container app {self.name}"):
            self._at.ask("DELETE", self.path, VERSION, costs=app_cost(self._spec))

    def _deactivate(self, revision: str) -> None:
        say(f"  azure: deactivating the revision {revision}")
        with azure_errors(f"the revision {revision}"):
            self._at.ask("POST", f"{self.path}/revisions/{revision}/deactivate", VERSION, costs=app_cost(self._spec))


def traffic_of(shares: Mapping[str, int]) -> list[dict[str, Any]]:
    """Shares as Container Apps takes them."""
    return [{"revisionName": name, "weight": share} for name, share in shares.items()]


def app_cost(spec: Spec) -> str:
    """What a revision costs, in words."""
    return f"up to {hourly(1, container_of(spec), spec)} a replica, nothing while it gets no requests"

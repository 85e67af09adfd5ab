"""The state of a project's managed online endpoint: its deployments and their traffic."""

from __future__ import annotations

import re
from typing import Any

from tunewright.backends.azure import machines
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.backends.azure.registry import promote
from tunewright.backends.azure.waiting import wait_for
from tunewright.config import Spec
from tunewright.core.artifacts import sha256_json
from tunewright.core.progress import say
from tunewright.deploy.live import CANARY, TRIAL, State, hourly, marked, marks, require_fresh, require_ours

STUCK_SECONDS = 45 * 60.0
"""How long an endpoint or a deployment may take before it counts as stuck."""
_MODEL = re.compile(r"(?:/models/|azureml:)([^/:]+)(?:/versions/|:)([^/:]+)$")
"""The name and version in a model's address, as Resource Manager or as Azure ML writes it."""


class LiveEndpoint:
    """One project's endpoint, `tw-NAME-xxxx`, and its deployments, whatever made them.

    A tag of the endpoint names the fresh deployment, so that it changes in the same call as the traffic.
    """

    target, kind = "aml", "endpoint"

    def __init__(self, spec: Spec, at: Connection):
        self._spec, self._at = spec, at
        # A name is unique in the whole region, so ours contains a hash of the workspace.
        self.name = f"{machines.azure_name(spec, 25)}-{sha256_json(at.name.path)[:4]}"
        self.costs: dict[str, str] = {}
        """The last known cost of each deployment, in words."""

    def state(self) -> State | None:
        """See `Live`."""
        with azure_errors(f"the endpoint {self.name}"):
            endpoint = found(self._at.ml.online_endpoints.get, self.name)
            if endpoint is None:
                return None
            require_ours(self._spec, f"the endpoint {self.name}", (endpoint.tags or {}).get(TAG))
            listed = list(self._at.ml.online_deployments.list(self.name))
        shares = {each.name: int((endpoint.traffic or {}).get(each.name, 0)) for each in listed}
        costs = {each.name: hourly(int(each.instance_count or 1), each.instance_type, self._spec) for each in listed}
        self.costs = dict(costs)
        fresh, is_canary = marked(endpoint.tags)
        if fresh not in shares:
            return State(shares, costs=costs)
        return State(shares, fresh, is_canary, int((endpoint.mirror_traffic or {}).get(fresh, 0)), costs)

    @property
    def _all_costs(self) -> str:
        return " and ".join(self.costs.values()) or "it costs nothing without a deployment"

    def begin(self, version: str) -> None:
        """Name the version that is about to be made, so that it is found even if this process is killed meanwhile. Make
        the endpoint if there is none."""
        with azure_errors(f"the endpoint {self.name}"):
            known = found(self._at.ml.online_endpoints.get, self.name)
            if known is None:
                say(f"  azure: endpoint {self.name}")
                poller = self._at.ml.online_endpoints.begin_create_or_update(self.entity(marks(version, False)))
                wait_for(poller, f"the endpoint {self.name}", STUCK_SECONDS, self._all_costs)
        if known is not None:
            self.change(version, False)

    def change(
        self,
        fresh: str | None,
        is_canary: bool,
        *,
        traffic: dict[str, int] | None = None,
        mirror: dict[str, int] | None = None,
    ) -> None:
        """Set the fresh version, the traffic and the mirroring in one call; None leaves traffic or mirroring as it
        is."""
        with azure_errors(f"the traffic of {self.name}"):
            endpoint = self._at.ml.online_endpoints.get(self.name)
            tags = (endpoint.tags or {}) | marks(fresh, is_canary)
            endpoint.tags = {tag: value for tag, value in tags.items() if value or tag not in (TRIAL, CANARY)}
            if traffic is not None:
                endpoint.traffic = traffic
            if mirror is not None:
                endpoint.mirror_traffic = mirror
            poller = self._at.ml.online_endpoints.begin_create_or_update(endpoint)
            wait_for(poller, f"the traffic of {self.name} to change", STUCK_SECONDS, self._all_costs)

    def promote(self) -> None:
        """See `Live`. The tag stays until the others are gone, so that a promotion that is broken off can go on."""
        state = require_fresh(self)
        self.change(state.fresh, True, traffic={str(state.fresh): 100}, mirror={})
        self._make_champion(str(state.fresh))
        for name in state.others:
            self._delete(name)
        self.change(None, False)

    def withdraw(self) -> None:
        """See `Live`."""
        state = require_fresh(self)
        if state.gets_requests:
            self.change(state.fresh, state.is_canary, traffic=state.without_fresh, mirror={})
        self._delete(str(state.fresh))
        self.change(None, False)

    def remove(self) -> None:
        """See `Live`. Azure deletes the deployments together with their endpoint."""
        say(f"  azure: removing the endpoint {self.name} and all its deployments")
        with azure_errors(f"the endpoint {self.name}"):
            poller = self._at.ml.online_endpoints.begin_delete(self.name)
            wait_for(poller, f"{self.name} to be deleted", STUCK_SECONDS, self._all_costs)

    def entity(self, more: dict[str, str] | None = None) -> Any:
        """The SDK's entity of a new endpoint, without deployments."""
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        tags = {tag: value for tag, value in (more or {}).items() if value}
        return ManagedOnlineEndpoint(
            name=self.name,
            auth_mode="aad_token",
            tags={TAG: self._spec.name, **tags},
            identity=machines.assigned_identity(self._spec),
        )

    def _make_champion(self, deployment: str) -> None:
        """Make a deployment's model the champion: the model that was tried, not the project's present output."""
        with azure_errors(f"the deployment {deployment}"):
            model = _MODEL.search(str(self._at.ml.online_deployments.get(deployment, self.name).model))
        if model:
            promote(self._at, model[1], model[2])

    def _delete(self, deployment: str) -> None:
        say(f"  azure: removing the deployment {deployment}")
        with azure_errors(f"the deployment {deployment}"):
            poller = self._at.ml.online_deployments.begin_delete(deployment, self.name)
            what = f"the deployment {deployment} to be deleted"
            wait_for(poller, what, STUCK_SECONDS, self.costs.get(deployment, ""))
        self.costs.pop(deployment, None)

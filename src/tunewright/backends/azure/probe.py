"""Asks a real subscription, for almost no money, which rows of `rules.yaml` hold there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tunewright.backends.azure.answers import AzureAnswer, Probe, ProbeRow, Verdict, judged
from tunewright.backends.azure.connection import ARM, Connection
from tunewright.backends.azure.machines import price_of
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.rules import is_allowed, is_of_clusters, rules
from tunewright.backends.azure.store import DATASTORE, FOLDER, BlobStore
from tunewright.backends.azure.throwaway import Throwaway, ThrowawayItem
from tunewright.config import Spec

_LISTS, _RIGHTS, _PROVIDERS = "2023-10-01", "2022-04-01", "2021-04-01"
_CLUSTER_SIZE, _NO_CLUSTER_SIZE = "Standard_D4s_v3", "Standard_D4s_v5"
_ENDPOINT_SIZE, _NO_ENDPOINT_SIZE = "Standard_F4s_v2", "Standard_D2s_v5"
_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04"
"""The image of an environment that is never built."""
_NAMESPACES = ("MachineLearningServices", "ContainerRegistry", "App", "ContainerService", "Storage", "KeyVault")
_LONGEST_NAME = 32
_PERSONAL = (
    "tid",
    "oid",
    "sub",
    "appid",
    "app_displayname",
    "upn",
    "unique_name",
    "preferred_username",
    "email",
    "name",
    "given_name",
    "family_name",
    "ipaddr",
    "puid",
    "onprem_sid",
)
"""Claims of a token that identify the caller (learn.microsoft.com/entra/identity-platform/access-token-claims-\
reference)."""
_NOT_ASKED = {
    "endpoint-reserve": "only a deployment takes quota, and a deployment has machines",
    "model-mount": "a model is only mounted into a deployment, which has machines",
    "tasks-on-free-credit": "only a subscription on free credit can answer, and it would need a build",
    "apps-cool-down": "an app scales to zero only if it has an image, five minutes after the last request",
    "cluster-token": "it would need a cluster of AKS, whose machines cost money",
}
"""Rules that no cheap request can test, each with the reason."""


def outlook(spec: Spec) -> str:
    """What a probe makes and what it costs at most, in words."""
    rate = max(price_of(size, spec).usd_per_hour for size in (_ENDPOINT_SIZE, _NO_ENDPOINT_SIZE))
    return (
        "The probe makes these in the workspace, and deletes them again: a file of one byte, a model and an "
        f"environment of it (no image is built), a cluster of {_CLUSTER_SIZE} with no machine, an endpoint without a "
        "deployment, and two schedules that are switched off. All of this is free. The probe also requests things that "
        "Azure should "
        "refuse, two deployments among them. If Azure takes one, it has a machine until the probe has deleted it: some "
        f"minutes at up to ${rate:.2f} an hour."
    )


def probe(spec: Spec, at: Connection) -> Probe:
    """Test the rules that cost almost nothing to test. Everything it makes is deleted again, however the probe ends.

    Raises:
        UserError: nobody is signed in, the workspace is not there, or Azure can't be reached.
    """
    with azure_errors("the probe"):
        names, things = _names(at), Throwaway(spec, at)
        questions = _Questions(things)
        with things.taken_away():
            rows_by_rule = {rule: ask() for rule, ask in questions.by_rule.items()}
            notes = questions.notes()
    rows = tuple(rows_by_rule.get(rule) or _unasked(rule) for rule in rules().rules)
    hide = names | {things.name: "tw-probe", spec.name: "<project>"}
    return Probe(at.region, datetime.now(UTC).date(), rows, notes, tuple(things.left), hide)


def _unasked(rule: str) -> ProbeRow:
    return ProbeRow(rule, "not asked", _NOT_ASKED.get(rule, "the probe has no question that costs next to nothing"))


class _Questions:
    """The questions to Azure. Each is asked once, in this order: later ones need what earlier ones made."""

    def __init__(self, things: Throwaway):
        self._things, self._at, self._name = things, things.at, things.name
        self._done: dict[str, AzureAnswer] = {}
        """The answers to the requests that Azure should take, by the action that a role must allow for each."""
        self.by_rule: dict[str, Callable[[], ProbeRow]] = {
            "model-version-is-an-integer": self._versions,
            "cluster-series": self._clusters,
            "endpoint-name": self._endpoint_names,
            "endpoint-sizes": self._endpoint_sizes,
            "endpoint-egress": self._egress,
            "schedules-have-recurrences": self._schedules,
            "role-wildcards": self._roles,
            "gpu-quota-is-zero": self._quota,
        }

    def _versions(self) -> ProbeRow:
        put, name, tags, words = self._things.put, self._name, self._things.tags, "version|integer|number"
        model = {"modelType": "custom_model", "modelUri": f"{DATASTORE}{self._uploaded()}", "tags": tags}
        image = {"image": _IMAGE, "osType": "Linux", "tags": tags}
        text = put("a model's version abc", "refused", f"models/{name}/versions/abc", {"properties": model}, words)
        integer = put("a model's version 1", "taken", f"models/{name}/versions/1", {"properties": model}, words)
        other = put(
            "an environment's version abc", "taken", f"environments/{name}/versions/abc", {"properties": image}, words
        )
        self._done |= {"models/versions/write": integer, "environments/versions/write": other}
        return judged("model-version-is-an-integer", [text, integer, other])

    def _uploaded(self) -> str:
        """Upload a file of one byte, and return its folder."""
        store, folder, data = BlobStore(self._at), f"{FOLDER}/probe/{self._name}", self._at.datastore
        command = (
            f"az storage blob delete --auth-mode login --account-name {data.account_name} "
            f"--container-name {data.container_name} --name {folder}/byte"
        )
        self._things.remember(ThrowawayItem(f"the file {folder}/byte", lambda: store.remove(f"{folder}/byte"), command))
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "byte").write_bytes(b"1")
            store.upload(Path(scratch) / "byte", folder)
        return folder

    def _clusters(self) -> ProbeRow:
        refused = self._cluster(_NO_CLUSTER_SIZE, f"{self._name}-n", "refused")
        taken = self._cluster(_CLUSTER_SIZE, self._name, "taken")
        self._done["computes/write"] = taken
        return judged("cluster-series", [refused, taken, self._listed_sizes()])

    def _cluster(self, size: str, name: str, wanted: Any) -> AzureAnswer:
        scale = {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT2M"}
        inside = {"vmSize": size, "vmPriority": "Dedicated", "scaleSettings": scale, "osType": "Linux"}
        body = self._tagged({"computeType": "AmlCompute", "properties": inside})
        return self._things.put(f"a cluster of {size}", wanted, f"computes/{name}", body, "size|sku")

    def _listed_sizes(self) -> AzureAnswer:
        """The sizes for which the region has clusters, and which are not of our series."""
        status, body = self._things.get(f"{self._location}/vmSizes", _LISTS)
        listed = [
            each["name"] for each in body.get("value", []) if "AmlCompute" in each.get("supportedComputeTypes", [])
        ]
        unknown = sorted(each for each in listed if not is_of_clusters(each))
        message = f"{len(listed)} sizes have clusters; not of our series: {', '.join(unknown) or 'none'}"
        return AzureAnswer("the region's sizes", None, status, message=message if body else "")

    def _endpoint_names(self) -> ProbeRow:
        long = f"{self._name}{'x' * _LONGEST_NAME}"[: _LONGEST_NAME + 1]
        body = self._tagged({"authMode": "AADToken"}, identity={"type": "SystemAssigned"})

        def put(name: str, wanted: Any) -> AzureAnswer:
            asked = f"an endpoint's name of {len(name)} characters"
            return self._things.put(asked, wanted, f"onlineEndpoints/{name}", body, "name|length|charact")

        refused, taken = put(long, "refused"), put(self._name, "taken")
        self._done["onlineEndpoints/write"] = taken
        return judged("endpoint-name", [refused, taken])

    def _endpoint_sizes(self) -> ProbeRow:
        asked = f"a deployment on {_NO_ENDPOINT_SIZE}"
        return self._deployment("endpoint-sizes", asked, _NO_ENDPOINT_SIZE, "Enabled", "size|sku|instance ?type")

    def _egress(self) -> ProbeRow:
        if is_isolated(self._at.workspace) or self._at.is_private:
            return ProbeRow(
                "endpoint-egress", "not asked", "this workspace is private, so Azure might make the deployment"
            )
        asked = "a deployment without egress in a public workspace"
        return self._deployment("endpoint-egress", asked, _ENDPOINT_SIZE, "Disabled", "egress|network|private")

    def _deployment(self, rule: str, asked: str, size: str, egress: str, about: str) -> ProbeRow:
        """Test a rule with a deployment that Azure should refuse."""
        if missing := self._missing("onlineEndpoints/write", "models/versions/write", "environments/versions/write"):
            return ProbeRow(rule, "not asked", missing)
        properties = {
            "endpointComputeType": "Managed",
            "instanceType": size,
            "egressPublicNetworkAccess": egress,
            "model": f"{self._at.name.path}/models/{self._name}/versions/1",
            "environmentId": self._environment,
            "scaleSettings": {"scaleType": "Default"},
        }
        body = self._tagged(properties, sku={"name": "Default", "capacity": 1})
        path = f"onlineEndpoints/{self._name}/deployments/probe"
        return judged(rule, [self._things.put(asked, "refused", path, body, about, settle=False)])

    def _schedules(self) -> ProbeRow:
        if missing := self._missing("computes/write", "environments/versions/write"):
            return ProbeRow("schedules-have-recurrences", "not asked", missing)
        days = {"hours": [3], "minutes": [0], "monthDays": [1]}
        month = {"triggerType": "Recurrence", "frequency": "Month", "interval": 1, "schedule": days}
        cron = {"triggerType": "Cron", "expression": "0 3 1 * *"}
        answers = [
            self._schedule("a recurrence on the first of each month", "month", month),
            self._schedule("a cron expression that names a day", "cron", cron),
        ]
        return judged("schedules-have-recurrences", answers)

    def _schedule(self, asked: str, short: str, trigger: dict[str, Any]) -> AzureAnswer:
        job = {
            "jobType": "Command",
            "command": "true",
            "environmentId": self._environment,
            "computeId": f"{self._at.name.path}/computes/{self._name}",
        }
        properties = {
            "isEnabled": False,
            "trigger": trigger,
            "tags": self._things.tags,
            "action": {"actionType": "CreateJob", "jobDefinition": job},
        }
        path, words = f"schedules/{self._name}-{short}", "cron|recurrence|schedule|expression|trigger"
        answer = self._things.put(asked, "taken", path, {"properties": properties}, words)
        if not answer.agrees:
            return answer
        kept = self._things.kept(path).get("trigger", {})
        return replace(answer, message=f"kept as {json.dumps(kept.get('schedule') or kept.get('expression'))}")

    def _roles(self) -> ProbeRow:
        """Azure must have allowed exactly the actions that our reading of the roles allows."""
        status, body = self._things.get(f"{self._at.name.path}/providers/Microsoft.Authorization/permissions", _RIGHTS)
        if status != httpx.codes.OK:
            return ProbeRow("role-wildcards", "not asked", f"your permissions can't be read ({status})")
        roles, answers, against = body.get("value", []), [], []
        for action, answer in self._done.items():
            ours = is_allowed(f"Microsoft.MachineLearningServices/workspaces/{action}", roles)
            azures = answer.status not in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
            message = f"by the roles {'' if ours else 'not '}allowed, and Azure did{'' if azures else ' not'} allow it"
            answers.append(AzureAnswer(action, None, answer.status, answer.code, message))
            against += [f"{action}: {message}"] if ours != azures else []
        patterns = [each for role in roles for each in (*role.get("actions", []), *role.get("notActions", []))]
        stars = sum("*" in each for each in patterns)
        agreed = f"{stars} of {len(patterns)} patterns have a star; Azure decided {len(answers)} actions as expected"
        verdict: Verdict = "does not hold" if against else "holds"
        return ProbeRow("role-wildcards", verdict, "; ".join(against) or agreed, tuple(answers))

    def _quota(self) -> ProbeRow:
        status, body = self._things.get(f"{self._location}/usages", _LISTS)
        if status != httpx.codes.OK:
            return ProbeRow("gpu-quota-is-zero", "not asked", f"the quotas can't be read ({status})")
        limits = {str(each["name"]["value"]): int(each["limit"]) for each in body.get("value", [])}
        cards = [name for name in limits if name.lower().replace(" ", "").startswith("standardn")]
        granted = [name for name in cards if limits[name]]
        answer = AzureAnswer(
            "the quotas", None, status, message=", ".join(f"{name} {limit}" for name, limit in limits.items())
        )
        if granted:
            why = f"this subscription is not a new one, {len(granted)} families with GPUs have cores"
            return ProbeRow("gpu-quota-is-zero", "not asked", why, (answer,))
        return ProbeRow("gpu-quota-is-zero", "holds", f"none of {len(cards)} families with GPUs has a core", (answer,))

    def notes(self) -> dict[str, str]:
        """Whether each provider that Tunewright may need is registered."""
        states = {}
        for each in _NAMESPACES:
            path = f"/subscriptions/{self._at.name.subscription}/providers/Microsoft.{each}"
            status, body = self._things.get(path, _PROVIDERS)
            states[f"provider Microsoft.{each}"] = str(body.get("registrationState") or f"unknown ({status})")
        return states

    def _missing(self, *actions: str) -> str:
        """Which resources a question needs and Azure did not make, in words; empty if none is missing."""
        missing = [action.partition("/")[0] for action in actions if not self._done[action].agrees]
        return f"Azure did not make what it needs: {', '.join(missing)}" if missing else ""

    @property
    def _environment(self) -> str:
        return f"{self._at.name.path}/environments/{self._name}/versions/abc"

    @property
    def _location(self) -> str:
        provider = f"/subscriptions/{self._at.name.subscription}/providers/Microsoft.MachineLearningServices"
        return f"{provider}/locations/{self._at.region}"

    def _tagged(self, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"location": self._at.region, "tags": self._things.tags, "properties": properties, **more}


def _names(at: Connection) -> dict[str, str]:
    """Texts that identify the subscription or the user, each with its replacement."""
    import jwt

    name = at.name
    known = {
        name.subscription: "<subscription>",
        name.resource_group: "<group>",
        name.workspace: "<workspace>",
        str(at.datastore.account_name): "<storage>",
    }
    token = at.credential.get_token(f"{ARM}/.default").token
    for claim, value in jwt.decode(token, options={"verify_signature": False}).items():
        if isinstance(value, str) and claim in _PERSONAL:
            known.setdefault(value, f"<{claim}>")
    return known


def is_isolated(workspace: Any) -> bool:
    """Whether a workspace, as the SDK gives it, has a managed network."""
    mode = getattr(getattr(workspace, "managed_network", None), "isolation_mode", None)
    # It is an enum of the SDK, and its str is the name in Python.
    return str(getattr(mode, "value", mode) or "disabled").lower() != "disabled"

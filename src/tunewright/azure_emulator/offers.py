"""What a region offers: sizes, quotas and prices, from the price book; and the refusals if a quota is too small."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error, invalid
from tunewright.azure_emulator.emulated_job import OVER
from tunewright.azure_emulator.jobs import Runner
from tunewright.backends.azure.rules import endpoint_cores, endpoint_family, is_of_clusters
from tunewright.economics.prices import MachinePrice, price_book

PRICES = "prices.azure.com"
NEW, SEASONED = 24, 2000
"""The quota of a family in cores: in a new subscription (the smallest on the page of the rule gpu-quota-is-zero), and
in one that requested more, for GPUs too."""
_LOW_PRIORITY = 100
"""The quota in cores at low priority in a new subscription, for all families together."""
_TOTAL, _TOTAL_LOW = "Total Cluster Dedicated Regional vCPUs", "Total Cluster LowPriority Regional vCPUs"
_ASK = "https://docs.microsoft.com/azure/machine-learning/how-to-manage-quotas#request-quota-increases"
_GUIDE = "Please see troubleshooting guide, available here: https://aka.ms/oe-tsg#error-outofquota"
_SERVICE = "Microsoft.MachineLearningServices"


class Offers:
    """Answers of Azure Resource Manager and of the price list about machines.

    `quota` has the cores of families with a quota of their own. `missing` has the sizes that the region lacks, and
    `barred` those that it has but this subscription may not use. `dearer` is the multiple of the price book's prices
    that the price list has.

    Args:
        seasoned: whether every family has quota.
    """

    def __init__(self, cloud: Cloud, runner: Runner, *, seasoned: bool) -> None:
        self.quota: dict[str, int] = {}
        self.missing: set[str] = set()
        self.barred: set[str] = set()
        self.dearer = 1.0
        self._cloud, self._runner, self._seasoned = cloud, runner, seasoned
        self._machines = {name: each for name, each in price_book().machines.items() if name.startswith("Standard_")}
        self._refusals: list[dict[str, Any]] = []
        self.hooks = [
            ("GET", r"/locations/[^/]+/vmSizes$", self._sizes),
            ("GET", r"/locations/[^/]+/usages$", self._usages),
            ("GET", r"/providers/Microsoft\.Compute/skus$", self._skus),
            ("PUT", r"/computes/[^/]+$", self._cluster),
            ("PUT", r"/onlineEndpoints/[^/]+/deployments/[^/]+$", self._deployment),
            ("GET", r"/computeOperationsStatus/\d+$", self._refusal),
        ]

    def _sizes(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        return HttpResponse(body={"value": [self._size(name, each) for name, each in self._offered()]})

    def _skus(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        why = {"type": "Location", "reasonCode": "NotAvailableForSubscription"}
        rows = [
            {"name": name, "resourceType": "virtualMachines", "restrictions": [why] if name in self.barred else []}
            for name, _ in self._offered()
        ]
        return HttpResponse(body={"value": rows})

    def _offered(self) -> list[tuple[str, MachinePrice]]:
        return [(name, each) for name, each in self._machines.items() if name not in self.missing]

    def _size(self, name: str, machine: MachinePrice) -> dict[str, Any]:
        return {
            "name": name,
            "family": family(name),
            "vCPUs": machine.cores,
            "lowPriorityCapable": True,
            "gpus": machine.gpu.count if machine.gpu else 0,
            "memoryGB": machine.memory_gib,
            "osVhdSizeMB": 1047552,
            "maxResourceVolumeMB": 180000,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"] if is_of_clusters(name) else [],
            "estimatedVMPrices": {
                "billingCurrency": "USD",
                "unitOfMeasure": "OneHour",
                "values": [{"retailPrice": machine.usd_per_hour, "osType": "Linux", "vmTier": "Standard"}],
            },
        }

    def _usages(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        used = self._used()
        names = {family(name): f"{family(name)} Cluster Dedicated vCPUs" for name in sorted(self._machines)}
        rows = [self._usage(names[each], self._limit(each), used[each]) for each in sorted(names)]
        rows += [
            self._usage(_TOTAL, self._regional, _dedicated(used)),
            self._usage(_TOTAL_LOW, SEASONED if self._seasoned else _LOW_PRIORITY, used[_TOTAL_LOW]),
        ]
        return HttpResponse(body={"value": rows})

    @property
    def _regional(self) -> int:
        """The quota in cores for all families of the region."""
        return 10 * SEASONED if self._seasoned else NEW

    def _usage(self, name: str, limit: int, used: int) -> dict[str, Any]:
        return {
            "id": name,
            "type": f"{_SERVICE}/usages",
            "unit": "Count",
            "currentValue": used,
            "limit": limit,
            "amlWorkspaceLocation": self._cloud.region,
            "name": {"value": name, "localizedValue": name},
        }

    def _limit(self, name: str) -> int:
        """The quota in cores of a family (rule gpu-quota-is-zero)."""
        if name in self.quota or self._seasoned:
            return self.quota.get(name, SEASONED)
        has_gpu = any(each.gpu for size, each in self._machines.items() if family(size) == name)
        return 0 if has_gpu else NEW

    def _used(self) -> Counter[str]:
        """Cores in use, by family: of clusters' nodes (those that work, and those that are never removed), and of
        endpoints with the fifth in reserve. Nodes at low priority only count for the region."""
        used = Counter[str]()
        for each in self._cloud.below(f"{self._cloud.workspace}/computes"):
            properties = each["properties"].get("properties") or {}
            size = str(properties.get("vmSize"))
            if size in self._machines:
                least = int((properties.get("scaleSettings") or {}).get("minNodeCount") or 0)
                name = _TOTAL_LOW if properties.get("vmPriority") == "LowPriority" else family(size)
                used[name] += max(least, self._working(each["name"])) * self._machines[size].cores
        for endpoint in self._cloud.below(f"{self._cloud.workspace}/onlineEndpoints"):
            for each in self._cloud.below(f"{endpoint['id']}/deployments"):
                used[family(each["properties"]["instanceType"])] += self._needed(each)
        return used

    def _working(self, cluster: str) -> int:
        """The number of a cluster's nodes on which jobs run."""
        jobs = [each for each in self._runner.jobs.values() if each.started and each.status not in OVER]
        return sum(each.instances for each in jobs if "command" in each.body and each.compute == cluster)

    def _needed(self, deployment: dict[str, Any]) -> int:
        """The cores of quota that an endpoint's deployment takes (rule endpoint-reserve)."""
        size = deployment["properties"]["instanceType"]
        count = int((deployment.get("sku") or {}).get("capacity") or 1)
        return endpoint_cores(size, count, self._machines[size].cores) if size in self._machines else 0

    def _cluster(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """Refuse a cluster if the family's or the region's quota does not allow a single machine (rule cluster-quota).
        The refusal comes after the change was accepted, and the cluster stays there as failed."""
        body = request.json()
        properties = body["properties"].get("properties") or {}
        size = str(properties.get("vmSize"))
        if size not in self._machines or not is_of_clusters(size):
            return None
        low, cores = properties.get("vmPriority") == "LowPriority", self._machines[size].cores
        nodes = max(1, int((properties.get("scaleSettings") or {}).get("minNodeCount") or 0))
        of_family = f"{family(size).removesuffix('Family').replace('standard', 'Standard ')} family"
        limits = {of_family: self._limit(family(size)), "total": self._regional}
        if low:
            limits = {"total low-priority": SEASONED if self._seasoned else _LOW_PRIORITY}
        kind = next((kind for kind, limit in limits.items() if limit < nodes * cores), None)
        if kind is None:
            return None
        why = (
            f"The specified subscription has a {kind} vCPU quota of {limits[kind]} and cannot "
            f"accomodate for at least {nodes} requested managed compute node{'s' * (nodes > 1)} which maps to "
            f"{nodes * cores} vCPUs. Talk to your Subscription Admin or refer to {_ASK} to increase the family quota"
        )
        self._refusals.append({"status": "Failed", "error": {"code": "BadRequest", "message": why}})
        failed = body["properties"] | {"provisioningState": "Failed"}
        kept = self._cloud.put(path, body | {"properties": failed, "made_by_client": True})
        where = f"/subscriptions/{self._cloud.subscription}/providers/{_SERVICE}/locations/{self._cloud.region}"
        status = f"https://{request.host}{where}/computeOperationsStatus/{len(self._refusals)}?api-version=2023-08-01-preview"
        answer = kept | {"properties": body["properties"] | {"provisioningState": "Creating"}}
        return HttpResponse(201, answer, {"azure-asyncoperation": status, "retry-after": "0"})

    def _refusal(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        return HttpResponse(body=self._refusals[int(path.rpartition("/")[2]) - 1])

    def _deployment(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """Refuse a deployment that exceeds the quota of its family, or of the region (rule endpoint-quota)."""
        body = request.json()
        size = str(body["properties"].get("instanceType"))
        if endpoint_family(size) is None or size not in self._machines:
            return None
        known = self._cloud.get(path)
        own, all_used = (self._needed(known) if known else 0), self._used()
        used, limit, needed = all_used[family(size)] - own, self._limit(family(size)), self._needed(body)
        if needed > limit - used:
            why = (
                f"Not enough quota available for {size} in SubscriptionId {self._cloud.subscription}. Current "
                f"usage/limit: {used}/{limit}. Additional needed: {needed} {_GUIDE}"
            )
            detail = json.dumps({"errors": {"VmSize": [why]}})
            message = f"InferencingClient HttpRequest error, error detail: {detail}"
            return invalid("InferencingClientCreateDeploymentFailed", message)
        used = _dedicated(all_used) - own
        if needed > self._regional - used:
            # In the words of github.com/MicrosoftDocs/azure-docs/issues/121466 (read 2026-11-29).
            message = (
                f"Not enough cluster CPU quota. The amount of additional CPU quota requested is {needed}, and you are "
                f"currently using {used}. Your amount of maximum quota is {self._regional}. {_GUIDE}"
            )
            return error(400, "OutOfQuota", message)
        return None

    def prices(self, request: HttpRequest) -> HttpResponse:
        """The price list's rows of the sizes that the filter names."""
        sizes = set(re.findall(r"armSkuName eq '([^']+)'", request.query.get("$filter", "")))
        rows = [
            {
                "armSkuName": name,
                "retailPrice": self.dearer * each.usd_per_hour,
                "unitOfMeasure": "1 Hour",
                "skuName": name,
                "productName": "Virtual Machines",
                "meterName": name,
                "type": "Consumption",
            }
            for name, each in self._offered()
            if name in sizes
        ]
        return HttpResponse(body={"Items": rows, "NextPageLink": None})


def _dedicated(used: Counter[str]) -> int:
    """Cores of all families together."""
    return sum(cores for each, cores in used.items() if each != _TOTAL_LOW)


def family(size: str) -> str:
    """The family of a size, as quotas name it; for Standard_NC4as_T4_v3 it is standardNCasT4_v3Family."""
    if known := endpoint_family(size):
        return known.family
    name = re.sub(r"(?<=[A-Z])\d+", "", size.removeprefix("Standard_"), count=1)
    return f"standard{name.replace('_', '', 1) if name.count('_') > 1 else name}Family"

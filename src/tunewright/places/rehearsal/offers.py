"""What a region offers: sizes, quotas and prices, made of the price book."""

from __future__ import annotations

import re
from typing import Any

from tunewright.assess.prices import MachinePrice, price_book
from tunewright.places.azure.rules import endpoint_family, is_of_clusters
from tunewright.places.rehearsal.cloud import Answer, Asked

PRICES = "prices.azure.com"
QUOTA = 200
"""Cores of each family that the subscription may use, unless a test says otherwise."""


class Offers:
    """Answers of Azure Resource Manager and of the price list about machines.

    `quota` holds the cores of a family where they are not `QUOTA`; `missing` the sizes that the region lacks, `barred`
    those that it has and this subscription may not use; `dearer` how many times the price book's prices are asked.
    """

    def __init__(self, region: str) -> None:
        self.quota: dict[str, int] = {}
        self.missing: set[str] = set()
        self.barred: set[str] = set()
        self.dearer = 1.0
        self._region = region
        self._machines = {name: each for name, each in price_book().machines.items() if name.startswith("Standard_")}
        self.hooks = [
            ("GET", r"/locations/[^/]+/vmSizes$", self._sizes), ("GET", r"/locations/[^/]+/usages$", self._usages),
            ("GET", r"/providers/Microsoft\.Compute/skus$", self._skus),
        ]  # fmt: skip

    def _sizes(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        return Answer(body={"value": [self._size(name, each) for name, each in self._offered()]})

    def _skus(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        why = {"type": "Location", "reasonCode": "NotAvailableForSubscription"}
        rows = [
            {"name": name, "resourceType": "virtualMachines", "restrictions": [why] if name in self.barred else []}
            for name, _ in self._offered()
        ]
        return Answer(body={"value": rows})

    def _offered(self) -> list[tuple[str, MachinePrice]]:
        return [(name, each) for name, each in self._machines.items() if name not in self.missing]

    def _size(self, name: str, machine: MachinePrice) -> dict[str, Any]:
        return {
            "name": name, "family": family(name), "vCPUs": machine.cores, "lowPriorityCapable": True,
            "gpus": machine.gpu.count if machine.gpu else 0, "memoryGB": machine.memory_gib,
            "osVhdSizeMB": 1047552, "maxResourceVolumeMB": 180000, "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute", "ComputeInstance"] if is_of_clusters(name) else [],
            "estimatedVMPrices": {"billingCurrency": "USD", "unitOfMeasure": "OneHour", "values": [
                {"retailPrice": machine.usd_per_hour, "osType": "Linux", "vmTier": "Standard"}]},
        }  # fmt: skip

    def _usages(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        families = sorted({family(name) for name in self._machines})
        rows = [(f"{each} Cluster Dedicated vCPUs", self.quota.get(each, QUOTA)) for each in families]
        rows += [
            ("Total Cluster Dedicated Regional vCPUs", 10 * QUOTA),
            ("Total Cluster LowPriority Regional vCPUs", QUOTA),
        ]
        return Answer(body={"value": [self._usage(name, limit) for name, limit in rows]})

    def _usage(self, name: str, limit: int) -> dict[str, Any]:
        return {
            "id": name, "type": "Microsoft.MachineLearningServices/usages", "unit": "Count", "currentValue": 0,
            "limit": limit, "amlWorkspaceLocation": self._region, "name": {"value": name, "localizedValue": name},
        }  # fmt: skip

    def prices(self, asked: Asked) -> Answer:
        """The price list's rows of the sizes that a question names."""
        wanted = set(re.findall(r"armSkuName eq '([^']+)'", asked.query.get("$filter", "")))
        rows = [
            {"armSkuName": name, "retailPrice": self.dearer * each.usd_per_hour, "unitOfMeasure": "1 Hour",
             "skuName": name, "productName": "Virtual Machines", "meterName": name, "type": "Consumption"}
            for name, each in self._offered() if name in wanted
        ]  # fmt: skip
        return Answer(body={"Items": rows, "NextPageLink": None})


def family(size: str) -> str:
    """The family of a size, as quotas count it: of Standard_NC4as_T4_v3 it is standardNCasT4_v3Family."""
    if known := endpoint_family(size):
        return known.family
    name = re.sub(r"(?<=[A-Z])\d+", "", size.removeprefix("Standard_"), count=1)
    return f"standard{name.replace('_', '', 1) if name.count('_') > 1 else name}Family"

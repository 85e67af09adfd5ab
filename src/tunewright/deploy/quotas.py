"""The checks of machine sizes and quotas, for clusters and for managed endpoints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.backends.azure import machines
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, is_unregistered
from tunewright.backends.azure.rules import EndpointFamily, endpoint_cores, endpoint_family, rules
from tunewright.config import Spec
from tunewright.core.errors import Check, UserError
from tunewright.deploy import live_of
from tunewright.deploy.capacity import instances_of
from tunewright.deploy.live import State
from tunewright.deploy.outputs import Outputs
from tunewright.pipeline.steps import Step

_LOW_PRIORITY, _REGIONAL = "Total Cluster LowPriority", "Total Cluster Dedicated Regional"
"""Azure ML's names of the quotas that belong to no family."""
_LOW_PRIORITY_NAME = "TotalLowPriorityCores"
"""The name of the first of them in the API of quotas, which lacks the second one."""


@dataclass(frozen=True)
class _Demand:
    """Cores that are needed at once, of one quota."""

    name: str
    """The name of the check."""
    kind: str
    """The family of the quota, or one of the quotas that belong to no family."""
    cores: int
    later: int = 0
    """Cores that a canary will need beside them, if nothing serves yet."""


def machines_of(spec: Spec, steps: Sequence[Step]) -> dict[str, int]:
    """The machines that steps need: how many of each size at once."""
    counts: dict[str, int] = {}
    for step in steps:
        size = machines.size_of(step, spec)
        counts[size] = max(counts.get(size, 0), machines.nodes_of(step, spec))
    return counts


def size_checks(spec: Spec, at: Connection, sizes: dict[str, int]) -> Iterator[Check]:
    """Whether the region has clusters of each size."""
    with azure_errors("the machine sizes"):
        offered = {size.name: size for size in at.ml.compute.list_sizes(compute_type="AmlCompute")}
    for size in sizes:
        key = "azure.gpu" if size == spec.azure.gpu else "azure.cpu"
        others = sorted(name for name, each in offered.items() if bool(_field(each, "gpus")) == (key == "azure.gpu"))
        found = f"{'' if size in offered else 'not '}offered in {at.region} for clusters"
        yield Check(
            f"size {size}",
            size in offered,
            found,
            f"Name another: {key}=…  Offered there: {', '.join(others[:8]) or 'none'}.",
        )


def endpoint_size_check(spec: Spec, at: Connection) -> Check:
    """Whether managed endpoints take a machine (no call of Azure says so, only its list), and whether the region has it
    for this subscription."""
    size = spec.traffic.machine
    name = f"size {size} for the endpoint"
    if endpoint_family(size) is None:
        source = rules().rules["endpoint-sizes"].source
        return Check(
            name,
            False,
            f"not on Azure's list of sizes for endpoints ({source})",
            "Name one of the list: traffic.machine=…, or deploy with --to aks or --to aca.",
        )
    path = f"/subscriptions/{at.name.subscription}/providers/Microsoft.Compute/skus"
    try:
        with azure_errors("the machine sizes"):
            listed = at.ask("GET", path, "2021-07-01", query={"$filter": f"location eq '{at.region}'"}).get("value", [])
    except UserError as error:
        if not is_unregistered(error):
            raise
        # An endpoint's machines belong to Azure ML, so the endpoint needs no such registration.
        unknown = f"on Azure's list; without registration for Microsoft.Compute nobody says whether {at.region} has it"
        return Check(name, True, unknown)
    entry = next((each for each in listed if each.get("name") == size), None)
    barred = [
        each.get("reasonCode", "") for each in (entry or {}).get("restrictions", []) if each.get("type") == "Location"
    ]
    state = "not there" if entry is None else f"not for this subscription ({', '.join(barred)})" if barred else "there"
    return Check(
        name, state == "there", f"{state} in {at.region}", "Name another: traffic.machine=…, or deploy with --to aca."
    )


def quota_checks(
    spec: Spec, at: Connection, sizes: dict[str, int], outputs: Outputs | None, endpoint: bool
) -> Iterator[Check]:
    """Whether the quotas suffice: each size's cores, beside those that earlier sizes take of the same family, and all
    of them in the region.

    Args:
        sizes: how many machines of each size are needed.
        outputs: what will be deployed; None if there is no whole run: then more machines may be needed.
        endpoint: whether a managed endpoint will be made.
    """
    with azure_errors("the quotas"):
        offered = {size.name: size for size in at.ml.compute.list_sizes()}
        usages = {_letters(_field(usage, "name")["value"]): usage for usage in at.ml.compute.list_usage()}
    demands: list[_Demand] = []
    total = 0
    for size, count in sizes.items():
        if size in offered:
            cores = count * _cores(size, offered, spec)
            low = spec.azure.low_priority and size == spec.azure.gpu
            total += 0 if low else cores
            kind = _LOW_PRIORITY if low else _field(offered[size], "family")
            demands.append(_Demand(f"quota of {size}", kind, cores))
    if endpoint and (family := endpoint_family(spec.traffic.machine)):
        demand, regional_cores = _of_endpoint(spec, at, family, outputs, offered)
        total += regional_cores
        demands.append(demand)
    demands.append(_Demand("quota of the region", _REGIONAL, max(0, total)))
    taken = Counter[str]()
    for each in demands:
        key = next((usage for usage in usages if usage.startswith(_letters(each.kind))), None)
        if key is None:
            yield Check(each.name, True, "Azure names no quota for this family")
            continue
        limit = int(_field(usages[key], "limit"))
        free = limit - int(_field(usages[key], "currentValue", "current_value")) - taken[key]
        found = f"{each.cores} cores needed, {free} of {limit} free"
        if taken[key]:
            found += f" beside the {taken[key]} needed above"
        left = free - each.cores
        if 0 <= left < each.later:
            found += f"; a canary will need {each.later} beside them, and {left} are left"
        taken[key] += each.cores
        how = "ml.azure.com > Quota"
        if each.kind != _REGIONAL:
            command = quota_command(at.name.subscription, at.region, each.kind, limit - left)
            how += f", or: {command}  (once before: az provider register --namespace Microsoft.Quota)"
        of_gpu = each.name == f"quota of {spec.azure.gpu}"
        otherwise = "go on without a GPU: azure.gpu=null" if of_gpu else "name a smaller machine"
        passed = left >= 0 or not each.cores
        yield Check(each.name, passed, found, f"Ask for {-left} more cores of this family ({how}), or {otherwise}.")


def _of_endpoint(
    spec: Spec, at: Connection, family: EndpointFamily, outputs: Outputs | None, offered: dict[str, Any]
) -> tuple[_Demand, int]:
    """(what a new version takes of its family's quota, cores of the region's quota). The version that serves stays
    beside it, and so does a canary: Azure's usage contains both."""
    size, count = spec.traffic.machine, instances_of(spec, outputs)
    cores = endpoint_cores(size, count, _cores(size, offered, spec))
    state = live_of("aml", spec, at).state() or State({})
    freed = _freed(spec, at, state, offered)
    about = f"quota of {'' if outputs else 'at least '}{count} x {size} for the endpoint"
    reserve = "" if family.skips_reserve else ", a fifth in reserve"
    needed, later = max(0, cores - freed[family.family]), 0 if state.shares else cores
    return _Demand(about + reserve, family.family, needed, later), cores - freed.total()


def quota_command(subscription: str, region: str, kind: str, cores: int) -> str:
    """The command that requests a quota of so many cores; infra/main.bicep has the same.

    Args:
        kind: a family, or the name of the quota for all families at low priority.
    """
    # learn.microsoft.com/cli/azure/quota; the names are those of github.com/Azure/azure-rest-api-specs, specification/\
    # quota, examples getMachineLearningServicesQuotaLimits and putMachineLearningServicesQuotaRequestLowPriority (read
    # 2026-11-29).
    name, of = (_LOW_PRIORITY_NAME, "lowPriority") if kind == _LOW_PRIORITY else (kind, "dedicated")
    scope = f"/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{region}"
    return f"az quota create --resource-name {name} --limit-object value={cores} --scope {scope} --resource-type {of}"


def _freed(spec: Spec, at: Connection, state: State, offered: dict[str, Any]) -> Counter[str]:
    """Cores, by family, of a trial that was broken off: the next deployment removes it first, or goes on with it."""
    if state.fresh is None or state.is_canary or state.gets_requests:
        return Counter()
    with azure_errors(f"the deployment {state.fresh}"):
        left = at.ml.online_deployments.get(state.fresh, live_of("aml", spec, at).name)
    size, count = str(left.instance_type), int(left.instance_count or 1)
    family = endpoint_family(size)
    if family is None:
        return Counter()
    return Counter({family.family: endpoint_cores(size, count, _cores(size, offered, spec))})


def _cores(size: str, offered: dict[str, Any], spec: Spec) -> int:
    """The cores of one machine, by Azure, or by the price book if Azure does not say."""
    return int(_field(offered[size], "vCPUs", "v_cp_us")) if size in offered else machines.price_of(size, spec).cores


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _field(entity: Any, *names: str) -> Any:
    """The first field with a value among some names of an SDK's entity: the wire's, and its own."""
    fields = vars(entity)
    return next(fields[name] for name in names if fields.get(name) is not None)

"""What must be true before a cent is spent: sign-in, rights, storage, region, sizes, quota, memory, price."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tunewright.backends.azure import machines
from tunewright.backends.azure.bases import require_reachable
from tunewright.backends.azure.connection import ARM, Connection
from tunewright.backends.azure.refusals import azure_errors, is_unregistered, register
from tunewright.backends.azure.rules import EndpointFamily, endpoint_cores, endpoint_family, is_allowed, rules
from tunewright.backends.azure.store import BlobStore
from tunewright.config import RUNS, Spec
from tunewright.core.errors import Check, UserError
from tunewright.deploy import is_standing, live_of, target_of
from tunewright.deploy.live import State
from tunewright.deploy.outputs import Outputs, outputs_of
from tunewright.deploy.room import instances_of
from tunewright.economics.prices import price_book
from tunewright.economics.retail import machine_prices
from tunewright.models.sizes import sizes_of
from tunewright.pipeline.planning.machines import priced_machine
from tunewright.pipeline.planning.preflight import memory_checks
from tunewright.pipeline.steps import STEPS, Step

if TYPE_CHECKING:
    from tunewright.pipeline.planning.project import ProjectPlan

_PROVIDER = "Microsoft.MachineLearningServices/workspaces"
_WRITTEN = ("data/versions", "environments/versions", "jobs", "models/versions")
ACTIONS = tuple(f"{_PROVIDER}/{what}/write" for what in _WRITTEN)
"""What running steps needs leave for."""
CLUSTER_ACTION = f"{_PROVIDER}/computes/write"
"""And where a cluster has to be made or changed first."""
DEPLOY_ACTIONS = tuple(f"{_PROVIDER}/onlineEndpoints{what}/write" for what in ("", "/deployments"))
ASSIGN_ACTION = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
"""And where something that is made is to run as an identity."""
_REGISTRY_ACTIONS = tuple(
    f"Microsoft.ContainerRegistry/registries/{what}"
    for what in ("read", "listBuildSourceUploadUrl/action", "scheduleRun/action", "runs/read")
)
TARGETS = {
    "aca": ("Microsoft.App", ("Microsoft.App/containerApps/write", "Microsoft.App/managedEnvironments/read")),
    "aks": (
        "Microsoft.ContainerService",
        tuple(
            f"Microsoft.ContainerService/managedClusters/{what}"
            for what in ("read", "runCommand/action", "commandResults/read")
        ),
    ),
}
"""Where an image is deployed: the provider, and what needs leave besides the registry, in the resource group."""
_SOON = "A role that was just given is in force after up to ten minutes."
"""The rule assignments-take-time."""
_LOW_PRIORITY, _REGIONAL = "Total Cluster LowPriority", "Total Cluster Dedicated Regional"
"""How Azure ML calls quotas that are of no family."""
_LOW_PRIORITY_NAME = "TotalLowPriorityCores"
"""And the API of quotas the first of them; the second one it does not have."""
_DEARER = 1.01
"""Times the price book's price from which on a region counts as dearer."""


@dataclass(frozen=True)
class _Wanted:
    """Cores that are wanted at once, of one quota."""

    name: str
    """Of the check."""
    kind: str
    """The family that the quota is of, or what stands for one."""
    cores: int
    later: int = 0
    """Cores that a canary will take beside it, where nothing serves yet."""


def preflight(
    spec: Spec,
    at: Connection,
    planned: Callable[[], ProjectPlan | None],
    steps: Sequence[Step],
    *,
    deploy: str | None = None,
) -> list[Check]:
    """All checks, in the order a run would meet their faults; those behind a failed sign-in are left out.

    Args:
        planned: makes the plan of the project, where that can be done; it takes seconds, so it is asked last.
        steps: what is to run there.
        deploy: where the bundle is to be deployed then: aml, or one of `TARGETS`.
    """
    endpoint = deploy == "aml"
    made = [_sign_in(at)]
    if made[0].passed:
        made.append(_workspace(at))
    if all(check.passed for check in made):
        made += [_region(spec, at), *_asked("permissions", lambda: _rights(spec, at, steps, endpoint)), _storage(at)]
        wanted = _wanted(spec, steps)
        made += _asked("machine sizes", lambda: _sizes(spec, at, wanted))
        outputs = _outputs(spec) if endpoint else None
        made += _asked("quotas", lambda: _quotas(spec, at, wanted, outputs, endpoint))
        if endpoint:
            made += _asked("endpoint sizes", lambda: [_endpoint_size(spec, at)])
        if deploy in ("aml", "aks"):
            made += _vllm_image(spec, at)
        made += _memory(spec, steps, endpoint)
        plan = planned()
        if spec.azure.gpu in wanted:
            made += _training_memory(spec, plan)
        known = endpoint and spec.traffic.machine in price_book(spec.price_file).machines
        made += _prices(spec, at, [*wanted, *([spec.traffic.machine] if known else [])])
        made.append(_total(spec, plan))
    if deploy in TARGETS and made[0].passed:
        made += image_checks(spec, at, deploy)
    return made


def image_checks(spec: Spec, at: Connection, to: str) -> list[Check]:
    """What deploying an image needs of the subscription and of the signed-in person's roles.

    Args:
        to: one of `TARGETS`.
    """
    provider, actions = TARGETS[to]
    group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}"
    wanted = (*_REGISTRY_ACTIONS, *actions)
    remedy = f"Ask for the role Contributor on the resource group {at.name.resource_group}. {_SOON}"
    name = f"permissions for {to}"
    return [
        *_asked(f"provider {provider}", lambda: [_registered(at, provider)]),
        *_asked(name, lambda: [_allowed(name, at, group, wanted, remedy)]),
        *_asked("identity", lambda: _assignable(spec, at)),
    ]


def endpoint_checks(spec: Spec, at: Connection, outputs: Outputs) -> list[Check]:
    """What a managed endpoint needs of the region, before the model is registered: its machine, quota, and the price
    that was counted with. Nothing where this version stands there already, so that none is made.

    Raises:
        UserError: an endpoint can't serve this bundle, or Azure refuses.
    """
    target, size = target_of("aml", spec, at, outputs, None, dry=True), spec.traffic.machine
    if is_standing(target, target.live.state() or State({})):
        return []
    # A size that only the user's own price book knows may be newer than the list, so Azure decides about it.
    listed = endpoint_family(size) is not None
    return [
        *(_asked("endpoint sizes", lambda: [_endpoint_size(spec, at)]) if listed else []),
        *_asked("quotas", lambda: _quotas(spec, at, {}, outputs, endpoint=True)),
        *(_prices(spec, at, [size]) if size in price_book(spec.price_file).machines else []),
    ]


def require(checks: list[Check]) -> None:
    """Raise a UserError that names every check that did not pass."""
    failed = [check for check in checks if not check.passed]
    if failed:
        raise UserError(
            "Nothing was started in Azure. " + " ".join(f"✗ {check.name}: {check.found}." for check in failed),
            fix=" ".join(dict.fromkeys(check.remedy for check in failed)),
        )


def _asked(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Checks; where Azure does not answer what they ask, that instead, so that the others are told all the same."""
    try:
        yield from look()
    except UserError as error:
        remedy = f"Ask for the role Reader on the subscription; a fault of Azure's passes by itself. {_SOON}"
        yield Check(
            name,
            False,
            " ".join(filter(None, (error.what, error.why))),
            (error.fix if is_unregistered(error) else None) or remedy,
        )


def _sign_in(at: Connection) -> Check:
    try:
        with azure_errors("signing in"):
            at.credential.get_token(f"{ARM}/.default")
    except UserError as error:
        return Check("sign-in", False, error.why or error.what, "Type: az login  (or azd auth login)")
    return Check("sign-in", True, "Entra ID gives a token")


def _workspace(at: Connection) -> Check:
    try:
        found = at.workspace
    except UserError as error:
        return Check("workspace", False, " ".join(filter(None, (error.what, error.why))), error.fix or "")
    closed = ", no public network" if at.is_private else ""
    return Check("workspace", True, f"{at.name.workspace} in {found.location}{closed}")


def _region(spec: Spec, at: Connection) -> Check:
    wanted = spec.azure.region
    if wanted is None:
        return Check("region of the data", True, f"{at.region}; azure.region would hold it to one")
    same = wanted.replace(" ", "").lower() == at.region.replace(" ", "").lower()
    return Check(
        "region of the data",
        same,
        at.region if same else f"{at.region}, and the spec says {wanted}",
        f"Name a workspace in {wanted}: azure.workspace=SUBSCRIPTION_ID/RESOURCE_GROUP/NAME",
    )


def _rights(spec: Spec, at: Connection, steps: Sequence[Step], deploy: bool) -> Iterator[Check]:
    """Of the workspace, and of the identity that what is made is to run as."""
    kinds = {(machines.size_of(each, spec), each.trains): each for each in steps}
    making = not all(machines.is_ready(at, step, spec) for step in kinds.values())
    wanted = ACTIONS + ((CLUSTER_ACTION,) if making else ()) + (DEPLOY_ACTIONS if deploy else ())
    operator = " and, as a cluster has to be made or changed, AzureML Compute Operator" if making else ""
    yield _allowed(
        "permissions",
        at,
        at.name.path,
        wanted,
        f"Ask for the role AzureML Data Scientist{operator} on the workspace. {_SOON}",
    )
    if making or deploy:
        yield from _assignable(spec, at)


def _assignable(spec: Spec, at: Connection) -> Iterator[Check]:
    """Whether something may be made that runs as the spec's identity (rule identity-must-be-assignable)."""
    if identity := machines.identity_of(spec):
        remedy = f"Ask for the role Managed Identity Operator on {identity.rpartition('/')[2]}. {_SOON}"
        yield _allowed("identity", at, identity, (ASSIGN_ACTION,), remedy)


def _allowed(name: str, at: Connection, scope: str, wanted: Sequence[str], remedy: str) -> Check:
    with azure_errors("your permissions"):
        answer = at.ask("GET", f"{scope}/providers/Microsoft.Authorization/permissions", "2022-04-01")
    missing = [action for action in wanted if not is_allowed(action, answer.get("value", []))]
    found = f"not allowed: {', '.join(missing)}" if missing else f"{len(wanted)} of {len(wanted)}"
    return Check(name, not missing, found, remedy)


def _registered(at: Connection, provider: str) -> Check:
    """Whether the subscription is registered for a resource provider (rule unregistered)."""
    with azure_errors(f"the provider {provider}"):
        told = at.ask("GET", f"/subscriptions/{at.name.subscription}/providers/{provider}", "2021-04-01")
    state = str(told.get("registrationState", ""))
    return Check(f"provider {provider}", state == "Registered", state, register(provider, at.name.subscription))


def _storage(at: Connection) -> Check:
    try:
        BlobStore(at).text("tunewright/preflight")
    except UserError as error:
        remedy = f"Ask for the role Storage Blob Data Contributor on the workspace's storage account. {_SOON}"
        return Check("storage", False, " ".join(filter(None, (error.what, error.why))), remedy)
    return Check("storage", True, "read with Entra ID, no key")


def _wanted(spec: Spec, steps: Sequence[Step]) -> dict[str, int]:
    """Machines by size, and how many of each at once."""
    made: dict[str, int] = {}
    for step in steps:
        size = machines.size_of(step, spec)
        made[size] = max(made.get(size, 0), machines.nodes_of(step, spec))
    return made


def _sizes(spec: Spec, at: Connection, wanted: dict[str, int]) -> Iterator[Check]:
    with azure_errors("the machine sizes"):
        offered = {size.name: size for size in at.ml.compute.list_sizes(compute_type="AmlCompute")}
    for size in wanted:
        key = "azure.gpu" if size == spec.azure.gpu else "azure.cpu"
        others = sorted(name for name, each in offered.items() if bool(_field(each, "gpus")) == (key == "azure.gpu"))
        found = f"{'' if size in offered else 'not '}offered in {at.region} for clusters"
        yield Check(
            f"size {size}",
            size in offered,
            found,
            f"Name another: {key}=…  Offered there: {', '.join(others[:8]) or 'none'}.",
        )


def _endpoint_size(spec: Spec, at: Connection) -> Check:
    """Whether managed endpoints take a machine, which no call tells, and the region has it for this subscription."""
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
        # An endpoint's machines are Azure ML's, so that it needs no such registration.
        return Check(
            name, True, f"on Azure's list; whether {at.region} has it is told where Microsoft.Compute is registered"
        )
    found = next((each for each in listed if each.get("name") == size), None)
    barred = [
        each.get("reasonCode", "") for each in (found or {}).get("restrictions", []) if each.get("type") == "Location"
    ]
    said = "not there" if found is None else f"not for this subscription ({', '.join(barred)})" if barred else "there"
    return Check(
        name, said == "there", f"{said} in {at.region}", "Name another: traffic.machine=…, or deploy with --to aca."
    )


def _vllm_image(spec: Spec, at: Connection) -> Iterator[Check]:
    """Whether vLLM's image can be built, where it is to serve in a private workspace."""
    if at.is_private and spec.export.runtime.startswith("vllm"):
        try:
            require_reachable(spec, at, "vllm")
        except UserError as error:
            yield Check("image for vLLM", False, (error.why or error.what).rstrip("."), error.fix or "")
        else:
            yield Check("image for vLLM", True, f"built on {spec.azure.base_images['vllm']}")


def _quotas(
    spec: Spec, at: Connection, machines_wanted: dict[str, int], outputs: Outputs | None, endpoint: bool
) -> Iterator[Check]:
    """Each size's cores beside what was wanted before of the same family, and all of them in the region.

    Args:
        outputs: what is to be deployed; None where there is no whole run, so that more machines may be needed.
        endpoint: whether a managed endpoint is to be made.
    """
    with azure_errors("the quotas"):
        offered = {size.name: size for size in at.ml.compute.list_sizes()}
        usages = {_letters(_field(usage, "name")["value"]): usage for usage in at.ml.compute.list_usage()}
    wanted: list[_Wanted] = []
    total = 0
    for size, count in machines_wanted.items():
        if size in offered:
            cores = count * _cores(size, offered, spec)
            low = spec.azure.low_priority and size == spec.azure.gpu
            total += 0 if low else cores
            kind = _LOW_PRIORITY if low else _field(offered[size], "family")
            wanted.append(_Wanted(f"quota of {size}", kind, cores))
    if endpoint and (family := endpoint_family(spec.traffic.machine)):
        own, in_region = _of_endpoint(spec, at, family, outputs, offered)
        total += in_region
        wanted.append(own)
    wanted.append(_Wanted("quota of the region", _REGIONAL, max(0, total)))
    before = Counter[str]()
    for one in wanted:
        key = next((each for each in usages if each.startswith(_letters(one.kind))), None)
        if key is None:
            yield Check(one.name, True, "not told by Azure for this family")
            continue
        limit = int(_field(usages[key], "limit"))
        free = limit - int(_field(usages[key], "currentValue", "current_value")) - before[key]
        found = f"{one.cores} cores needed, {free} of {limit} free"
        if before[key]:
            found += f" beside {before[key]} that are wanted above"
        left = free - one.cores
        if 0 <= left < one.later:
            found += f"; a canary will need {one.later} beside them, and {left} are left"
        before[key] += one.cores
        how = "ml.azure.com > Quota"
        if one.kind != _REGIONAL:
            command = quota_command(at.name.subscription, at.region, one.kind, limit - left)
            how += f", or: {command}  (once before: az provider register --namespace Microsoft.Quota)"
        of_gpu = one.name == f"quota of {spec.azure.gpu}"
        otherwise = "go on without a GPU: azure.gpu=null" if of_gpu else "name a smaller machine"
        passed = left >= 0 or not one.cores
        yield Check(one.name, passed, found, f"Ask for {-left} more cores of this family ({how}), or {otherwise}.")


def _of_endpoint(
    spec: Spec, at: Connection, family: EndpointFamily, outputs: Outputs | None, offered: dict[str, Any]
) -> tuple[_Wanted, int]:
    """What a new version takes of its family's quota, and cores of the region's. What serves stays beside it, and so
    does a canary: Azure's usage has both."""
    size, count = spec.traffic.machine, instances_of(spec, outputs)
    cores = endpoint_cores(size, count, _cores(size, offered, spec))
    state = live_of("aml", spec, at).state() or State({})
    freed = _freed(spec, at, state, offered)
    about = f"quota of {'' if outputs else 'at least '}{count} x {size} for the endpoint"
    reserve = "" if family.skips_reserve else ", a fifth in reserve"
    needed, later = max(0, cores - freed[family.family]), 0 if state.shares else cores
    return _Wanted(about + reserve, family.family, needed, later), cores - freed.total()


def quota_command(subscription: str, region: str, kind: str, cores: int) -> str:
    """What asks for a quota of so many cores; infra/main.bicep has the same.

    Args:
        kind: a family, or what stands for all at low priority.
    """
    # learn.microsoft.com/cli/azure/quota; the names are those of github.com/Azure/azure-rest-api-specs, specification/\
    # quota, examples getMachineLearningServicesQuotaLimits and putMachineLearningServicesQuotaRequestLowPriority (read
    # 2026-11-29).
    name, of = (_LOW_PRIORITY_NAME, "lowPriority") if kind == _LOW_PRIORITY else (kind, "dedicated")
    scope = f"/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{region}"
    return f"az quota create --resource-name {name} --limit-object value={cores} --scope {scope} --resource-type {of}"


def _outputs(spec: Spec) -> Outputs | None:
    """What a deployment would serve by now; None where there is no whole run."""
    try:
        return outputs_of(spec.folder / RUNS)
    except UserError:
        return None


def _freed(spec: Spec, at: Connection, state: State, offered: dict[str, Any]) -> Counter[str]:
    """Cores by family of a trial that was broken off: the next deployment takes it away first, or goes on with it."""
    if state.fresh is None or state.is_canary or state.is_asked:
        return Counter()
    with azure_errors(f"the deployment {state.fresh}"):
        left = at.ml.online_deployments.get(state.fresh, live_of("aml", spec, at).name)
    size, count = str(left.instance_type), int(left.instance_count or 1)
    family = endpoint_family(size)
    if family is None:
        return Counter()
    return Counter({family.family: endpoint_cores(size, count, _cores(size, offered, spec))})


def _cores(size: str, offered: dict[str, Any], spec: Spec) -> int:
    """Of one machine, as Azure says it; where it does not, as the price book does."""
    return int(_field(offered[size], "vCPUs", "v_cp_us")) if size in offered else machines.price_of(size, spec).cores


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _field(entity: Any, *names: str) -> Any:
    """What the SDK's entity holds under the first of some names: the wire's, and its own."""
    held = vars(entity)
    return next(held[name] for name in names if held.get(name) is not None)


def _memory(spec: Spec, steps: Sequence[Step], deploy: bool) -> Iterator[Check]:
    """Of every step but the training on a GPU, which is counted; and of what is to serve."""
    sizes = sizes_of(spec.model, spec.folder)
    if sizes is None:
        yield Check("memory", True, "not predicted here: the base model's shape is not known before it is fetched")
        return
    book = price_book(spec.price_file)
    sized = [step for step in steps if not step.trains or not spec.azure.gpu]
    yield from memory_checks(spec, sizes, sized, lambda step: priced_machine(machines.size_of(step, spec), book))
    if deploy and spec.traffic.machine in book.machines:
        serving = priced_machine(spec.traffic.machine, book)
        for check in memory_checks(spec, sizes, [STEPS["parity"]], lambda _: serving):
            yield replace(check, name=f"memory of the endpoint on {serving.name}")


def _training_memory(spec: Spec, found: ProjectPlan | None) -> Iterator[Check]:
    plan = found.training if found else None
    option = next((each for each in plan.options if each.machine == spec.azure.gpu), None) if plan else None
    if plan is None or option is None:
        yield Check("GPU memory", True, "not predicted here: that needs the extra [train] and a size of the price book")
        return
    said = f"{option.peak_gib:.1f} of {option.usable_gib:.1f} GiB" + (f"; {option.why}" if option.why else "")
    best = plan.cheapest
    yield Check("GPU memory", option.fits, said, f"azure.gpu={best.machine} would do." if best else plan.sentence)


def _prices(spec: Spec, at: Connection, sizes: Sequence[str]) -> Iterator[Check]:
    """Of machines of the price book in the workspace's region."""
    known = {size: machines.price_of(size, spec).usd_per_hour for size in sizes}
    try:
        there, unasked = machine_prices(list(known), at.region), ""
    except UserError:
        there, unasked = {}, "; Azure's list could not be asked"
    for size, booked in known.items():
        asked = there.get(size, booked)
        dearer = asked > _DEARER * booked
        said = f"${asked:.3f} an hour " + (f"in {at.region}" if size in there else f"by the price book{unasked}")
        yield Check(
            f"price of {size}",
            not dearer,
            f"{said}, and ${booked:.3f} by the price book" if dearer else said,
            "Budgets and verdicts follow the price book. Make one of the region: tunewright models prices "
            f"--refresh --region {at.region}; and name it in the spec: prices: prices.yaml.",
        )


def _total(spec: Spec, found: ProjectPlan | None) -> Check:
    budget = spec.azure.budget_usd
    if found is None:
        return Check("total", True, f"at most ${budget:.2f}, where it is stopped")
    # More machines finish sooner and cost about the same.
    usd = found.azure.usd
    return Check(
        "total",
        usd.low <= budget,
        f"about ${usd.low:.2f} to ${usd.high:.2f}, and at most ${budget:.2f}, where it is stopped",
        f"Raise it: azure.budget_usd={math.ceil(usd.high)}",
    )

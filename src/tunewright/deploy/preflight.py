"""What must be true before a cent is spent: sign-in, rights, storage, region, sizes, quota, memory, price."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tunewright.backends.azure import machines
from tunewright.backends.azure.bases import require_reachable
from tunewright.backends.azure.connection import ARM, Connection
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.rules import endpoint_family
from tunewright.config import Spec
from tunewright.core.errors import Check, UserError
from tunewright.deploy import is_standing, target_of
from tunewright.deploy.live import State
from tunewright.deploy.outputs import Outputs, outputs_of
from tunewright.deploy.quotas import endpoint_size_check, machines_of, quota_checks, size_checks
from tunewright.deploy.rights import TARGETS, answered, image_checks, rights_checks, storage_check
from tunewright.economics.prices import price_book
from tunewright.economics.retail import machine_prices
from tunewright.models.sizes import sizes_of
from tunewright.pipeline.planning.machines import Machine, key_of, priced_machine
from tunewright.pipeline.planning.preflight import memory_checks
from tunewright.pipeline.steps import STEPS, Step
from tunewright.project import Project

if TYPE_CHECKING:
    from tunewright.pipeline.planning.project import ProjectPlan

_DEARER = 1.01
"""A region counts as dearer from this multiple of the price book's price on."""


def preflight(
    spec: Spec,
    at: Connection,
    planned: Callable[[], ProjectPlan | None],
    steps: Sequence[Step],
    *,
    deploy: str | None = None,
) -> list[Check]:
    """All checks, in the order in which a run would meet their faults. After a failed sign-in the rest are left out.

    Args:
        planned: makes the plan of the project, if that is possible; it takes seconds, so it is called last.
        steps: the steps that will run there.
        deploy: the target to which the bundle will be deployed then: aml, or one of `rights.TARGETS`.
    """
    endpoint = deploy == "aml"
    checks = [_sign_in(at)]
    if checks[0].passed:
        checks.append(_workspace(at))
    if all(check.passed for check in checks):
        rights = answered("permissions", lambda: rights_checks(spec, at, steps, endpoint))
        checks += [_region(spec, at), *rights, storage_check(at)]
        sizes = machines_of(spec, steps)
        checks += answered("machine sizes", lambda: size_checks(spec, at, sizes))
        outputs = _outputs(spec) if endpoint else None
        checks += answered("quotas", lambda: quota_checks(spec, at, sizes, outputs, endpoint))
        if endpoint:
            checks += answered("endpoint sizes", lambda: [endpoint_size_check(spec, at)])
        if deploy in ("aml", "aks"):
            checks += _vllm_image(spec, at)
        checks += _memory(spec, steps, endpoint)
        plan = planned()
        if spec.azure.gpu in sizes:
            checks += _training_memory(spec, plan)
        known = endpoint and spec.traffic.machine in price_book(spec.price_file).machines
        checks += _prices(spec, at, [*sizes, *([spec.traffic.machine] if known else [])])
        checks.append(_total(spec, plan))
    if deploy in TARGETS and checks[0].passed:
        checks += image_checks(spec, at, deploy)
    return checks


def endpoint_checks(spec: Spec, at: Connection, outputs: Outputs) -> list[Check]:
    """What a managed endpoint needs of the region, before the model is registered: its machine, the quota, and the
    price that the verdict counted with. There are no checks if this version exists already: no other one is made,
    and if Azure refuses it more machines, it serves on with those that it has.

    Raises:
        UserError: an endpoint can't serve this bundle, or Azure refuses.
    """
    target, size = target_of("aml", spec, at, outputs, None, dry=True), spec.traffic.machine
    if is_standing(target, target.live.state() or State({})):
        return []
    # A size that only the user's own price book knows may be newer than the list, so Azure decides about it.
    listed = endpoint_family(size) is not None
    return [
        *(answered("endpoint sizes", lambda: [endpoint_size_check(spec, at)]) if listed else []),
        *answered("quotas", lambda: quota_checks(spec, at, {}, outputs, endpoint=True)),
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


def _sign_in(at: Connection) -> Check:
    try:
        with azure_errors("signing in"):
            at.credential.get_token(f"{ARM}/.default")
    except UserError as error:
        return Check("sign-in", False, error.why or error.what, "Type: az login  (or azd auth login)")
    return Check("sign-in", True, "Entra ID gives a token")


def _workspace(at: Connection) -> Check:
    try:
        workspace = at.workspace
    except UserError as error:
        return Check("workspace", False, " ".join(filter(None, (error.what, error.why))), error.fix or "")
    closed = ", no public network" if at.is_private else ""
    return Check("workspace", True, f"{at.name.workspace} in {workspace.location}{closed}")


def _region(spec: Spec, at: Connection) -> Check:
    region = spec.azure.region
    if region is None:
        return Check("region of the data", True, f"{at.region}; azure.region would require one")
    same = region.replace(" ", "").lower() == at.region.replace(" ", "").lower()
    return Check(
        "region of the data",
        same,
        at.region if same else f"{at.region}, and the spec says {region}",
        f"Name a workspace in {region}: azure.workspace=SUBSCRIPTION_ID/RESOURCE_GROUP/NAME",
    )


def _vllm_image(spec: Spec, at: Connection) -> Iterator[Check]:
    """Whether vLLM's image can be built, if vLLM will serve in a private workspace."""
    if at.is_private and spec.export.runtime.startswith("vllm"):
        try:
            require_reachable(spec, at, "vllm")
        except UserError as error:
            yield Check("image for vLLM", False, (error.why or error.what).rstrip("."), error.fix or "")
        else:
            yield Check("image for vLLM", True, f"built on {spec.azure.base_images['vllm']}")


def _outputs(spec: Spec) -> Outputs | None:
    """The outputs that a deployment would serve by now; None if there is no whole run."""
    try:
        return outputs_of(Project(spec.folder))
    except UserError:
        return None


def _memory(spec: Spec, steps: Sequence[Step], deploy: bool) -> Iterator[Check]:
    """The memory of every step but a training on a GPU, which has a check of its own; and of the server."""
    sizes = sizes_of(spec.model, spec.folder)
    if sizes is None:
        yield Check("memory", True, "not predicted here: the base model's shape is not known before it is fetched")
        return
    book = price_book(spec.price_file)
    sized = [step for step in steps if not step.trains or not spec.azure.gpu]

    def machine_of(step: Step) -> Machine:
        size = machines.size_of(step, spec)
        return priced_machine(size, book, key_of(size, spec))

    yield from memory_checks(spec, sizes, sized, machine_of)
    if deploy and spec.traffic.machine in book.machines:
        serving = priced_machine(spec.traffic.machine, book)
        for check in memory_checks(spec, sizes, [STEPS["parity"]], lambda _: serving):
            yield replace(check, name=f"memory of the endpoint on {serving.name}")


def _training_memory(spec: Spec, project_plan: ProjectPlan | None) -> Iterator[Check]:
    plan = project_plan.training if project_plan else None
    option = next((each for each in plan.options if each.machine == spec.azure.gpu), None) if plan else None
    if plan is None or option is None:
        yield Check("GPU memory", True, "not predicted here: that needs the extra [train] and a size of the price book")
        return
    found = f"{option.peak_gib:.1f} of {option.usable_gib:.1f} GiB" + (f"; {option.why}" if option.why else "")
    best = plan.cheapest
    yield Check("GPU memory", option.fits, found, f"azure.gpu={best.machine} would do." if best else plan.sentence)


def _prices(spec: Spec, at: Connection, sizes: Sequence[str]) -> Iterator[Check]:
    """Whether machines of the price book cost about the same in the workspace's region."""
    book_prices = {size: machines.price_of(size, spec).usd_per_hour for size in sizes}
    try:
        prices, note = machine_prices(list(book_prices), at.region), ""
    except UserError:
        prices, note = {}, "; Azure's price list can't be reached"
    for size, booked in book_prices.items():
        price = prices.get(size, booked)
        dearer = price > _DEARER * booked
        found = f"${price:.3f} an hour " + (f"in {at.region}" if size in prices else f"by the price book{note}")
        yield Check(
            f"price of {size}",
            not dearer,
            f"{found}, and ${booked:.3f} by the price book" if dearer else found,
            "Budgets and verdicts follow the price book. Make one of the region: tunewright models prices "
            f"--refresh --region {at.region}; and name it in the spec: prices: prices.yaml.",
        )


def _total(spec: Spec, plan: ProjectPlan | None) -> Check:
    budget = spec.azure.budget_usd
    if plan is None:
        return Check("total", True, f"at most ${budget:.2f}; there it is stopped")
    # More machines finish sooner and cost about the same.
    usd = plan.azure.usd
    return Check(
        "total",
        usd.low <= budget,
        f"about ${usd.low:.2f} to ${usd.high:.2f}, and at most ${budget:.2f}; there it is stopped",
        f"Raise it: azure.budget_usd={math.ceil(usd.high)}",
    )

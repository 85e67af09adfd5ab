"""Everything in Azure that carries a project's tag, and its removal; nothing else is touched."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.follow import OVER
from tunewright.backends.azure.refusals import azure_errors, is_unregistered
from tunewright.backends.azure.schedule import LONGEST, scheduled
from tunewright.backends.azure.waiting import Wait, wait_for
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.deploy.cluster import Cluster, clusters
from tunewright.deploy.kubernetes import owner_of, release_name
from tunewright.deploy.live_app import VERSION as APPS

_LONGEST = 1800.0
"""Seconds that Azure may take to delete something."""
_CANCELLING_SECONDS = 300.0
"""How long a job may take to end: its step may still write a checkpoint."""
_POLL_SECONDS = 1.0
_OF_AZD = "azd-env-name"
"""The tag of what `azd up` makes, which `azd down` removes: the projects of a workspace share it."""


@dataclass(frozen=True)
class Thing:
    """Something in Azure that carries a project's tag."""

    kind: str
    name: str
    cost: str
    """What it costs, or may cost, in words."""
    remove: Callable[[], object] = field(repr=False, compare=False)


class StillUsed(UserError):
    """Something of this project is used by another one, so it stays."""


class Unseen(UserError):
    """Azure did not list everything, so more may exist than was found.

    Args:
        faults: the error for each kind that could not be listed.
        found: the things that were found all the same.
    """

    def __init__(self, faults: Sequence[UserError], found: list[Thing]):
        self.found = found
        super().__init__(
            "Azure did not list everything, so more may exist.",
            why=" ".join(" ".join(filter(None, (each.what, each.why))) for each in faults),
            fix=" ".join(dict.fromkeys(each.fix for each in faults if each.fix)),
        )


def things(spec: Spec, at: Connection) -> list[Thing]:
    """Everything of a project that costs money or may do so, in the order in which it is removed.

    Data, models and environments are not among them: they cost next to nothing, and their content can't be restored.

    Raises:
        Unseen: Azure refuses to list some of it; the error has the rest.
    """
    found: list[Thing] = []
    faults: list[UserError] = []
    for find in (_schedules, _jobs, _endpoints, _apps, _releases, _computes):
        try:
            for each in find(spec, at):
                if isinstance(each, UserError):
                    faults.append(each)
                else:
                    found.append(each)
        except UserError as error:
            if not is_unregistered(error):
                faults.append(error)
    if faults:
        raise Unseen(faults, found)
    return found


def take_down(found: Sequence[Thing], unseen: Unseen | None = None) -> None:
    """Remove things one after the other. If one can't be removed, the others still are. What another project uses
    stays.

    Args:
        unseen: the error if Azure did not list everything.

    Raises:
        UserError: some things could not be removed or listed; the error names them.
    """
    left = []
    for thing in found:
        try:
            with azure_errors(f"{thing.kind} {thing.name}"):
                thing.remove()
        except StillUsed as used:
            say(f"  azure: {thing.kind} {thing.name} stays. {used}")
            continue
        except UserError as error:
            left.append(f"{thing.kind} {thing.name} ({error.why or error.what})")
            continue
        say(f"  azure: {thing.kind} {thing.name} is gone")
    if left:
        raise UserError(
            f"These still exist: {'; '.join(left)}.",
            why=f"{unseen.what} {unseen.why}" if unseen else None,
            fix="Type the same command again, or use the portal.",
        ) from unseen
    if unseen:
        raise unseen


def _is_ours(spec: Spec, tags: dict[str, str] | None) -> bool:
    tags = tags or {}
    # infra/ sets our tag too, to the name of azd's environment, which may be the project's.
    return tags.get(TAG) == spec.name and _OF_AZD not in tags


def _schedules(spec: Spec, at: Connection) -> Iterator[Thing]:
    for each in scheduled(at, spec):
        name = each.name

        def remove(name: str = name) -> None:
            wait_for(at.ml.schedules.begin_disable(name), f"the schedule {name} to stop", LONGEST)
            wait_for(at.ml.schedules.begin_delete(name), f"the schedule {name} to be deleted", LONGEST)

        yield Thing("schedule", name, "starts jobs by the calendar", remove)


def _jobs(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the jobs"):
        # The SDK returns None for another tool's job that it can't read.
        listed = [each for each in at.ml.jobs.list() if each is not None]
        running = [each for each in listed if each.status not in OVER and _is_ours(spec, each.tags)]
    for each in running:

        def remove(name: str = each.name) -> None:
            at.ml.jobs.begin_cancel(name)
            wait = Wait()
            while at.ml.jobs.get(name).status not in OVER:
                if wait.look(f"the job {name} to end", _CANCELLING_SECONDS):
                    raise UserError(f"It is still being cancelled after {_CANCELLING_SECONDS / 60:.0f} minutes.")
                time.sleep(_POLL_SECONDS)

        yield Thing("job", each.name, f"{each.status.lower()}: its machines cost money", remove)


def _endpoints(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the endpoints"):
        endpoints = [each for each in at.ml.online_endpoints.list() if _is_ours(spec, each.tags)]
    for each in endpoints:

        def remove(name: str = each.name) -> None:
            wait_for(at.ml.online_endpoints.begin_delete(name), f"the endpoint {name} to be deleted", _LONGEST)

        yield Thing("endpoint", each.name, "its machines cost money day and night", remove)


def _apps(spec: Spec, at: Connection) -> Iterator[Thing]:
    group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}"
    with azure_errors("the container apps"):
        listed = at.ask("GET", f"{group}/providers/Microsoft.App/containerApps", APPS).get("value", [])
    for each in listed:
        if _is_ours(spec, each.get("tags")):

            def remove(path: str = each["id"]) -> None:
                at.ask("DELETE", path, APPS)

            yield Thing("container app", each["name"], "costs money while it gets requests", remove)


def _releases(spec: Spec, at: Connection) -> Iterator[Thing | UserError]:
    """The project's release in every cluster of the resource group, and the error of each cluster that can't be
    reached."""
    name = release_name(spec)
    for cluster in clusters(at):
        try:
            # Two projects' names may be shortened to the same one, so the release's images show whose it is.
            if not cluster.has(name) or owner_of(cluster.values(name), spec) != spec.name:
                continue
        except UserError as error:
            yield error
            continue

        def remove(cluster: Cluster = cluster) -> None:
            cluster.uninstall(name)

        yield Thing("Helm release", name, f"its pods take machines of {cluster.name}", remove)


def _computes(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the clusters"):
        computes = [each for each in at.ml.compute.list() if _is_ours(spec, each.tags)]
    # Once for all clusters, when the first is removed: Azure lists a workspace's whole history of jobs.
    users_of = cache(lambda: _others(spec, at))
    for each in computes:
        is_instance = each.type == "computeinstance"
        cost = "costs money until it is stopped" if is_instance else "no machine while it is idle"

        def remove(name: str = each.name) -> None:
            # Clusters are named by their machines, so any project of the workspace runs jobs on one that exists.
            if users := users_of().get(name):
                raise StillUsed(f"It is used by {', '.join(users)}.")
            wait_for(at.ml.compute.begin_delete(name), f"{name} to be deleted", _LONGEST)

        yield Thing("compute instance" if is_instance else "cluster", each.name, cost, remove)


def _others(spec: Spec, at: Connection) -> dict[str, list[str]]:
    """The jobs and schedules of others than this project, for people, by the computes that they need. A scheduled job
    makes no cluster, so it would fail without its own."""
    with azure_errors("the jobs"):
        jobs = [each for each in at.ml.jobs.list() if each is not None and each.status not in OVER]
    with azure_errors("the schedules"):
        schedules = [each for each in at.ml.schedules.list() if each.is_enabled]
    found = [("job", each, each) for each in jobs]
    found += [("schedule", each, getattr(each, "create_job", None)) for each in schedules]
    users: dict[str, list[str]] = {}
    for kind, each, job in found:
        for compute in set() if _is_ours(spec, each.tags) else computes_of(job):
            users.setdefault(compute, []).append(f"the {kind} {each.name} of {_owner(each.tags)}")
    return users


def _owner(tags: dict[str, str] | None) -> str:
    """The project that made something, by its tags, for people."""
    project = (tags or {}).get(TAG)
    return f"the project {project}" if project else "somebody else"


def computes_of(job: Any) -> set[str]:
    """The names of the computes that a job, as the SDK reads it, runs on: its own, and those of a pipeline's parts."""
    parts = getattr(job, "jobs", None) or {}
    addresses = [getattr(each, "compute", None) for each in (job, *parts.values())]
    addresses.append(getattr(getattr(job, "settings", None), "default_compute", None))
    return {re.split("[/:]", str(each))[-1] for each in addresses if each}

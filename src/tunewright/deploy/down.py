"""What Tunewright made in Azure for a project, and taking it away: what carries its tag, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.follow import OVER
from tunewright.backends.azure.refusals import azure_errors, is_unregistered
from tunewright.backends.azure.schedule import LONGEST, scheduled
from tunewright.backends.azure.waiting import Wait, wait_for
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.deploy.apps import VERSION as APPS
from tunewright.deploy.cluster import Cluster, clusters
from tunewright.deploy.kubernetes import owner_of, release_name

_LONGEST = 1800.0
"""Seconds that Azure may take to take something away."""
_CANCELLING_SECONDS = 300.0
"""For a job to end: its step may write what it goes on from."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Thing:
    """Something in Azure that carries a project's tag."""

    kind: str
    name: str
    said: str
    """What it costs, or may cost."""
    remove: Callable[[], object] = field(repr=False, compare=False)


class Unseen(UserError):
    """Not everything could be looked at, so more may stand than was found.

    Args:
        faults: why, for each kind that could not be looked at.
        found: what was found all the same.
    """

    def __init__(self, faults: Sequence[UserError], found: list[Thing]):
        self.found = found
        super().__init__(
            "Not everything could be looked at, so more may stand.",
            why=" ".join(" ".join(filter(None, (each.what, each.why))) for each in faults),
            fix=" ".join(dict.fromkeys(each.fix for each in faults if each.fix)),
        )


def things(spec: Spec, at: Connection) -> list[Thing]:
    """Everything of a project that costs money or may come to, in the order in which it is taken away.

    Data, models and environments are not among them: they cost next to nothing, and what they hold can't be had back.

    Raises:
        Unseen: Azure refuses to list some of it; the rest is found all the same.
    """
    found: list[Thing] = []
    faults: list[UserError] = []
    for kind in (_schedules, _jobs, _endpoints, _apps, _releases, _computes):
        try:
            for each in kind(spec, at):
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
    """Take things away, one after the other; what can't be taken away does not keep the others.

    Args:
        unseen: that not everything could be looked at when they were found.

    Raises:
        UserError: some could not be taken away, or be looked at; they are named.
    """
    left = []
    for thing in found:
        try:
            with azure_errors(f"{thing.kind} {thing.name}"):
                thing.remove()
        except UserError as error:
            left.append(f"{thing.kind} {thing.name} ({error.why or error.what})")
            continue
        say(f"  azure: {thing.kind} {thing.name} is gone")
    if left:
        raise UserError(
            f"These still stand: {'; '.join(left)}.",
            why=f"{unseen.what} {unseen.why}" if unseen else None,
            fix="Type the same command again, or use the portal.",
        ) from unseen
    if unseen:
        raise unseen


def _is_ours(spec: Spec, tags: dict[str, str] | None) -> bool:
    return (tags or {}).get(TAG) == spec.name


def _schedules(spec: Spec, at: Connection) -> Iterator[Thing]:
    for each in scheduled(at, spec):
        name = each.name

        def remove(name: str = name) -> None:
            wait_for(at.ml.schedules.begin_disable(name), f"the schedule {name} to stop", LONGEST)
            wait_for(at.ml.schedules.begin_delete(name), f"the schedule {name} to go", LONGEST)

        yield Thing("schedule", name, "starts jobs by the calendar", remove)


def _jobs(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the jobs"):
        # In place of a job that it can't read, of another tool's, the SDK gives None.
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

        yield Thing("job", each.name, f"{each.status.lower()}: its machines cost", remove)


def _endpoints(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the endpoints"):
        found = [each for each in at.ml.online_endpoints.list() if _is_ours(spec, each.tags)]
    for each in found:

        def remove(name: str = each.name) -> None:
            wait_for(at.ml.online_endpoints.begin_delete(name), f"the endpoint {name} to go", _LONGEST)

        yield Thing("endpoint", each.name, "its machines cost day and night", remove)


def _apps(spec: Spec, at: Connection) -> Iterator[Thing]:
    group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}"
    with azure_errors("the container apps"):
        listed = at.ask("GET", f"{group}/providers/Microsoft.App/containerApps", APPS).get("value", [])
    for each in listed:
        if _is_ours(spec, each.get("tags")):

            def remove(path: str = each["id"]) -> None:
                at.ask("DELETE", path, APPS)

            yield Thing("container app", each["name"], "costs while somebody asks", remove)


def _releases(spec: Spec, at: Connection) -> Iterator[Thing | UserError]:
    """Those in every cluster of the resource group; of a cluster that can't be looked into, why."""
    name = release_name(spec)
    for cluster in clusters(at):
        try:
            # Two projects' names may be cut to the same one, so the release says by its images whose it is.
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
        found = [each for each in at.ml.compute.list() if _is_ours(spec, each.tags)]
    for each in found:
        is_instance = each.type == "computeinstance"
        said = "costs while it is not stopped" if is_instance else "no machine while it is idle"

        def remove(name: str = each.name) -> None:
            wait_for(at.ml.compute.begin_delete(name), f"{name} to go", _LONGEST)

        yield Thing("compute instance" if is_instance else "cluster", each.name, said, remove)

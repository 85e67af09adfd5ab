"""What Tunewright made in Azure for a project, and taking it away: what carries its tag, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tunewright.errors import UserError
from tunewright.places.azure.connection import Connection, azure_errors
from tunewright.places.azure.deploy.apps import VERSION as APPS
from tunewright.places.azure.deploy.cluster import Cluster
from tunewright.places.azure.deploy.kubernetes import owner_of, release_name
from tunewright.places.azure.follow import OVER
from tunewright.places.azure.place import TAG
from tunewright.places.azure.schedule import scheduled
from tunewright.progress import say
from tunewright.spec import Spec


@dataclass(frozen=True)
class Thing:
    """Something in Azure that carries a project's tag."""

    kind: str
    name: str
    said: str
    """What it costs, or may cost."""
    remove: Callable[[], object] = field(repr=False, compare=False)


def things(spec: Spec, at: Connection) -> list[Thing]:
    """Everything of a project that costs money or may come to, in the order in which it is taken away.

    Data, models and environments are not among them: they cost next to nothing, and what they hold can't be had back.

    Raises:
        UserError: Azure refuses.
    """
    served = (*_endpoints(spec, at), *_apps(spec, at), *_releases(spec, at))
    return [*_schedules(spec, at), *_jobs(spec, at), *served, *_computes(spec, at)]


def take_down(found: list[Thing]) -> None:
    """Take things away, one after the other; what can't be taken away does not keep the others.

    Raises:
        UserError: some could not be taken away; they are named.
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
        raise UserError(f"These still stand: {'; '.join(left)}.", fix="Type the same command again, or use the portal.")


def _is_ours(spec: Spec, tags: dict[str, str] | None) -> bool:
    return (tags or {}).get(TAG) == spec.name


def _schedules(spec: Spec, at: Connection) -> Iterator[Thing]:
    for each in scheduled(at, spec):
        name = each.name

        def remove(name: str = name) -> None:
            at.ml.schedules.begin_disable(name).result()
            at.ml.schedules.begin_delete(name).result()

        yield Thing("schedule", name, "starts jobs by the calendar", remove)


def _jobs(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the jobs"):
        running = [each for each in at.ml.jobs.list() if each.status not in OVER and _is_ours(spec, each.tags)]
    for each in running:

        def remove(name: str = each.name) -> None:
            at.ml.jobs.begin_cancel(name)

        yield Thing("job", each.name, f"{each.status.lower()}: its machines cost", remove)


def _endpoints(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the endpoints"):
        found = [each for each in at.ml.online_endpoints.list() if _is_ours(spec, each.tags)]
    for each in found:

        def remove(name: str = each.name) -> None:
            at.ml.online_endpoints.begin_delete(name).result()

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


def _releases(spec: Spec, at: Connection) -> Iterator[Thing]:
    cluster = Cluster(at)
    name = release_name(spec)
    # Two projects' names may be cut to the same one, so the release says by its images whose it is.
    if not cluster.is_known or not cluster.has(name) or owner_of(cluster.values(name)) != spec.name:
        return

    def remove() -> None:
        cluster.uninstall(name)

    yield Thing("Helm release", name, f"its pods take machines of {cluster.name}", remove)


def _computes(spec: Spec, at: Connection) -> Iterator[Thing]:
    with azure_errors("the clusters"):
        found = [each for each in at.ml.compute.list() if _is_ours(spec, each.tags)]
    for each in found:
        is_instance = each.type == "computeinstance"
        said = "costs while it is not stopped" if is_instance else "no machine while it is idle"

        def remove(name: str = each.name) -> None:
            at.ml.compute.begin_delete(name).result()

        yield Thing("compute instance" if is_instance else "cluster", each.name, said, remove)

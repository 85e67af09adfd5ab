"""Run the review app, and collect new captures in the background."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from tunewright.auth.keys import KeyRing
from tunewright.config import Spec
from tunewright.config.sections import ClassifySpec
from tunewright.core.errors import UserError
from tunewright.core.processes import listener
from tunewright.core.progress import say
from tunewright.monitoring.store import Store, open_store
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.tables import label_queue_of
from tunewright.review.acts import count_anew
from tunewright.review.answers import AnswerForm
from tunewright.review.app import build_app
from tunewright.review.people import KeyHolders, OneTimeLink, Person
from tunewright.review.provider import SignInProvider
from tunewright.review.site import Site
from tunewright.tasks import task_of

COLLECT_SECONDS = 60.0


@dataclass(frozen=True)
class ReviewAccess:
    """The people who may use the review app."""

    name: str
    """The person whom the printed link signs in, if there are neither keys nor a provider."""
    keys: Path | None = None
    admins: Sequence[str] = ()
    readers: Sequence[str] = ()
    """The names of keys whose owners may only read."""
    identity: Path | None = None
    proxies: Sequence[str] = ()
    """Addresses or networks of proxies whose forwarded headers are trusted."""

    def __post_init__(self) -> None:
        for proxy in self.proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError:
                raise UserError(
                    f"'{proxy}' is not the address of a proxy.",
                    fix="Give the address that it connects from: --proxy 127.0.0.1",
                ) from None

    @property
    def is_shared(self) -> bool:
        """Whether more than one person can sign in."""
        return self.keys is not None or self.identity is not None


def site_of(spec: Spec, store: Store, access: ReviewAccess, wanted: int, *, labels: bool = False) -> Site:
    """A project's review app.

    Args:
        labels: for the requests that `tunewright label` asks people about.

    Raises:
        UserError: the key file or the provider's file can't be read or names nobody.
    """
    means = spec.task.labels if isinstance(spec.task, ClassifySpec) else {}
    return Site(
        store,
        label_queue_of(spec.name) if labels else spec.name,
        AnswerForm(task_of(spec.task), means),
        wanted,
        labels=labels,
        link=None if access.is_shared else OneTimeLink(Person(access.name, "admin")),
        keys=KeyHolders(KeyRing(access.keys), access.admins, access.readers) if access.keys else None,
        provider=SignInProvider(access.identity) if access.identity else None,
    )


def serve(spec: Spec, host: str, port: int, access: ReviewAccess, wanted: int, *, labels: bool = False) -> None:
    """Serve the review app until interrupted.

    Args:
        port: 0 takes any free port.
        wanted: how many people review each capture.
        labels: as of `site_of`.

    Raises:
        UserError: other people could get in without a key, the port is taken, or the store can't be opened.
    """
    from tunewright.serving.connections import HttpServer

    if not access.is_shared and not _is_local(host):
        raise UserError(f"Other people can reach {host}.", fix="Name the reviewers: --keys FILE or --identity FILE.")
    store = open_store(spec)
    site = site_of(spec, store, access, wanted, labels=labels)
    bound = listener(host, port)
    bound.listen()
    stop = Event()
    collect(spec, store)
    with store.session() as session:  # an earlier review may have wanted another number of people
        count_anew(session, site.model, wanted)
    Thread(target=_keep_collecting, args=(spec, store, stop), daemon=True).start()
    address = f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"
    say(f"Review {spec.name} at {address}" + (f"/sign-in/link?secret={site.link.secret}" if site.link else ""))
    try:
        HttpServer(build_app(site), access.proxies).run(sockets=[bound])
    finally:
        stop.set()
        store.close()


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keep_collecting(spec: Spec, store: Store, stop: Event) -> None:
    while not stop.wait(COLLECT_SECONDS):
        try:
            collect(spec, store)
        except UserError as error:  # the database does not answer; the pages show this, too
            say(error.paragraph())

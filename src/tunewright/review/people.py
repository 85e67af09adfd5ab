"""Who reviews: people, what they may do, and the sessions of those who are signed in.

A session lies in the server's memory under 256 random bits, which the browser keeps in a cookie: there is nothing to
forge, and whoever loses the right to be here is out at his next click. Times are of a clock that nobody sets.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Literal

from tunewright.auth.keys import Allowances, KeyRing, Principal
from tunewright.core.limits import SIGN_IN_TRIES
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Account

Role = Literal["reader", "reviewer", "admin"]
"""A reader looks; a reviewer reviews and takes back what is his own; an admin takes back what others said, too."""
IDLE_SECONDS = 12 * 3600.0
"""After which who does nothing is signed out."""
MOST_SESSIONS = 1000


@dataclass(frozen=True)
class Person:
    name: str
    role: Role
    account: str | None = None
    """What stands for the account that he has signed in with at a provider, where he may change his name; None: he is
    known by his name, which an operator has given him."""

    @property
    def reviewer(self) -> str:
        """What his reviews stand under."""
        return self.account or self.name

    @property
    def formerly(self) -> str | None:
        """What reviews stand under that may be his from before accounts were told apart; None: none do."""
        return self.name if self.account else None

    @property
    def may_review(self) -> bool:
        return self.role != "reader"


@dataclass
class Session:
    """Somebody who is signed in."""

    person: Person
    stands: Callable[[], bool]
    """Whether he still may be."""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """What his forms carry, and another site's don't."""
    said: str = ""
    """To be told on his next page."""
    seen: float = field(default_factory=time.monotonic)

    def take_said(self) -> str:
        said, self.said = self.said, ""
        return said


class Sessions:
    """Those of a server."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Session] = OrderedDict()
        """The longest silent first."""
        self._turn = Lock()

    def begin(self, person: Person, stands: Callable[[], bool] = lambda: True) -> str:
        """Sign somebody in. Returns the session's id, which only his browser is to know."""
        identity = secrets.token_urlsafe(32)
        with self._turn:
            self._by_id[identity] = Session(person, stands)
            while len(self._by_id) > MOST_SESSIONS:
                self._by_id.popitem(last=False)
        return identity

    def find(self, identity: str) -> Session | None:
        """A session that has not ended."""
        with self._turn:
            session = self._by_id.get(identity)
            if session is None:
                return None
            if time.monotonic() - session.seen > IDLE_SECONDS or not session.stands():
                del self._by_id[identity]
                return None
            session.seen = time.monotonic()
            self._by_id.move_to_end(identity)
            return session

    def end(self, identity: str) -> None:
        with self._turn:
            self._by_id.pop(identity, None)


class OneTimeLink:
    """A secret that signs one person in once.

    Args:
        person: whom.
    """

    def __init__(self, person: Person):
        self.secret = secrets.token_urlsafe(32)
        self._person: Person | None = person
        self._turn = Lock()

    def take(self, secret: str) -> Person | None:
        with self._turn:
            if not hmac.compare_digest(secret.encode(), self.secret.encode()):
                return None
            person, self._person = self._person, None
            return person


@dataclass(frozen=True)
class KeyHolders:
    """People with a key of a key file.

    Args:
        ring: the keys; a key's name is the person's.
        admins: names of those who may take back what others said.
        readers: names of those who only look.
    """

    ring: KeyRing
    admins: Collection[str] = ()
    readers: Collection[str] = ()

    def find(self, key: str) -> Person | None:
        principal = self.ring.find(key)
        if principal is None:
            return None
        role: Role = (
            "admin" if principal.name in self.admins else "reader" if principal.name in self.readers else "reviewer"
        )
        return Person(principal.name, role)


class Attempts:
    """How often somebody may still try to sign in."""

    def __init__(self) -> None:
        self._allowances = Allowances()
        self._turn = Lock()

    def wait(self, address: str) -> float:
        """Count a try. Returns 0, or the seconds until another is let through."""
        with self._turn:
            return self._allowances.wait(Principal(address, SIGN_IN_TRIES, None))


class Desks:
    """Who looks at which capture now, so that two people are not shown the same one."""

    SECONDS = 180.0
    """After which somebody who has looked is taken to have gone."""

    def __init__(self) -> None:
        self._by_person: dict[str, tuple[str, float]] = {}
        self._turn = Lock()

    def take(self, person: str, capture_id: str) -> None:
        with self._turn:
            self._by_person[person] = capture_id, time.monotonic() + self.SECONDS

    def of_others(self, person: str) -> list[str]:
        """What other people look at."""
        now = time.monotonic()
        with self._turn:
            self._by_person = {name: taken for name, taken in self._by_person.items() if taken[1] > now}
            return [capture_id for name, (capture_id, _) in self._by_person.items() if name != person]


_SHOWN = 12
"""Letters of an account's digest that stand behind a name."""


@dataclass(frozen=True)
class Claimed:
    """Who has signed in, as a provider says."""

    issuer: str
    subject: str
    """Whose account it is, which stays; the issuer has no two alike."""
    name: str
    """What its owner is called, which he may be able to change."""
    role: Role


def printable(text: str) -> str:
    """What of a text can be seen: databases don't keep all else, and some of it makes one name look like another."""
    return "".join(letter for letter in text if letter.isprintable())


def person_of(store: Store, claimed: Claimed) -> Person:
    """Whom an account belongs to. It is noted when it is first seen, and so is another name of its owner.

    Raises:
        UserError: the database does not answer.
    """
    digest = hashlib.sha256(json.dumps([claimed.issuer, claimed.subject]).encode()).hexdigest()
    noted = {
        "id": digest,
        "issuer": claimed.issuer,
        "subject": printable(claimed.subject),
        "name": claimed.name,
        "reviewer": f"{claimed.name} ({digest[:_SHOWN]})",
        "time": datetime.now(UTC),
    }
    with store.session() as session:
        # Two browsers may sign in at once.
        session.execute(store.insert(Account).values(noted).on_conflict_do_nothing())
        account = session.get_one(Account, digest, with_for_update=True)
        account.name = claimed.name
        return Person(claimed.name, claimed.role, account.reviewer)

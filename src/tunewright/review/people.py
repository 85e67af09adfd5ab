"""The people who review, their roles, and the sessions of those who are signed in.

The server keeps a session in memory under 256 random bits, which the browser keeps in a cookie. There is nothing to
forge. People whose key is removed are signed out at their next click. The app does not hear of roles that a provider
takes away, so people who signed in there do so again after `PROVIDER_SECONDS`. Times come from a monotonic clock.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
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
"""A reader only reads; a reviewer reviews and undoes their own reviews; an admin also undoes those of others."""
IDLE_SECONDS = 12 * 3600.0
"""Seconds without activity after which a person is signed out."""
PROVIDER_SECONDS = 8 * 3600.0
"""Seconds after which a person must sign in at the provider again, however active they are: a working day."""
MOST_SESSIONS = 1000


@dataclass(frozen=True)
class Person:
    """A person who is signed in, or may sign in."""

    name: str
    role: Role
    account: str | None = None
    """The reviewer name of their account at a provider, where they may change their name; None: an operator has given
    them their name."""

    @property
    def reviewer(self) -> str:
        """The name under which their reviews are stored."""
        return self.account or self.name

    @property
    def formerly(self) -> str | None:
        """The name under which reviews from before accounts are stored, which may be theirs; None: there are none."""
        return self.name if self.account else None

    @property
    def may_review(self) -> bool:
        """Whether their role allows reviews."""
        return self.role != "reader"


@dataclass
class Session:
    """The session of a person who is signed in."""

    person: Person
    is_valid: Callable[[], bool]
    """Whether the person may still be signed in."""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """The token in this person's forms, which another site does not know."""
    message: str = ""
    """The message for their next page."""
    ends: float = math.inf
    """The time at which it ends, however active the person is."""
    seen: float = field(default_factory=time.monotonic)

    def take_message(self) -> str:
        """The message, which is then cleared."""
        message, self.message = self.message, ""
        return message


class Sessions:
    """The sessions of a server."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[str, Session] = OrderedDict()
        """The longest inactive session first."""
        self._turn = Lock()

    def begin(self, person: Person, is_valid: Callable[[], bool] = lambda: True, *, longest: float = math.inf) -> str:
        """Sign a person in. Returns the session's id, which only their browser may know.

        Args:
            longest: seconds after which the session ends, however active the person is.
        """
        identity = secrets.token_urlsafe(32)
        with self._turn:
            self._by_id[identity] = Session(person, is_valid, ends=time.monotonic() + longest)
            while len(self._by_id) > MOST_SESSIONS:
                self._by_id.popitem(last=False)
        return identity

    def find(self, identity: str) -> Session | None:
        """A session that is still valid."""
        with self._turn:
            session = self._by_id.get(identity)
            if session is None:
                return None
            now = time.monotonic()
            if now >= session.ends or now - session.seen > IDLE_SECONDS or not session.is_valid():
                del self._by_id[identity]
                return None
            session.seen = now
            self._by_id.move_to_end(identity)
            return session

    def end(self, identity: str) -> None:
        """Sign a person out."""
        with self._turn:
            self._by_id.pop(identity, None)


class OneTimeLink:
    """A secret that signs one person in once."""

    def __init__(self, person: Person):
        self.secret = secrets.token_urlsafe(32)
        self._person: Person | None = person
        self._turn = Lock()

    def take(self, secret: str) -> Person | None:
        """The person, if this is the secret and it was not used before."""
        with self._turn:
            if not hmac.compare_digest(secret.encode(), self.secret.encode()):
                return None
            person, self._person = self._person, None
            return person


@dataclass(frozen=True)
class KeyHolders:
    """The people with a key in a key file.

    Args:
        ring: the keys; a key's name is the person's name.
        admins: the names of people who may undo others' reviews.
        readers: the names of people who may only read.
    """

    ring: KeyRing
    admins: Collection[str] = ()
    readers: Collection[str] = ()

    def find(self, key: str) -> Person | None:
        """The person with this key."""
        principal = self.ring.find(key)
        if principal is None:
            return None
        role: Role = (
            "admin" if principal.name in self.admins else "reader" if principal.name in self.readers else "reviewer"
        )
        return Person(principal.name, role)


class Attempts:
    """Limits the sign-in tries of each address."""

    def __init__(self) -> None:
        self._allowances = Allowances()
        self._turn = Lock()

    def wait(self, address: str) -> float:
        """Count a try. Returns 0, or the seconds until the next try is allowed."""
        with self._turn:
            return self._allowances.wait(Principal(address, SIGN_IN_TRIES, None))


class Desks:
    """Remembers who looks at which capture, so that two people do not get the same one."""

    SECONDS = 180.0
    """Seconds after which a person no longer counts as looking."""

    def __init__(self) -> None:
        self._by_person: dict[str, tuple[str, float]] = {}
        self._turn = Lock()

    def take(self, person: str, capture_id: str) -> None:
        """Note that a person looks at a capture."""
        with self._turn:
            self._by_person[person] = capture_id, time.monotonic() + self.SECONDS

    def of_others(self, person: str) -> list[str]:
        """The captures that other people look at."""
        now = time.monotonic()
        with self._turn:
            self._by_person = {name: taken for name, taken in self._by_person.items() if taken[1] > now}
            return [capture_id for name, (capture_id, _) in self._by_person.items() if name != person]


_SHOWN = 12
"""Letters of an account's digest behind a reviewer's name."""


@dataclass(frozen=True)
class Claimed:
    """The identity of a person who signed in, according to the provider."""

    issuer: str
    subject: str
    """The permanent id of the account, unique within the issuer."""
    name: str
    """The owner's name, which they may be able to change."""
    role: Role


def printable(text: str) -> str:
    """A text without invisible characters, which databases may drop and which can make one name look like another."""
    return "".join(letter for letter in text if letter.isprintable())


def person_of(store: Store, claimed: Claimed) -> Person:
    """The person behind an account. A new account, or a new name of its owner, is stored.

    Raises:
        UserError: the database does not answer.
    """
    digest = hashlib.sha256(json.dumps([claimed.issuer, claimed.subject]).encode()).hexdigest()
    row = {
        "id": digest,
        "issuer": claimed.issuer,
        "subject": printable(claimed.subject),
        "name": claimed.name,
        "reviewer": f"{claimed.name} ({digest[:_SHOWN]})",
        "time": datetime.now(UTC),
    }
    with store.session() as session:
        # Two browsers may sign in at once.
        session.execute(store.insert(Account).values(row).on_conflict_do_nothing())
        account = session.get_one(Account, digest, with_for_update=True)
        account.name = claimed.name
        return Person(claimed.name, claimed.role, account.reviewer)

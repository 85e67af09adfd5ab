"""Who signed in with which account at a provider. Reviews stand under an account: its owner may change his name, and
take that of somebody else.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Account
from tunewright.review.people import Person
from tunewright.review.provider import Claimed, printable

_SHOWN = 12
"""Letters of an account's digest that stand behind a name."""


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

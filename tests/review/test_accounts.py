"""Whose account is whose, in both databases."""

from __future__ import annotations

import threading

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, insert, select

from tests.monitoring.captures import NOON
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import NAME, Account, Review
from tunewright.review.people import Claimed, Person, person_of, printable
from tunewright.review.provider import MOST_NAME


def claimed(subject: str = "s1", name: str = "ann", issuer: str = "https://one.example") -> Claimed:
    return Claimed(issuer, subject, name, "reviewer")


def test_an_account_is_its_issuer_and_subject_whatever_its_name(store: Store) -> None:
    ann = person_of(store, claimed())
    assert ann.reviewer.startswith("ann (")
    assert person_of(store, claimed()) == ann
    renamed = person_of(store, claimed(name="bob"))
    assert (renamed.name, renamed.reviewer, renamed.formerly) == ("bob", ann.reviewer, "bob")
    others = [claimed("s2"), claimed(issuer="https://two.example"), claimed("1", issuer="https://one.examples")]
    assert len({ann.reviewer, *(person_of(store, each).reviewer for each in others)}) == 4
    with store.session() as session:
        noted = session.scalars(select(Account).where(Account.reviewer == ann.reviewer)).one()
    assert (noted.issuer, noted.subject, noted.name) == ("https://one.example", "s1", "bob")


def test_who_has_a_key_is_known_by_its_name() -> None:
    ann = Person("ann", "reviewer")
    assert (ann.reviewer, ann.formerly) == ("ann", None)


def test_a_name_that_no_database_keeps_is_cut_to_what_can_be_seen(store: Store) -> None:
    assert printable("a\0n\u202en\ud800 \u00e4\n") == "ann ä"
    person = person_of(store, claimed("s\0\ud800", printable("ä" * MOST_NAME)))
    assert len(person.reviewer) <= NAME
    assert person_of(store, claimed("s")).reviewer != person.reviewer


def test_of_many_who_sign_in_at_once_with_an_account_all_are_the_same(store: Store) -> None:
    ready, found = threading.Barrier(6), list[Person]()

    def sign_in() -> None:
        ready.wait()
        found.append(person_of(store, claimed()))

    threads = [threading.Thread(target=sign_in) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_store_from_before_there_were_accounts_is_brought_up_to_date(address: str) -> None:
    engine = create_engine(address.replace("postgresql", "postgresql+psycopg", 1))
    config = Config()
    config.set_main_option("script_location", "tunewright.monitoring.store:migrations")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            insert(Review).values(
                capture_id="1",
                reviewer="ann@example.com",
                time=NOON,
                source="review",
                act="a",
                answer="x",
                right=True,
                comment="",
            )
        )
        connection.commit()
    engine.dispose()
    store = open_at(address)
    person_of(store, claimed())
    with store.session() as session:
        assert session.scalars(select(Review.reviewer)).all() == ["ann@example.com"]
    store.close()

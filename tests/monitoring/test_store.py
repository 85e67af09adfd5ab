from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.monitoring.store import Store, open_store
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Alarm, Base


def test_the_migrations_make_what_the_code_expects(store: Store) -> None:
    with store.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_time_comes_back_as_the_point_it_was_wherever_it_was_said(store: Store) -> None:
    when = datetime(2026, 11, 27, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    with store.session() as session:
        session.add(Alarm(time=when, model="tickets", version="v", kind="length", detail={"p": 0.001}))
    with store.session() as session:
        found = session.scalars(select(Alarm)).one()
    assert found.time == when
    assert found.time.tzinfo == UTC
    assert found.detail == {"p": 0.001}


def test_what_fails_leaves_nothing_half_done(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.session() as session:
        session.add(Alarm(time=datetime.now(UTC), model="m", version="v", kind="length", detail={}))
        session.flush()
        raise ZeroDivisionError
    with store.session() as session:
        assert session.scalars(select(Alarm)).all() == []


def test_a_store_is_opened_again_with_what_it_holds(address: str) -> None:
    for _ in range(2):
        store = open_at(address)
        with store.session() as session:
            session.add(Alarm(time=datetime.now(UTC), model="m", version="v", kind="length", detail={}))
        store.close()
    with open_at(address).session() as session:
        assert len(session.scalars(select(Alarm)).all()) == 2


def test_a_password_in_a_wrong_address_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONITOR_URL", "postgresql//user:secret@host/name")
    with pytest.raises(UserError) as refused:
        open_store(make_spec(monitor={"database": "MONITOR_URL"}))
    assert "secret" not in str(refused.value)


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(UserError, match="MONITOR_URL_NOT_SET"):
        open_store(make_spec(monitor={"database": "MONITOR_URL_NOT_SET"}))

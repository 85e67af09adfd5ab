"""Models that are loaded at their first request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.linear import linear_bundle
from tunewright.core.call import CALL, Abandoned, Call
from tunewright.serving.adapters import AdapterStore, add_adapter
from tunewright.serving.hosts import ManyModels


@pytest.fixture
def left() -> Iterator[None]:
    """The request of a client that has disconnected."""
    call = Call(60)
    call.gone.set()
    token = CALL.set(call)
    yield
    CALL.reset(token)


@pytest.mark.usefixtures("left")
def test_a_model_is_loaded_for_those_that_wait_though_the_first_client_has_left(tmp_path: Path) -> None:
    add_adapter(tmp_path / "store", linear_bundle(tmp_path / "bundle"), "tickets")
    engine = ManyModels(AdapterStore(tmp_path / "store")).engine("tickets")
    with pytest.raises(Abandoned):
        engine.answer("my parcel")
    CALL.set(None)
    assert engine.answer("my parcel").text

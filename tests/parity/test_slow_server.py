"""A model that takes too long for an answer is one paragraph, and not a traceback after hours of training."""

from __future__ import annotations

import httpx
import pytest

from tests.evaluation.test_records import TASK
from tunewright.core.errors import UserError
from tunewright.parity.served import ServedModel


def gives_up(_: httpx.Request) -> httpx.Response:
    return httpx.Response(504, json={"error": {"message": "The answer took too long."}})


def says_nothing(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("timed out", request=request)


@pytest.mark.parametrize("server", [gives_up, says_nothing])
def test_an_answer_that_takes_too_long_names_the_request(server: object) -> None:
    client = httpx.Client(base_url="http://server", transport=httpx.MockTransport(server))
    with client, pytest.raises(UserError, match="more than 120 s for one answer") as told:
        ServedModel(client, "m", TASK).answer("Invoice 7 of Acme")
    assert told.value.where == "Invoice 7 of Acme"

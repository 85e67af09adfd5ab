"""The list of genai-prices in its real form, played by a real HTTP server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.economics.local_server import running, url
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.economics.lifetimes import today
from tunewright.economics.prices import PriceBook
from tunewright.economics.snapshot import api_prices, published, refreshed_book

DAY = date(2026, 11, 27)
FORM = Path(__file__).parent / "genai_prices.json"
"""Five models of genai-prices 0.2.3 in the form that its own reader takes (version 2 of its list)."""


class Server(ThreadingHTTPServer):
    status: int
    body: bytes


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        machine = {
            "armSkuName": "Standard_D2s_v5",
            "retailPrice": 0.111,
            "productName": "",
            "skuName": "",
            "meterName": "",
            "unitOfMeasure": "1 Hour",
        }
        body = json.dumps({"Items": [machine]}).encode() if "filter=" in self.path else self.server.body
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def listed() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.status, server.body = 200, FORM.read_bytes()
    with running(server):
        yield server


def entries(day: date = DAY) -> dict[str, Any]:
    return api_prices(json.loads(FORM.read_text("utf-8")), day)[0]


def test_prices_are_those_of_short_prompts_with_what_batch_and_fast_cost() -> None:
    assert entries()["gpt-6-luna"] == {
        "provider": "openai",
        "usd_in": 0.1,
        "usd_cached": 0.01,
        "usd_cache_write": 0.125,
        "usd_out": 0.5,
        "batch": 0.5,
        "fast": 2.0,
    }
    assert entries()["gpt-4o"] == {
        "provider": "openai",
        "usd_in": 2.5,
        "usd_cached": 1.25,
        "usd_out": 10.0,
        "batch": 0.5,
        "fast": 1.7,
    }
    assert entries()["claude-opus-5-5"]["fast"] == 2


def test_a_price_holds_from_its_day_on() -> None:
    before, after = entries(date(2026, 12, 31))["gemini-3.8-flash"], entries(date(2027, 1, 1))["gemini-3.8-flash"]
    assert (before["usd_in"], after["usd_in"]) == (0.75, 1.5)
    assert before["batch"] == after["batch"] == 0.5


def test_the_built_in_snapshot_is_what_that_list_gives() -> None:
    built_in = price_book().apis
    for name, entry in entries().items():
        assert built_in[name].model_dump() | entry == built_in[name].model_dump()


def test_models_missing_from_the_list_are_named() -> None:
    result, missing = api_prices(json.loads(FORM.read_text("utf-8")), DAY)
    assert len(result) == 5
    assert "ministral-3b-2512" in missing


@pytest.mark.parametrize(
    "providers",
    [
        [{"id": "openai"}],
        [1],
        [{"id": "openai", "models": [{"id": "gpt-4o", "prices": {"input_mtok": "dear"}}]}],
        [{"id": "openai", "models": [{"id": "gpt-4o", "prices": [{"constraint": {"start_date": "2099-01-01"}}]}]}],
    ],
)
def test_another_form_is_refused(providers: list[Any]) -> None:
    with pytest.raises(UserError, match=r"another form than expected.*the built-in prices hold"):
        api_prices(providers, DAY)


@pytest.mark.slow
@pytest.mark.parametrize(("status", "body"), [(404, b"[]"), (200, b"<html>"), (200, b'{"a": 1}')])
def test_a_list_that_refuses_is_reported(listed: Server, status: int, body: bytes) -> None:
    listed.status, listed.body = status, body
    with pytest.raises(UserError, match=rf"status {status}, or with something other than prices"):
        published(url(listed))


def test_a_list_that_is_not_there_is_reported() -> None:
    with pytest.raises(UserError, match=r"prices of APIs can't be reached.*ConnectError"):
        published("http://127.0.0.1:1/")


@pytest.mark.slow
def test_a_refresh_has_both_halves_and_lies_over_the_built_in_book(listed: Server, tmp_path: Path) -> None:
    listed.body = listed.body.replace(b'"input_mtok": 2.5', b'"input_mtok": 2.25')
    made, left = refreshed_book(price_book(), "westeurope", url(listed), url(listed))
    assert [sentence.partition(",")[0] for sentence in left] == [
        "In neither list",
        "Not offered in westeurope",
        "Not in genai-prices",
    ]
    assert left[0].endswith(": container-apps-2-4, container-apps-4-8, disks")
    file = tmp_path / "prices.yaml"
    with file.open("w", encoding="utf-8") as stream:
        YAML().dump(made, stream)
    book: PriceBook = price_book(file)
    assert book.machine("Standard_D2s_v5").usd_per_hour == 0.111
    assert book.api("gpt-4o").usd_in == 2.25
    assert book.api("gpt-4o").ends == price_book().api("gpt-4o").ends
    assert book.as_of == book.apis_as_of == today().isoformat()
    assert "Container Apps and disks: 2026-11, Azure Retail Prices API" in book.source
    named = {*made["machines"], *made["apis"], *book.unread}
    assert named == {*price_book().machines, *price_book().apis}

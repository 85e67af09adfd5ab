"""Azure's price list, played by a real HTTP server on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.economics.local_server import running, url
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.economics.retail import refreshed


def row(size: str, price: float, product: str = "Virtual Machines", sku: str = "", unit: str = "1 Hour") -> dict:
    return {
        "armSkuName": size,
        "retailPrice": price,
        "productName": product,
        "skuName": sku,
        "meterName": size,
        "unitOfMeasure": unit,
    }


ROWS = [
    row("Standard_D2s_v5", 0.2, "Virtual Machines DSv5 Series Windows"),
    row("Standard_D2s_v5", 0.02, sku="D2s v5 Spot"),
    row("Standard_D2s_v5", 0.03, sku="D2s v5 Low Priority"),
    row("Standard_D2s_v5", 0.111),
    row("Standard_NC4as_T4_v3", 0.6),
    row("Standard_NC4as_T4_v3", 99, unit="1 Month"),
    row("Standard_D4s_v5", 0.0),
]


class Server(ThreadingHTTPServer):
    asked: list[dict[str, list[str]]]
    refusals: list[tuple[int, dict[str, str]]]
    items: list[dict]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        self.server.asked.append(asked)
        if self.server.refusals:
            status, headers = self.server.refusals.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        skip = int(asked.get("skip", ["0"])[0])
        page = {"Items": self.server.items[skip : skip + 3]}
        if skip + 3 < len(self.server.items):
            page["NextPageLink"] = f"http://127.0.0.1:{self.server.server_port}/?skip={skip + 3}"
        body = json.dumps(page).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def prices() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.asked, server.refusals, server.items = [], [], ROWS
    with running(server):
        yield server


@pytest.mark.slow
def test_only_plain_linux_machines_by_the_hour_count_and_pages_are_followed(prices: Server) -> None:
    made, missing = refreshed(price_book(), "westeurope", url(prices))
    assert made["machines"] == {
        "Standard_D2s_v5": {"usd_per_hour": 0.111},
        "Standard_NC4as_T4_v3": {"usd_per_hour": 0.6},
    }
    assert "Standard_D4s_v5" in missing
    assert "westeurope" in made["source"]
    question = prices.asked[0]["$filter"][0]
    assert "armRegionName eq 'westeurope'" in question
    assert "armSkuName eq 'Standard_D2s_v5'" in question


@pytest.mark.slow
def test_a_busy_list_is_asked_again(prices: Server) -> None:
    prices.refusals = [(429, {"Retry-After": "0"}), (503, {})]
    assert refreshed(price_book(), "eastus", url(prices))[0]["machines"]


@pytest.mark.slow
def test_a_region_without_machines_is_reported(prices: Server) -> None:
    prices.items = []
    with pytest.raises(UserError, match=r"none of these machines in 'atlantis'.*list-locations"):
        refreshed(price_book(), "atlantis", url(prices))


@pytest.mark.slow
def test_a_list_that_refuses_or_is_not_there_is_reported(prices: Server) -> None:
    prices.refusals = [(400, {})]
    with pytest.raises(UserError, match="status 400"):
        refreshed(price_book(), "eastus", url(prices))
    with pytest.raises(UserError, match="can't be reached"):
        refreshed(price_book(), "eastus", "http://127.0.0.1:1/")

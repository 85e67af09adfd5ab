from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import time_machine
from typer.testing import CliRunner

from tunewright.cli.app import command_line
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.economics.lifetimes import SHOWN, beside, lifetime, stale, thinking
from tunewright.economics.prices import ApiPrice, PriceBook
from tunewright.economics.snapshot import MODELS
from tunewright.economics.usage import TokenUsage, name_in_book, usd_by_book

app = command_line()

DAY = date(2026, 11, 27)
AZURE = "https://ours.openai.azure.com/openai/v1"


def laid_over(folder: Path, text: str) -> PriceBook:
    file = folder / "own.yaml"
    file.write_text(text, "utf-8")
    with time_machine.travel("2026-11-27T12:00Z"):
        return price_book(file)


def test_the_snapshot_has_what_it_is_made_of_and_openais_figures_of_luna() -> None:
    book = price_book()
    assert list(book.apis) == [name for names in MODELS.values() for name in names]
    luna = book.api("gpt-6-luna")
    assert (luna.usd_in, luna.usd_cached, luna.usd_cache_write, luna.usd_out) == (0.1, 0.01, 0.125, 0.5)
    assert (luna.batch, luna.fast, luna.efforts[0], luna.efforts[-1]) == (0.5, 2, "none", "max")
    assert "none" not in book.api("gpt-6.1-sol").efforts


def test_cached_tokens_cost_less_and_kept_ones_more() -> None:
    price = ApiPrice(usd_in=1, usd_cached=0.1, usd_cache_write=1.25, usd_out=5)
    assert price.usd(1000, 100, 300, 200) * 1e6 == pytest.approx(500 + 30 + 250 + 500)
    assert price.times(2).usd(1000, 100, 300, 200) == pytest.approx(2 * price.usd(1000, 100, 300, 200))
    assert ApiPrice(usd_in=1, usd_out=5).usd(1000, 100, 300, 200) * 1e6 == pytest.approx(1500)


def test_a_book_of_the_old_keys_still_lies_over(tmp_path: Path) -> None:
    book = laid_over(tmp_path, "as_of: 2026-11-01\napis: {house: {usd_in: 1, usd_cached: 0.5, usd_out: 2}}\nbatch: 0.4")
    assert (book.as_of, book.apis_as_of, book.batch) == ("2026-11-01", "2026-11-01", 0.4)
    assert book.api("house").usd_out == 2
    assert book.api("gpt-4o").ends["openai"] == date(2027, 1, 14)


def test_a_book_of_machines_leaves_the_date_of_the_apis(tmp_path: Path) -> None:
    book = laid_over(tmp_path, 'as_of: "2026-11"\nmachines: {mine: {usd_per_hour: 1, cores: 2}}')
    assert (book.as_of, book.apis_as_of) == ("2026-11", "2026-11-27")


@pytest.mark.parametrize(
    ("text", "machines", "apis"),
    [
        ("apis: {ours: {usd_in: 1, usd_out: 2}}", "2026-11", "2026-11-27"),
        ("apis: {gpt-4o: {usd_in: 1, usd_out: 2}}", "2026-11", "2026-11-27"),
        ("machines: {mine: {usd_per_hour: 1, cores: 2}}", "2026-11", "2026-11-27"),
        ("{machines}", "2027-03-01", "2026-11-27"),
        ("{apis}", "2026-11", "2027-03-01"),
        ("{machines}\n{apis}", "2027-03-01", "2027-03-01"),
        ("{machines}\nunread: {names}", "2027-03-01", "2027-03-01"),
    ],
)
def test_prices_that_a_book_leaves_as_they_are_stay_as_old_as_they_are(
    tmp_path: Path, text: str, machines: str, apis: str
) -> None:
    built_in, file = price_book(), tmp_path / "own.yaml"
    entries = {
        "{machines}": f"machines: {json.dumps({name: {'usd_per_hour': 1} for name in built_in.machines})}",
        "{apis}": f"apis: {json.dumps({name: {'usd_in': 1, 'usd_out': 2} for name in built_in.apis})}",
        "{names}": json.dumps(list(built_in.apis)),
    }
    for key, entry in entries.items():
        text = text.replace(key, entry)
    file.write_text(f"as_of: 2027-03-01\napis_as_of: 2027-03-01\n{text}", "utf-8")
    with time_machine.travel("2027-03-02T12:00Z"):
        book = price_book(file)
    assert (book.as_of, book.apis_as_of) == (machines, apis)
    assert bool(stale(book, date(2027, 3, 2))) == ((machines, apis) != ("2027-03-01", "2027-03-01"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as_of: 2030-01", r"is dated 2030-01, which is in the future: today is 2026-11-27.*Set `as_of` to the day"),
        ("apis_as_of: 2026-11-28", r"is dated 2026-11-28, which is in the future.*`apis_as_of`"),
        ("as_of: autumn", r"as_of: 'autumn' is neither a day, such as 2026-11-27, nor a month"),
        ("apis: {gpt-4o: {ends: {openai: soon}}}", r"apis\.gpt-4o\.ends\.openai"),
    ],
)
def test_a_date_that_can_t_be_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(UserError, match=rf"(?s){expected}"):
        laid_over(tmp_path, text)


def test_this_month_is_not_the_future(tmp_path: Path) -> None:
    assert laid_over(tmp_path, "as_of: 2026-11").age_days(DAY) == 0


def test_an_end_is_that_of_the_place_where_the_api_is_asked() -> None:
    book = price_book()
    old = book.api("gpt-4o")
    assert lifetime("gpt-4o", old, None, DAY, 12).summary == "gpt-4o leaves OpenAI's API on 2027-01-14."
    assert lifetime("gpt-4o", old, AZURE, DAY, 12).end == "2027-04-14"
    assert lifetime("gpt-4o", old, "https://azure.com.example/v1", DAY, 12).end == "2027-01-14"
    assert lifetime("gpt-4o", old, "http://127.0.0.1:1/v1", DAY, 12).end == "2027-01-14"
    gone = lifetime("gpt-4.1-nano", book.api("gpt-4.1-nano"), None, DAY, 12)
    assert (gone.ended, gone.summary) == (True, "gpt-4.1-nano left OpenAI's API on 2026-10-23.")
    assert not lifetime("gpt-4.1-nano", book.api("gpt-4.1-nano"), AZURE, DAY, 12).near
    gemini = book.api("gemini-2.5-flash")
    assert (
        lifetime("gemini-2.5-flash", gemini, AZURE, DAY, 12).summary
        == "gemini-2.5-flash leaves the Gemini API on 2026-12-01."
    )


@pytest.mark.parametrize(
    ("end", "ended", "near"),
    [
        (date(2026, 11, 26), True, True),
        (DAY, True, True),
        (date(2026, 11, 28), False, True),
        (date(2027, 11, 27), False, True),
        (date(2027, 11, 28), False, False),
    ],
)
def test_the_horizon_is_a_year_and_the_day_of_the_shutdown_is_too_late(end: date, ended: bool, near: bool) -> None:
    result = lifetime("x", ApiPrice(usd_in=1, usd_out=1, ends={"openai": end}), None, DAY, 12)
    assert (result.ended, result.near, bool(result.summary)) == (ended, near, near)


@pytest.mark.parametrize("url", [None, AZURE])
def test_the_apis_beside_todays_will_last_and_are_cheapest_first(url: str | None, tmp_path: Path) -> None:
    book = laid_over(tmp_path, "apis: {house: {usd_in: 90, usd_out: 90}}")
    now, *others = beside(book, "gpt-4o", url, DAY, 12, lambda price: price.usd(480, 20)).items()
    assert now[0] == "gpt-4o"
    assert len(others) == SHOWN + 1
    assert others[-1][0] == "house"
    assert all(span == lifetime(name, price, url, DAY, 12) for name, (price, span) in (now, *others))
    assert now[1][1].near
    assert not any(span.near for _, (_, span) in others)
    costs = [price.usd(480, 20) for _, (price, _) in others]
    assert costs == sorted(costs)


def test_a_book_older_than_45_days_is_said_to_be() -> None:
    book = price_book()
    assert stale(book, date(2027, 1, 11)) == ""
    assert stale(book, date(2027, 1, 12)).startswith("The prices are 46 days old (machines 2026-11, APIs 2026-11-27)")


def test_thinking_is_said_to_be_billed_and_how_to_turn_it_off() -> None:
    book = price_book()
    assert thinking("gpt-4o", book.api("gpt-4o")) == ""
    assert thinking("gpt-6-luna", book.api("gpt-6-luna")).endswith("its reasoning effort none turns that off.")
    assert thinking("gpt-6.1-sol", book.api("gpt-6.1-sol")).endswith("billed as output and not in that figure.")


def test_models_prices_shows_age_and_ends_and_warns_of_old_prices() -> None:
    with time_machine.travel("2026-11-27T12:00Z"):
        new = CliRunner().invoke(app, ["models", "prices"]).output
    assert "0 days old" in new
    assert "openai 2027-01-14, azure 2027-04-14" in new
    assert "openai ended 2026-10-23" in new
    assert "To read today's" not in new
    with time_machine.travel("2027-02-01T12:00Z"):
        old = CliRunner().invoke(app, ["models", "prices"])
    assert "openai ended 2027-01-14, azure 2027-04-14" in old.stdout
    assert "The prices are 66 days old" in old.stderr


def test_an_unknown_api_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"no 'house' \(api\.model\)\. See: .*write your own book"):
        price_book().api("house")


@pytest.mark.parametrize(
    ("asked", "answered", "priced"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o", "gpt-6-luna", "gpt-6-luna"),  # a deployment that keeps the name of its former model
        ("tickets-prod", "gpt-6-luna", "gpt-6-luna"),
        ("gpt-6-luna", "something-new", "gpt-6-luna"),
        ("openai/gpt-4o", None, "gpt-4o"),
        ("ours", "gpt-6-luna", "ours"),
        ("something-new", None, None),
    ],
)
def test_an_answer_costs_what_its_own_model_does(
    asked: str, answered: str | None, priced: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("apis: {ours: {usd_in: 1, usd_out: 2}}\n", "utf-8")
    assert name_in_book(price_book(file), asked, answered) == priced


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("batch: 0.4\napis: {ours: {usd_in: 1, usd_out: 2}}", 0.4),
        ("batch: 0.4\napis: {ours: {usd_in: 1, usd_out: 2, batch: 0.3}}", 0.3),
        ("apis: {ours: {usd_in: 1, usd_out: 2}}", 0.5),
    ],
)
def test_an_answer_of_a_batch_has_the_share_that_the_book_gives(text: str, share: float, tmp_path: Path) -> None:
    usage, book = TokenUsage(1_000_000, 1_000_000), laid_over(tmp_path, text)
    for tier in ("batch", "flex"):
        assert usd_by_book(usage, book, "ours", None, tier) == pytest.approx(3 * share)

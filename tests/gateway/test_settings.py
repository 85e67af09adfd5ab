"""Faults in a gateway's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.errors import UserError
from tunewright.gateway.config import load_gateway

GOOD = "upstreams: {openai: {url: openai}}\n"


def refusal(folder: Path, text: str) -> str:
    file = folder / "gateway.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(UserError) as caught:
        load_gateway(file)
    return caught.value.paragraph()


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (f"{GOOD}database: postgresql://u:SECRET@h/db\n", "'database': give the name of an environment variable"),
        ("upstreams: {own: {url: 'https://u:SECRET@h/v1'}}\n", "'upstreams.own.url': an endpoint is"),
        ("upstreams: {own: {url: openai, key: sk-SECRET}}\n", "'upstreams.own.key': give the name"),
        ("upstreams: {own: 'https://u:SECRET@h/v1'}\n", "'upstreams.own' is a section"),
        ("upstreams: https://u:SECRET@h/v1\n", "'upstreams': input should be a valid dictionary"),
        (f"{GOOD}jobs: {{a: {{project: p, models: ['https://u:SECRET@h']}}}}\n", "'jobs.a.models.0.url': an endpoint"),
        (
            f"{GOOD}jobs: {{a: {{project: p, models: [{{url: 'http://h', key: sk-SECRET}}]}}}}\n",
            "'jobs.a.models.0.key'",
        ),
    ],
)
def test_no_value_that_may_be_a_secret_is_shown(text: str, quoted: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, text)
    assert quoted in message
    assert "SECRET" not in message


def test_the_store_is_where_the_settings_or_else_the_variable_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(GOOD, "utf-8")
    assert load_gateway(file).store == tmp_path / "gateway.db"
    monkeypatch.setenv("TUNEWRIGHT_GATEWAY_STORE", "/store/gateway.db")
    assert load_gateway(file).store == Path("/store/gateway.db")
    file.write_text(f"{GOOD}store: mine.db\n", "utf-8")
    assert load_gateway(file).store == tmp_path / "mine.db"


@pytest.mark.parametrize(
    "text",
    [
        "capture: {folder: ~nobody-of-that-name/x}",
        "store: ~nobody-of-that-name/x",
        "jobs: {a: {project: p, models: [~nobody-of-that-name/x]}}",
    ],
)
def test_a_home_that_nobody_has_is_one_paragraph(text: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, f"{GOOD}{text}\n")
    assert message.startswith("~nobody-of-that-name/x: This can't be read: Could not determine home directory. Write")


def test_an_unknown_key_names_the_keys_of_its_own_section(tmp_path: Path) -> None:
    text = f"{GOOD}jobs: {{a: {{project: p, models: [{{url: 'http://h', names: b}}]}}}}\n"
    assert "unknown key 'jobs.a.models.0.names', did you mean 'name'?" in refusal(tmp_path, text)


@pytest.mark.parametrize("holder", ["", "job: a, ", "key: shop, "])
def test_two_budgets_of_one_holder_are_refused(holder: str, tmp_path: Path) -> None:
    upstream = "upstreams: {openai: {url: openai, key: A_KEY}}\nkeys: keys.json\njobs: {a: {project: p}}\n"
    budgets = f"budgets: [{{{holder}usd_per_month: 5}}, {{{holder}usd_per_month: 9}}]\n"
    assert "budgets.0 and budgets.1 are both of " in refusal(tmp_path, upstream + budgets)


def test_budgets_of_several_holders_stand_beside_each_other(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    budgets = "budgets: [{usd_per_month: 5}, {job: a, usd_per_month: 5}, {job: b, usd_per_month: 5}]\n"
    file.write_text(f"{GOOD}jobs: {{a: {{project: p}}, b: {{project: p}}}}\n{budgets}", "utf-8")
    assert [each.scope for each in load_gateway(file).budgets] == ["everything", "job a", "job b"]

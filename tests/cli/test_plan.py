"""`tunewright plan` and `tunewright recipes` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.conftest import TOKENIZER, write_project
from tunewright.cli import plan as cli_plan
from tunewright.cli.app import command_line
from tunewright.models.catalogue import catalogue
from tunewright.training.planning import plan

app = command_line()

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on a model folder without weights: a plan needs its config and its tokenizer only."""
    model = tmp_path_factory.mktemp("model")
    shape = catalogue()["llama-3.2-1b"].shape
    assert shape
    shape.config().save_pretrained(model)
    (model / "tokenizer.json").write_text((TOKENIZER / "tokenizer.json").read_text("utf-8"), "utf-8")
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}"
        "{% generation %}{{ m.content }}.{% endgeneration %}{% else %}{{ m.content }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}",
        "utf-8",
    )
    return write_project(tmp_path_factory.mktemp("plan") / "project", model=str(model))


def test_a_plan_needs_no_weights_and_names_the_cheapest(project: Path) -> None:
    done = CliRunner().invoke(app, ["plan", str(project), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["cheapest"] in {option["machine"] for option in found["options"] if option["fits"]}
    assert found["here"] is None or found["here"]["peak_gib"] > found["bytes"]["weights"] / 2**30
    assert found["bytes"]["weights"] == pytest.approx(2 * 1.236e9, rel=0.01)


def test_every_step_has_memory_hours_and_dollars(project: Path) -> None:
    done = CliRunner().invoke(app, ["plan", str(project), "azure.gpu=null", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["all_steps"]
    steps = ["check", "split", "train", "export", "evaluate", "parity", "verdict", "bundle"]
    for place in ("here", "azure"):
        assert [each["step"] for each in found[place]["steps"]] == steps
        assert all(each["memory"]["peak_gib"] > 0 for each in found[place]["steps"])
        assert all(0 <= each["hours"]["low"] < each["hours"]["high"] for each in found[place]["steps"])
        assert found[place]["hours"]["high"] == pytest.approx(sum(e["hours"]["high"] for e in found[place]["steps"]))
    assert found["here"]["usd"]["high"] == 0
    assert 0 < found["azure"]["usd"]["low"] < found["azure"]["usd"]["high"]
    assert {each["machine"] for each in found["here"]["steps"]} == {"this machine"}


def test_a_plan_has_the_date_of_the_book_that_it_counts_with(project: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "as_of: 2026-08-02\nmachines: {Standard_NC4as_T4_v3: {usd_per_hour: 1}}", "utf-8"
    )
    prices = f"prices={tmp_path / 'own.yaml'}"
    done = CliRunner().invoke(app, ["plan", str(project), prices, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["as_of"] == "2026-08-02"
    assert "Prices: 2026-08-02, pay as you go." in CliRunner().invoke(app, ["plan", str(project), prices]).stdout


@pytest.mark.parametrize("width", [80, 120])
def test_the_tables_fit_the_terminal_and_name_what_does_not_fit(
    project: Path, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "machine_memory", lambda: 0)
    monkeypatch.setattr(cli_plan, "console_of", lambda _: Console(highlight=False, width=width))
    wanted = ["azure.cpu=container-apps-2-4", "azure.gpu=null"]
    done = CliRunner().invoke(app, ["plan", str(project), *wanted])
    assert done.exit_code == 0, done.output
    *_, table = done.stdout.partition("Every step, here and in Azure:")
    rows = [line for line in table.splitlines() if line.lstrip().startswith(("check ", "train ", "all "))]
    assert len(rows) == 3
    assert all(len(row) <= width and "…" not in row for row in rows)
    assert "✗ " in rows[1] and "/4.0" in rows[1]
    assert "✗ train on container-apps-2-4: " in table
    assert "of 4.0 GiB; the model, its libraries and a batch. Set train.method=qlora" in table
    assert "In Azure train does not fit" in table


def test_the_table_says_why_what_does_not_fit_does_not(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "machine_memory", lambda: 0)  # the look at this machine takes its time
    done = CliRunner().invoke(app, ["plan", str(project), "train.batch_size=64", "train.precision=bfloat16"])
    assert done.exit_code == 0, done.output
    assert "no bfloat16" in done.stdout
    assert "GiB short" in done.stdout or "alone takes" in done.stdout
    assert "The cheapest that fits is Standard_" in done.stdout


def test_recipes_are_listed_and_shown() -> None:
    listed = CliRunner().invoke(app, ["recipes", "ls"])
    assert "phi-3-mini-t4" in listed.stdout
    shown = CliRunner().invoke(app, ["recipes", "show", "phi-3-mini-t4"])
    assert "method: qlora #" in shown.stdout
    launched = CliRunner().invoke(app, ["recipes", "launch", "fsdp"])
    assert "fsdp_version: 2" in launched.stdout

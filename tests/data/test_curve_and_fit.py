"""`data curve` and `assess fit` as functions, on the shipped tickets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.data.test_label_noise import tickets
from tunewright.cli import assess, curve
from tunewright.data.curve import curve_points

pytestmark = pytest.mark.slow

app = Typer()
app.command("curve")(curve.curve)
app.add_typer(assess.app, name="assess")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(curve_points, "REPEATS", 1)
    texts, labels = tickets(0, 40)
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    task = {"kind": "classify", "instruction": "Route it.", "labels": sorted(set(labels))}
    spec = {"name": "tickets", "task": task, "data": {"train": "train.jsonl"}, "goal": {"accuracy": 0.8}}
    (tmp_path / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    return tmp_path


def said(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_both_print_what_a_person_reads_and_what_a_program_reads(project: Path) -> None:
    text = said("curve", project)
    assert "160" in text and "2 x the data" in text and "░" in text
    found = json.loads(said("curve", project, "--json"))
    assert found["sentence"] in text
    assert [f["factor"] for f in found["forecasts"]] == [2, 5]

    text = said("assess", "fit", project)
    found = json.loads(said("assess", "fit", project, "--json"))
    assert found["sentence"] in text
    assert found["facts"]["test_rows"] == 32
    assert all(change in text for change in found["changes"])
    strict = json.loads(said("assess", "fit", project, "goal.accuracy=0.999", "--json"))
    assert (found["goal"], strict["goal"]) == (0.8, 0.999)

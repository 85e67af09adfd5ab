"""bench/scoreboard.py: its sets, its rules, when a row is measured anew, and the page that is made of the rows."""

from __future__ import annotations

import importlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tunewright.config import parse_spec
from tunewright.core.errors import UserError
from tunewright.economics import price_book
from tunewright.evaluation.evidence import Record

AGAIN = "type: python bench/scoreboard.py page"
PUBLISHED = {
    "model": "BERT",
    "group": "encoder",
    "value": 90.0,
    "metric": "accuracy",
    "source": "a paper",
    "read": "2026-11-28",
    "same": True,
}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(REPOSITORY / "bench"))
    return importlib.import_module


@pytest.fixture
def sets(bench: Callable[[str], ModuleType]) -> ModuleType:
    return bench("scoreboard_sets")


def a_set(sets: ModuleType, **changes: Any) -> Any:
    usual = {
        "name": "tiny",
        "title": "Tiny",
        "task": "classify",
        "instruction": "Which?",
        "source": "here",
        "licence": "CC0",
        "folder": "tiny",
        "tests": {"official": "test.jsonl"},
        "split": "official",
    }
    return sets.DataSet.model_validate(usual | changes)


def a_row(model: str, value: float, usd: float, **changes: Any) -> dict[str, Any]:
    figure = {"value": value, "low": value - 1, "high": value + 1}
    return {
        "set": "tiny",
        "model": model,
        "seed": 0,
        "date": "2026-11-28",
        "commit": "0123456789ab",
        "changed": False,
        "hashes": {},
        "metric": "accuracy",
        "first": "official",
        "tests": {"official": figure | {"n": 100, "others": {}}},
        "baselines": {"svm": figure},
        "training_minutes": 1.5,
        "run_minutes": 2.5,
        "p50_ms": 3.5,
        "p95_ms": 4.5,
        "answers_per_second": 1234.0,
        "usd_per_million": usd,
        "runtime": "openvino",
        "precision": "int8",
        "epochs": None,
        "machine": {"processor": "a processor", "cores": 2, "bfloat16": True},
        "quiet": True,
        "resumed": [],
        "api": {
            "model": "gpt-6-luna",
            "prompt_tokens": 100,
            "answer_tokens": 3,
            "usd_per_million": 11.5,
            "prices_of": "2026",
        },
    } | changes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [{"text": f"text {number}", "label": "a" if number % 2 else "b"} for number in range(20)]
    (tmp_path / "tiny").mkdir()
    for part in ("train", "test"):
        (tmp_path / "tiny" / f"{part}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return tmp_path


def test_there_are_ten_sets_or_more_of_all_three_tasks(sets: ModuleType) -> None:
    result = sets.load_sets()
    assert len(result) >= 10
    assert {one.task for one in result.values()} == {"classify", "extract", "generate"}
    assert all(one.published or one.missing for one in result.values()), "say what was found, or that nothing was"
    assert all(each.source and each.read for one in result.values() for each in one.published)


def test_a_row_that_nobody_knows_is_an_error(
    bench: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    board = bench("scoreboard")
    for names, fix in ((("baking77", "linear"), "'banking77'"), (("banking77", "all-minlm"), "'all-minilm'")):
        with pytest.raises(UserError, match=f"Did you mean {fix}"):
            board.main(["row", *names, "--data", str(data)])
    with pytest.raises(SystemExit):
        board.main(["rows", "banking77"])
    assert "row takes a set and a model" in capsys.readouterr().err


def test_a_published_figure_of_another_test_says_what_differs(sets: ModuleType, tmp_path: Path) -> None:
    content = a_set(sets).model_dump(mode="json") | {"published": [PUBLISHED | {"same": False}]}
    (tmp_path / "tiny.yaml").write_text(json.dumps(content), "utf-8")
    with pytest.raises(UserError, match="needs a note that says what differs"):
        sets.load_sets(tmp_path)
    content["published"][0]["note"] = "Another test."
    (tmp_path / "tiny.yaml").write_text(json.dumps(content), "utf-8")
    assert list(sets.load_sets(tmp_path)) == ["tiny"]


def test_a_language_model_passes_fewer_times_over_long_parts(sets: ModuleType) -> None:
    def part(letters: int) -> list[dict[str, str]]:
        return [{"text": "x" * (letters // 10 - 1), "label": "y"}] * 10

    assert [sets.passes(part(letters)) for letters in (1000, 1_500_000, 2_000_000, 30_000_000, 90_000_000)] == [
        2.0,
        2.0,
        1.5,
        0.1,
        0.1,
    ]
    assert sets.letters([{"text": "ab", "label": {"c": "d"}}]) == len('ab{"c": "d"}')


def test_rows_become_what_the_package_reads(sets: ModuleType) -> None:
    labelled = [{"text": "a", "label": "card_arrival", "more": 1}, {"text": "b", "label": "oos"}]
    assert list(sets.rows_of(a_set(sets, words=True, without=("oos",)), labelled)) == [
        {"text": "a", "label": "card arrival"}
    ]
    records = [{"text": "a", "fields": {"total": "1", "company": "", "address": "x"}, "template": 7}]
    one = a_set(sets, task="extract", answer="fields", fields=("company", "total"), group="template")
    assert list(sets.rows_of(one, records)) == [{"text": "a", "label": {"total": "1"}, "group": "7"}]


@pytest.mark.parametrize(("task", "label"), [("classify", "ab"), ("extract", [{"x": "1"}] * 2), ("generate", "ab")])
def test_a_row_has_the_defaults_but_for_the_rules(sets: ModuleType, task: str, label: Any) -> None:
    rows = [{"text": "x" * 1_000_000, "label": each} for each in label] * 2
    specs = {model: sets.spec_of(a_set(sets, task=task), model, 3, rows) for model in sets.MODELS}
    for model, content in specs.items():
        spec = parse_spec(json.dumps(content), Path("tunewright.yaml"))
        assert (spec.model, spec.seed, spec.data.validation_fraction) == (model, 3, sets.VALIDATION)
        assert spec.evaluate.few_shot == 0
        assert content.get("train") == ({"epochs": 0.7} if model in sets.WRITERS else None)


def test_nothing_beats_what_is_on_the_front(bench: Callable[[str], ModuleType]) -> None:
    plot = bench("scoreboard_plot")
    points = [(1.0, 90.0), (0.1, 85.0), (2.0, 89.0), (1.0, 88.0), (5.0, 91.0)]
    assert plot.pareto(points) == [(0.1, 85.0), (1.0, 90.0), (5.0, 91.0)]
    for values in ([93.0, 93.1], [40.0, 99.0], [0.0, 100.0], [99.9, 100.0]):
        low, high, step = plot.span(values)
        assert low <= min(values) < max(values) <= high, values
        assert 1 <= round((high - low) / step, 6) <= 6, values


def test_a_batch_is_as_long_as_answers_are_fast_and_money_is_time(bench: Callable[[str], ModuleType]) -> None:
    row = bench("scoreboard_row")
    assert [row.lines_for(p50) for p50 in (0.1, 6.0, 60.0, 5000.0)] == [50_000, 10_000, 1000, 64]
    usd = price_book().machine(row.MACHINE).usd_per_hour
    assert row.priced(1e6 / 3600)["usd_per_million"] == pytest.approx(usd), "a million answers an hour"


def test_a_label_is_shown_apart(bench: Callable[[str], ModuleType]) -> None:
    pairs = [("oos", "oos"), ("oos", "a"), ("a", "a"), ("a", "oos"), ("b", "b"), ("b", "b")]
    records = [Record(str(n), "official", gold, answer, 1.0, 0, 0, 0) for n, (gold, answer) in enumerate(pairs)]
    result = bench("scoreboard_row").apart(records, "oos")
    assert {name: figure["value"] for name, figure in result.items()} == {
        "accuracy without oos": 75,
        "recall of oos": 50,
    }


def test_a_row_is_measured_anew_where_something_changed(
    bench: Callable[[str], ModuleType], sets: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, one = bench("scoreboard"), a_set(sets)
    monkeypatch.setattr(board, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(board, "RUNS", tmp_path / "runs")
    asked = (one, "linear", 0, data)
    assert board.state(*asked) == "missing"
    row = a_row("linear", 90, 1, hashes=board.hashes_now(*asked))
    board.keep("tiny/linear/0", row)
    assert board.state(*asked) == ""
    board.keep("tiny/linear/0", row | {"quiet": False})
    assert board.state(*asked) == "measured beside other work"
    board.keep("tiny/linear/0", {"reason": "It can't.", "hashes": row["hashes"]})
    assert board.state(*asked) == ""
    assert board.state(one, "linear", 1, data) == "missing"
    assert board.state(a_set(sets, instruction="Another?"), *asked[1:]) == "other spec"
    (data / "tiny" / "test.jsonl").write_text(json.dumps({"text": "new", "label": "a"}), "utf-8")
    assert board.state(*asked) == "other data"
    (data / "tiny" / "test.jsonl").unlink()
    with pytest.raises(UserError, match="not here"):
        board.state(*asked)


@pytest.mark.slow
def test_a_row_gives_the_reason_why_its_model_is_unable(
    bench: Callable[[str], ModuleType], sets: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring = bench("scoreboard_row")
    monkeypatch.setattr(measuring, "RUNS", tmp_path / "runs")
    row = measuring.measure(a_set(sets, task="generate"), "all-minilm", 0, data, again=False)
    assert "all-minilm is an encoder" in row["reason"]
    assert str(tmp_path) not in row["reason"]
    assert "tests" not in row


def test_a_row_that_crashes_does_not_stop_the_others_and_a_kill_does(
    bench: Callable[[str], ModuleType], sets: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, program = bench("scoreboard"), tmp_path / "program.py"
    monkeypatch.setattr(board, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(board, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(board, "load_sets", lambda: {"tiny": a_set(sets)})
    monkeypatch.setattr(board, "__file__", str(program))
    program.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", "utf-8")
    with pytest.raises(KeyboardInterrupt):
        board.run_rows(0, data, again=False)
    assert board.results() == {}, "it can go on"
    program.write_text("raise SystemExit(3)\n", "utf-8")
    with pytest.raises(UserError) as caught:
        board.run_rows(0, data, again=False)
    assert all(f"tiny/{model}/0 (exit code 3)" in str(caught.value) for model in sets.MODELS), "all were tried"
    assert board.results() == {}, "a fault says nothing about a model"


def test_a_run_that_fails_gives_no_row(
    bench: Callable[[str], ModuleType], sets: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(_: Any) -> None:
        raise UserError("Another Tunewright process works in this folder.")

    measuring, board = bench("scoreboard_row"), bench("scoreboard")
    monkeypatch.setattr(measuring, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(board, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(board, "find_set", lambda _: a_set(sets))
    monkeypatch.setattr(measuring.tw, "run", locked)
    with pytest.raises(UserError, match="Another Tunewright"):
        board.run_row("tiny", "linear", 0, data, again=False)
    assert board.results() == {}


def test_tries_leave_their_doubts(bench: Callable[[str], ModuleType], tmp_path: Path) -> None:
    note = bench("scoreboard_row").note_try
    assert note(tmp_path, True) == (True, [])
    (tmp_path / "runs" / ".train-0123456789ab.partial").mkdir(parents=True)
    assert note(tmp_path, True) == (True, ["train"]), "a kill left it behind"
    (tmp_path / "runs" / ".train-0123456789ab.partial").rmdir()
    assert note(tmp_path, False) == (False, ["train"])
    assert note(tmp_path, True) == (False, ["train"])


def test_the_load_of_other_processes_is_reported(bench: Callable[[str], ModuleType]) -> None:
    module = bench("scoreboard_row")
    assert module.others_share((100.0, 50.0, 10.0), (120.0, 66.0, 24.0)) == pytest.approx(0.1)
    assert module.others_share((0.0, 0.0, 5.0), (0.0, 0.0, 9.0)) == 0, "the system does not say"
    began = module.busy_seconds()
    sum(n * n for n in range(10**6))
    ended = module.busy_seconds()
    assert ended[2] > began[2]
    assert ended[1] - began[1] >= ended[2] - began[2] - 0.1


def test_rows_of_two_machines_are_kept_apart(bench: Callable[[str], ModuleType], sets: ModuleType) -> None:
    other = {"machine": {"processor": "another one", "cores": 2, "bfloat16": False}}
    rows = {"tiny/linear/0": a_row("linear", 91, 0.01), "tiny/all-minilm/0": a_row("all-minilm", 95, 0.02) | other}
    text = bench("scoreboard_page").page({"tiny": a_set(sets)}, rows)
    assert "(1) a processor, 2 cores, with bfloat16; (2) another one, 2 cores, without bfloat16" in text
    assert text.count(", machine 1") == text.count(", machine 2") == 1


def test_the_page_shows_figures_reasons_and_doubts(bench: Callable[[str], ModuleType], sets: ModuleType) -> None:
    other = PUBLISHED | {"model": "GPT", "group": "prompted model", "same": False, "note": "Another test."}
    shown = {"tiny": a_set(sets, published=(PUBLISHED, other), missing="A tuned 7-8 B model.")}
    rows = {
        "tiny/all-minilm/0": a_row("all-minilm", 93, 0.02),
        "tiny/linear/0": a_row("linear", 91, 0.01, quiet=False),
        "tiny/all-minilm/1": a_row("all-minilm", 94, 0.02, seed=1, resumed=["train"]),
        "tiny/smollm2-135m/0": {"set": "tiny", "model": "smollm2-135m", "seed": 0, "reason": "It can't."},
    }
    text = bench("scoreboard_page").page(shown, rows)
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "93.0 (92.0 to 94.0) | 100 | 1.5 | 2.5 | 3.5, 4.5 | 1,234.0 | 0.020 |" in lines["all-minilm"]
    assert "91.0 (90.0 to 92.0) | 100 | – | – | – | – | – |" in lines["linear"]
    assert "the machine did other work as well" in text
    assert "94.0 (93.0 to 95.0) | 100 | – | – | 3.5, 4.5 | 1,234.0 | 0.020 |" in lines["all-minilm, seed 1"]
    assert "It can't." in lines["smollm2-135m"]
    assert "Another test." in lines["GPT"]
    assert "nothing known" in lines["BERT"]
    assert "a tuned 7-8 B model" in text
    assert "$12" in text, "the API's price"
    assert "baseline: linear SVM" not in text, "the model itself is there"


def test_the_picture_has_a_mark_for_each_row_that_was_measured_alone(
    bench: Callable[[str], ModuleType], sets: ModuleType
) -> None:
    rows = {
        "tiny/all-minilm/0": a_row("all-minilm", 93, 0.02),
        "tiny/linear/0": a_row("linear", 91, 0.01, quiet=False),
        "tiny/smollm2-135m/0": a_row("smollm2-135m", 92, 2.0),
    }
    drawn = bench("scoreboard_page").picture({"tiny": a_set(sets, published=(PUBLISHED,))}, rows)
    (panel,) = ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}g")
    colours = list(_fills(panel))
    styles = bench("scoreboard_plot").STYLES
    assert [colours.count(styles[model][0]) for model in ("linear", "all-minilm", "smollm2-135m")] == [0, 1, 1]


def _fills(panel: ET.Element) -> Iterator[str]:
    return (each.attrib["fill"] for each in panel if not each.tag.endswith("text") and "fill" in each.attrib)


def test_the_docs_are_what_is_made_of_the_rows(bench: Callable[[str], ModuleType], sets: ModuleType) -> None:
    made, result, rows = bench("scoreboard_page"), sets.load_sets(), bench("scoreboard").results()
    assert (REPOSITORY / "docs" / "scoreboard.md").read_text("utf-8") == made.page(result, rows), AGAIN
    assert (REPOSITORY / "docs" / "scoreboard.svg").read_text("utf-8") == made.picture(result, rows), AGAIN

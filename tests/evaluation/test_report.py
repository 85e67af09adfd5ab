from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import make_spec
from tests.evaluation.made_report import PARITY, made_report
from tests.evaluation.scenario import candidate, compared, evidence_of
from tunewright.economics import price_book
from tunewright.evaluation.report.page import verdict_data
from tunewright.evaluation.report.table import print_summary
from tunewright.evaluation.steps import RETRAINED, training_hours
from tunewright.evaluation.verdict.comparison import compare
from tunewright.evaluation.verdict.decision import decide


class Tags(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text("utf-8")


def test_a_retraining_takes_as_long_as_the_run_did(tmp_path: Path) -> None:
    for step in RETRAINED:
        (tmp_path / step).mkdir()
        (tmp_path / step / "manifest.json").write_text('{"wall_seconds": 600}')
    hours = training_hours({step: tmp_path / step for step in (*RETRAINED, "judge")})
    assert hours == pytest.approx(1.0)
    spec = make_spec(costs={"reviews_per_month": 200}, azure={"gpu": "Standard_NC8as_T4_v3"})
    evidence = evidence_of(candidate(0.7), candidate(0.6))
    result = {item.name: item for item in compare(spec, evidence, price_book(), training_hours=hours).money.items}
    assert result["retraining"].usd_per_month == pytest.approx(2 * 0.752)
    on_cpu = make_spec(costs={"reviews_per_month": 200}, azure={"gpu": None})
    result = {item.name: item for item in compare(on_cpu, evidence, price_book(), training_hours=hours).money.items}
    assert result["retraining"].usd_per_month == pytest.approx(2 * 0.096)


def test_a_cascades_retraining_takes_as_long_as_its_parts_and_its_own_steps(tmp_path: Path) -> None:
    def folders(of: str, steps: Sequence[str]) -> dict[str, Path]:
        for step in steps:
            (tmp_path / f"{step}-{of}").mkdir()
            (tmp_path / f"{step}-{of}" / "manifest.json").write_text('{"wall_seconds": 3600}')
        return {step: tmp_path / f"{step}-{of}" for step in steps}

    shared, own = RETRAINED[:2], ("export", "parity")
    data = folders("both", shared)
    first, second = (data | folders(of, RETRAINED[2:]) for of in ("first", "second"))
    joined = second | folders("joined", own)
    assert training_hours(joined, (first, second)) == len(shared) + 2 * len(RETRAINED[2:]) + len(own)


def test_verdict_json_holds_what_a_month_is_made_of() -> None:
    spec, evidence = make_spec(), evidence_of(candidate(0.7), candidate(0.6))
    comparison = compared(spec, evidence)
    verdict = decide(spec, comparison, evidence, parity_passed=True)
    items = json.loads(json.dumps(verdict_data(spec, comparison, verdict, PARITY)))["comparison"]["money"]["items"]
    assert [item["name"] for item in items] == ["machines", "standby", "reviews", "retraining", "storage"]
    assert items[0]["usd_per_month"] == pytest.approx(0.096 * 730)
    assert items[2] == {
        "name": "reviews",
        "usd_per_month": None,
        "source": "not counted: costs.hourly_usd",
        "basis": "304 reviews of 1 minute, 5.1 hours",
    }


def test_the_report_loads_nothing_from_elsewhere(html: str) -> None:
    tags = Tags(html).seen
    assert tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "img", "object", "embed", "base")]
    assert not [attrs for _, attrs in tags if attrs.keys() & {"src", "href", "srcset", "xlink:href"}]
    styles = "".join(re.findall(r"<style>.*?</style>", html, re.DOTALL)) + str([a.get("style") for _, a in tags])
    assert "@import" not in styles
    assert "url(" not in styles


def test_html_in_a_ticket_is_shown_as_text(html: str) -> None:
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert not [attrs for _, attrs in Tags(html).seen if any(name.startswith("on") for name in attrs)]


def test_the_report_names_the_decision_and_the_sentence(html: str, folder: Path) -> None:
    assert "<strong>keep-api</strong>" in html
    assert (folder / "report.md").read_text("utf-8").startswith("# tickets: keep-api\n\nKeep gpt-4o for now")


def test_the_tables_show_the_measured_candidates_and_every_priced_api(html: str, folder: Path) -> None:
    for text in (html, (folder / "report.md").read_text("utf-8")):
        for name in ("TF-IDF + linear SVM", "tuned: served bundle int8", "API gpt-4o", "API gpt-6-luna", "14,000"):
            assert name in text


def test_the_validation_part_is_not_reported(html: str) -> None:
    assert "validation-" not in html
    assert "<th>accuracy %<br>validation</th>" not in html


def test_the_surest_mistakes_are_shown_with_their_text(html: str) -> None:
    assert html.count('<td class="wrap">') == 12


def test_the_confusion_matrix_counts_every_test_answer(html: str) -> None:
    matrix = re.search(r'<table class="matrix">.*?</table>', html, re.DOTALL)
    assert matrix
    assert sum(int(count) for count in re.findall(r">(\d+)</td>", matrix.group())) == 100


def test_the_training_curve_is_drawn_to_its_last_step_for_each_adapter(html: str) -> None:
    assert html.count("M0.0,10.0 L300.0,85.0 L600.0,122.5") == 2
    assert "each of the 2 models" in html


def test_the_curve_shows_the_measurements_during_training(html: str) -> None:
    assert '<circle cx="300.0" cy="47.5"' in html, "a validation loss of 1.5, where 2.0 is the top"
    assert '<circle cx="300.0" cy="122.5"' in html, "an accuracy of a quarter"
    assert "accuracy (dashed, scale on the right), last 25.0 %" in html


def test_the_diagnosis_stands_beside_the_curve(html: str, folder: Path) -> None:
    for text in (html, (folder / "report.md").read_text("utf-8")):
        assert "T005 overfitting" in text
        assert "Type: train.epochs=1" in text


def test_each_step_is_listed_with_its_provenance(html: str, folder: Path) -> None:
    content = json.loads((folder.parent / "split" / "manifest.json").read_text())["content"]
    assert content[:16] in html


def test_the_model_card_is_one_of_the_hubs(folder: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard((folder / "model_card.md").read_text("utf-8"))
    assert card.data.pipeline_tag == "text-classification"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.dataset_split, result.metric_value) == ("accuracy", "test", 0.7)
    assert "tuned: served bundle" in card.text
    assert "cascade" in card.text or "Keep" in card.text or "Switch" in card.text
    assert "| train |" in card.text


def test_the_terminal_shows_square_brackets_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evidence, spec = evidence_of(candidate(0.7), candidate(0.6)), make_spec()
    comparison = compared(spec, evidence)
    data = verdict_data(spec, comparison, decide(spec, comparison, evidence, parity_passed=True), PARITY)
    data = json.loads(json.dumps(data))
    asked = {"told": "transformers: of 20 prompts [all] alike", "why": ""}
    data["parity"]["elsewhere"] = [asked, {"told": "llama.cpp: not asked.", "why": "It is not installed."}]
    data["verdict"]["sentence"] = "Keep it: [urgent] is right on 80 %."
    data["comparison"]["candidates"]["served"]["label"] = "tuned [int8]"
    data["verdict"]["measure"] = "apis+={model: gpt-x, url: openai}"
    arguments = ["my jobs/mine.yaml", "seed=2", "--runs", "out"]
    print_summary(data, tmp_path / "report.html", tmp_path, arguments)
    shown = capsys.readouterr().out
    assert "of 20 prompts [all] alike" in shown
    assert "llama.cpp" not in shown, "what was not asked stands in the report"
    assert "4 dearer: see the report" in shown
    command = "tunewright run 'my jobs/mine.yaml' seed=2 --runs out 'apis+={model: gpt-x, url: openai}'"
    assert f"Measure: {command}\n" in shown
    assert "Serve:" not in shown, "the verdict is not to serve it"
    assert "[urgent] is right on 80 %." in shown
    assert "tuned [int8]" in shown


def test_the_card_of_an_encoder_names_no_adapters_method(tmp_path: Path) -> None:
    folder = made_report(tmp_path, trained="encoder")
    card = (folder / "model_card.md").read_text("utf-8")
    assert "library_name: tunewright" in card
    assert "lora" not in card
    assert "batch 32; a linear model beside it, whose logits are added, seed 0." in card
    assert "same answers as the trained encoder" in (folder / "report.html").read_text("utf-8")


def test_the_report_of_a_linear_model_has_no_curve(tmp_path: Path) -> None:
    folder = made_report(tmp_path, trained="linear", model="linear")
    card = (folder / "model_card.md").read_text("utf-8")
    assert "library_name: tunewright" in card
    assert "base_model:" not in card
    assert "lora" not in card
    assert "TF-IDF of words and parts of words" in card
    shown = (folder / "report.html").read_text("utf-8")
    assert "it has no curve" in shown
    assert "same answers as the fitted model" in shown
    assert "linear: served bundle" in shown
    assert "it has no curve" in (folder / "report.md").read_text("utf-8")


def test_the_figure_of_a_cascade_names_the_api_that_answers_the_rest(html: str) -> None:
    assert "of all answers with those of gpt-4o for the rest (second line)" in html
    assert "what a month costs with gpt-4o for the rest (dotted, to its own scale)" in html

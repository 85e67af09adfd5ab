"""The rules on curves of real trainings, kept in `histories.jsonl`, and on curves that must get no diagnosis.

`python bench/diagnosis.py record` made the curves with SmolLM2-135M, one a line. Some provoke a cause. Others are sound
trainings that earlier rules accused, such as one of the shipped example and a warm start at a low rate.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import make_spec, spec_data
from tunewright.config import parse_spec
from tunewright.config.sections import TrainSpec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.progress import track
from tunewright.models.chat import ChatTemplate
from tunewright.models.encoders import LocalEncoder
from tunewright.models.resolve import LocalModel
from tunewright.training.diagnosis.diagnosis import CannotTrain, Diagnosis, joint, summary
from tunewright.training.diagnosis.history import History, TrainingFacts
from tunewright.training.diagnosis.rules import diagnose
from tunewright.training.loop.soup_training import Soup

PAGE = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text("utf-8")
TITLES = dict(re.findall(r"^### (T\d+) (.+)$", PAGE, re.M))


def as_history(kept: dict[str, Any]) -> History:
    settings, facts = TrainSpec(**kept["settings"]), TrainingFacts(**kept["facts"])
    return History(settings, facts, kept["precision"], kept["planned"], ended=True, rows=kept["curve"])


RECORDED = {kept["name"]: kept for kept in read_jsonl(Path(__file__).parent / "histories.jsonl")}
HISTORIES = {name: as_history(kept) for name, kept in RECORDED.items()}
CLEAN = HISTORIES["clean-snips-tokens-0-256"]


def codes(history: History) -> list[str]:
    return [diagnosis.code for diagnosis in diagnose(history)]


CODES = {name: codes(history) for name, history in HISTORIES.items()}
"""Computed at import, so that importing the rules' libraries does not count as the time of one example."""


def broken(history: History, step: int, **figures: float) -> History:
    """The same training, ended at `step` (from 1) by figures that are not numbers."""
    rows = [row | figures if row["step"] == step and "loss" in row else row for row in history.rows]
    return replace(history, rows=[row for row in rows if row["step"] <= step and ("loss" in row or row["step"] < step)])


def all_diagnoses() -> dict[str, Diagnosis]:
    """One diagnosis of each code."""
    causes = [
        *HISTORIES.values(),
        broken(CLEAN, 1, loss=math.nan),
        broken(replace(CLEAN, precision="float16"), 9, loss=math.inf),
    ]
    return {diagnosis.code: diagnosis for history in causes for diagnosis in diagnose(history)}


@pytest.mark.parametrize("name", RECORDED)
def test_a_real_training_is_diagnosed_as_what_was_done_to_it(name: str) -> None:
    assert codes(HISTORIES[name]) == ([RECORDED[name]["expected"]] if RECORDED[name]["expected"] else [])


@pytest.mark.parametrize("name", RECORDED)
def test_a_diagnosis_during_the_training_is_not_taken_back(name: str) -> None:
    whole = HISTORIES[name]
    live = [replace(whole, ended=False, rows=whole.rows[:count]) for count in range(len(whole.rows) + 1)]
    assert {code for history in live for code in codes(history)} <= set(codes(whole))


def test_divergence_and_masked_targets_are_reported_long_before_the_end() -> None:
    diverging, masked = (
        next(h for n, h in HISTORIES.items() if n.startswith(cause)) for cause in ("lr-high", "masked")
    )
    half = replace(diverging, ended=False, rows=[row for row in diverging.rows if row["step"] <= diverging.planned / 2])
    assert codes(half) == ["T001"]
    assert codes(replace(masked, ended=False, rows=[])) == ["T006"]


@pytest.mark.parametrize("figure", ["loss", "grad_norm"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@given(step=st.integers(2, CLEAN.planned), value=st.sampled_from([math.nan, math.inf]))
def test_a_loss_that_is_no_number_after_an_update_is_the_learning_rate(
    figure: str, precision: str, step: int, value: float
) -> None:
    assert codes(broken(replace(CLEAN, precision=precision), step, **{figure: value})) == ["T001"]


@given(step=st.integers(1, CLEAN.planned))
def test_in_float16_a_loss_that_was_low_before_is_an_overflow(step: int) -> None:
    assert codes(broken(replace(CLEAN, precision="float16"), step, loss=math.nan)) == ["T008"]


def test_in_float16_a_loss_that_was_high_before_is_the_learning_rate() -> None:
    diverging = replace(next(h for n, h in HISTORIES.items() if n.startswith("lr-high")), precision="float16")
    assert codes(broken(diverging, 12, loss=math.nan)) == ["T001"]


def test_before_the_first_update_only_the_base_model_can_be_at_fault() -> None:
    assert codes(broken(CLEAN, 1, loss=math.nan)) == ["T009"]


def test_steps_left_out_while_the_loss_scale_is_found_are_no_fault() -> None:
    rows = [row | {"grad_norm": math.inf} if row["step"] < 8 and "loss" in row else row for row in CLEAN.rows]
    assert codes(replace(CLEAN, precision="float16", rows=rows)) == []


def test_steps_that_float16_always_leaves_out_are_an_overflow() -> None:
    rows = [row | {"grad_norm": math.inf} if "loss" in row else row for row in CLEAN.rows]
    assert codes(replace(CLEAN, precision="float16", rows=rows)) == ["T008"]


@pytest.mark.slow
@given(order=st.permutations(list(CLEAN.facts.labels)))
def test_names_of_labels_change_nothing(order: list[str]) -> None:
    new = dict(zip(CLEAN.facts.labels, order, strict=True))
    for name, history in HISTORIES.items():
        if history.facts.labels.keys() == CLEAN.facts.labels.keys():
            facts = history.facts
            renamed = [{new[label]: n for label, n in counts.items()} for counts in (facts.labels, facts.held)]
            rows = [
                row | {"right": {new[label]: n for label, n in row["right"].items()}} if "right" in row else row
                for row in history.rows
            ]
            answers = [new[answer] for answer in facts.answers]
            named = replace(facts, labels=renamed[0], held=renamed[1], answers=answers)
            same = replace(history, facts=named, rows=rows)
            assert codes(same) == CODES[name], name


def test_max_steps_is_only_to_blame_where_it_cuts() -> None:
    short = next(
        history for name, history in HISTORIES.items() if CODES[name] == ["T003"] and history.settings.max_steps
    )
    cut, epochs = (
        replace(short, settings=short.settings.model_copy(update={"max_steps": most}))
        for most in (short.planned, short.planned + 1)
    )
    assert [diagnose(each)[0].change.split("… ")[1] for each in (cut, epochs)] == [
        "train.max_steps=null",
        f"train.epochs={3 * short.settings.epochs:g}",
    ]


def test_a_heavy_validation_example_does_not_hide_that_nothing_was_learnt() -> None:
    nothing = next(history for name, history in HISTORIES.items() if CODES[name] == ["T004"])
    heavy = [row | {"primary_metric": 0.9} if "scores" in row else row for row in nothing.rows]
    assert codes(replace(nothing, rows=heavy)) == ["T004"]


def test_a_clean_training_without_a_validation_part_gets_no_diagnosis() -> None:
    rows = [row for row in CLEAN.rows if "loss" in row]
    assert codes(replace(CLEAN, rows=rows, facts=replace(CLEAN.facts, held=dict.fromkeys(CLEAN.facts.held, 0)))) == []


def test_each_code_stands_on_its_page_with_its_title() -> None:
    assert {code: diagnosis.title for code, diagnosis in all_diagnoses().items()} == TITLES


def test_the_spec_accepts_the_settings_that_a_diagnosis_names() -> None:
    typed = [re.findall(r"train\.\w+=\S+", diagnosis.change) for diagnosis in all_diagnoses().values()]
    assert sum(map(bool, typed)) >= 6
    for overrides in typed:
        parse_spec(json.dumps(spec_data()), Path("/nowhere/tunewright.yaml"), overrides)


def test_a_code_of_several_adapters_is_reported_once() -> None:
    one, other = (Diagnosis(code, "title", "cause", "evidence", "change") for code in ("T005", "T001"))
    assert joint([[one], [other, one], []]) == [other, one]
    assert joint([[one], [other], []]) == [other], "one adapter in three may show it by chance, but not a divergence"
    assert [line.strip()[:4] for line in summary([one])][:2] == ["diag", "T005"]
    assert summary([]) == ["diagnosis: nothing found in the curve"]


def test_the_error_that_ends_a_training_names_the_command() -> None:
    (diagnosis,) = diagnose(broken(CLEAN, 9, loss=math.nan))
    assert f"train.lr={make_spec().train.lr / 4:g}" not in str(CannotTrain(diagnosis))
    assert re.search(r"T001: learning rate too high\. .* step 9, .* train\.lr=0\.00025", str(CannotTrain(diagnosis)))


def test_an_example_that_teaches_nothing_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    facts = replace(CLEAN.facts, learnt=[0, *CLEAN.facts.learnt[1:]])
    base = LocalModel("none", tmp_path, ChatTemplate.named("chatml"))
    soup = Soup(make_spec(), base, [], None, facts, tmp_path)
    with (
        track("train", 1) as tracker,
        pytest.raises(CannotTrain, match=r"T006: masked targets\. .* 1 of 256 examples have none"),
    ):
        soup.train(0, tracker)


def test_the_advice_for_an_encoder_names_its_own_keys_and_its_usual_rate() -> None:
    for history in HISTORIES.values():
        of_encoder = replace(history, encoder=True)
        for adapter, encoder in zip(diagnose(history), diagnose(of_encoder), strict=True):
            keys = re.findall(r"train\.[\w.]+=\S+", encoder.change)
            assert (adapter.code, len(keys)) == (encoder.code, len(re.findall(r"train\.[\w.]+=\S+", adapter.change)))
            own = [key for key in keys if re.search(r"lr|epochs", key)]
            assert all(key.startswith("train.encoder.") for key in own)
            parse_spec(json.dumps(spec_data()), Path("/nowhere/tunewright.yaml"), keys)
    hot = replace(CLEAN, encoder=True, settings=CLEAN.settings.model_copy(update={"lr": 1.0}))
    (diagnosis,) = diagnose(broken(hot, 9, loss=math.nan))
    assert diagnosis.change.endswith("train.encoder.lr=0.0003")
    base = LocalEncoder("none", Path(), 512, "mean")
    assert Soup(make_spec(), base, [], None, CLEAN.facts, Path()).history([], ended=False).encoder

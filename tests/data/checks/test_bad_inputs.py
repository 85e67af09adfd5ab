"""The malformed files in the whole check: each check finishes, and finds the faults that no reader can judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import BAD_INPUTS
from tests.data.readers.test_shared_cases import CASES
from tunewright.config import file_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.examine import EXAMPLES, QUARANTINE, examine
from tunewright.data.job import job_of_files


def checked(name: str, out: Path, *overrides: str) -> dict[str, str]:
    """The findings by code."""
    job = job_of_files(file_spec(BAD_INPUTS / f"{name}.jsonl", overrides))
    return {finding.code: finding.what for finding in examine(job, out).findings}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_file_ends_in_findings_with_all_rows_accounted_for(name: str, tmp_path: Path) -> None:
    found = checked(name, tmp_path)
    rows, faults, _ = CASES[name]
    assert len(read_jsonl(tmp_path / EXAMPLES / "train.jsonl")) == rows
    quarantine = tmp_path / QUARANTINE / "train.jsonl"
    assert (len(read_jsonl(quarantine)) if quarantine.exists() else 0) == len(faults)
    assert ("D009" in found) == bool(faults)
    json.loads((tmp_path / "findings.json").read_text("utf-8"))


def test_forty_one_equal_rows_are_one(tmp_path: Path) -> None:
    assert checked("28_duplicates", tmp_path)["D007"] == "train: 40 rows repeat another row"


def test_the_same_input_with_two_answers_is_a_conflict(tmp_path: Path) -> None:
    assert checked("29_conflicting_labels", tmp_path)["D006"].startswith("train: 1 rows repeat a text with another")


def test_one_label_in_eight_spellings_is_found(tmp_path: Path) -> None:
    found = checked("30_label_variants", tmp_path)
    assert "labels that may be one" in found["D013"]
    assert found["D013"].casefold().count("billing") >= 5


def test_a_dominating_label_and_singletons_are_found(tmp_path: Path) -> None:
    found = checked("31_one_class_and_singletons", tmp_path)
    assert "94 % of the rows" in found["D018"]
    assert "fewer than 20 examples" in found["D005"]


def test_one_exact_and_one_near_leak_are_found(tmp_path: Path) -> None:
    found = checked("32_leak_train", tmp_path, f"data.test.held={BAD_INPUTS / '32_leak_test.jsonl'}")
    assert found["D008"] == "held: 1 test texts are also in train"
    assert found["D012"].startswith("held: 1 test texts have a near copy in train")


def test_template_tokens_are_found_and_stay_text(tmp_path: Path) -> None:
    assert "<|im_start|> (1)" in checked("33_prompt_injection", tmp_path)["D016"]


def test_six_of_eight_rows_hold_secrets_and_the_two_look_alikes_do_not(tmp_path: Path) -> None:
    assert checked("34_secrets_pii", tmp_path)["D015"].startswith("train: 6 rows hold personal data or secrets")

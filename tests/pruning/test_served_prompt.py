"""What else knows the whole prompt where the own model reads less."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import LABELS, make_spec, unalike
from tunewright.data.examine import examine
from tunewright.data.job import job_of

INSTRUCTION = "Route the ticket."


def test_rows_with_the_whole_prompt_fit_a_model_that_reads_less(tmp_path: Path) -> None:
    def row(system: str, number: int) -> str:
        asked = {"role": "user", "content": unalike(f"{number}")}
        answered = {"role": "assistant", "content": LABELS[number % 3]}
        return json.dumps({"messages": [{"role": "system", "content": system}, asked, answered]}) + "\n"

    task = {"kind": "classify", "instruction": INSTRUCTION, "labels": LABELS, "leave_out": "instruction"}
    job = job_of(make_spec(tmp_path, task=task))
    (tmp_path / "train.jsonl").write_text("".join(row(INSTRUCTION, number) for number in range(60)), "utf-8")
    assert "D017" not in {finding.code for finding in examine(job, tmp_path).findings}
    (tmp_path / "train.jsonl").write_text("".join(row("Be brief.", number) for number in range(60)), "utf-8")
    assert "D017" in {finding.code for finding in examine(job, tmp_path).findings}

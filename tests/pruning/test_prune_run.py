"""`tunewright prune` on models that run here: a tiny random one, and the real SmolLM2-135M."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import LABELS, tunewright, unalike
from tests.fixtures.tiny import TINY

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

SPEC = """name: tickets
task:
  kind: classify # one of three
  instruction: "Route the ticket to one of the teams of our support desk, and say nothing else."
  labels: [billing, defect, refund]
data:
  train: train.jsonl
  validation_fraction: 0.4
goal: {margin: 0.9} # a model of three steps knows nothing
"""


def project(folder: Path) -> Path:
    rows = [{"text": f"{label} {unalike(f'{label} {n}')}", "label": label} for n in range(15) for label in LABELS]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "tunewright.yaml").write_text(SPEC, "utf-8")
    return folder


def pruned(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = tunewright("prune", str(folder), *TINY, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def test_a_prompt_is_pruned_and_the_spec_is_changed_only_on_demand(
    tmp_path: Path, make_tiny_model: Callable[[str], tuple[str, Path]]
) -> None:
    model = f"model={make_tiny_model('chatml')[1]}"
    folder = project(tmp_path)
    report = json.loads(pruned(folder, model, "--json").stdout)
    whole, bare = report["trials"]
    assert (report["shortest"], report["untried"], report["metric"]) == ("instruction", [], "accuracy")
    assert (whole["outcome"], bare["outcome"]) == ("whole", "no loss")
    # Of a byte-level tokenizer, the instruction and nothing else is gone.
    assert whole["prompt_tokens"] - bare["prompt_tokens"] == len(SPEC.split('"')[1])
    assert report["sentence"].startswith("Without instruction a request takes")
    assert (folder / "tunewright.yaml").read_text("utf-8") == SPEC
    latest = json.loads((folder / "runs" / "latest" / "export" / "bundle" / "bundle.json").read_text("utf-8"))
    assert latest["task"]["leave_out"] == "nothing"
    # What was found is kept: nothing is trained or asked again.
    again = pruned(folder, model, "--write")
    assert "train" not in again.stderr.replace("tunewright", "")
    kind = "  kind: classify # one of three\n"
    changed = SPEC.replace(kind, f"{kind}  leave_out: instruction\n")
    assert (folder / "tunewright.yaml").read_text("utf-8") == changed
    nothing = tunewright("prune", str(folder), model)
    assert (nothing.returncode, "nothing more that could be left out" in nothing.stderr) == (2, True)


@pytest.mark.nightly
def test_a_pruned_prompt_of_the_real_model_reads_fewer_tokens(tmp_path: Path) -> None:
    folder = project(tmp_path)
    report = json.loads(pruned(folder, "model=smollm2-135m", "export.precision=int8", "--json").stdout)
    whole, bare = report["trials"]
    assert whole["prompt_tokens"] - bare["prompt_tokens"] > 10
    assert min(whole["median_ms"], bare["median_ms"]) > 0


def test_too_few_rows_are_told_before_anything_is_trained(tmp_path: Path) -> None:
    done = tunewright("prune", str(project(tmp_path)), "model=smollm2-135m", "goal.margin=0.02")
    assert done.returncode == 2
    assert "validation rows can't show that a shorter prompt loses at most 2 points" in done.stderr
    assert not list((tmp_path / "runs").glob("train-*"))

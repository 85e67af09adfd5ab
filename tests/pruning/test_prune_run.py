"""`tunewright prune` on models that run here: a tiny random one, and the real SmolLM2-135M."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.conftest import LABELS, tunewright, unalike
from tests.fixtures.tiny import TINY
from tunewright.config import load_spec
from tunewright.inference.bundle import load_bundle
from tunewright.serving.batch import answer_lines
from tunewright.serving.child import running_server
from tunewright.serving.engine import Engine

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


AROUND = "Here is a ticket of today.\n\nTicket: {text}\n\nWhich team is it for?"


def project(folder: Path, around: str = "{text}") -> Path:
    texts = [(f"{label} {unalike(f'{label} {n}')}", label) for n in range(15) for label in LABELS]
    rows = [{"text": around.replace("{text}", text), "label": label} for text, label in texts]
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
    assert not list((folder / "runs" / "latest").iterdir())  # no trial is a project's latest output
    # What was found is kept: nothing is trained or asked again.
    again = pruned(folder, model, "--write")
    assert "train" not in again.stderr.replace("tunewright", "")
    kind = "  kind: classify # one of three\n"
    changed = SPEC.replace(kind, f"{kind}  leave_out: instruction\n")
    assert (folder / "tunewright.yaml").read_text("utf-8") == changed
    nothing = tunewright("prune", str(folder), model)
    assert (nothing.returncode, "nothing more that could be left out" in nothing.stderr) == (2, True)


def test_a_text_around_the_inputs_is_found_and_clients_may_go_on_sending_it(
    tmp_path: Path, make_tiny_model: Callable[[str], tuple[str, Path]]
) -> None:
    model = f"model={make_tiny_model('chatml')[1]}"
    folder = project(tmp_path, AROUND)
    report = json.loads(pruned(folder, model, "--json", "--write").stdout)
    whole, without, bare = report["trials"]
    assert [each["name"] for each in report["trials"]] == ["whole", "template", "instruction"]
    assert whole["prompt_tokens"] - without["prompt_tokens"] == len(AROUND) - len("{text}")
    assert bare["keys"] == {"task.input_template": AROUND, "task.leave_out": "instruction"}
    spec = load_spec(folder)
    assert (spec.task.input_template, spec.task.model_dump()["leave_out"]) == (AROUND, "instruction")
    # The bundle that is made with the keys takes the text off by itself, on every route and in batches.
    done = tunewright("export", str(folder), model, *TINY)
    assert done.returncode == 0, done.stderr
    bundle = folder / "runs" / "latest" / "export" / "bundle"
    text = f"refund {unalike('a new one')}"
    with running_server(bundle) as address, httpx.Client(base_url=address, timeout=60) as client:
        tokens = [
            client.post("/v1/classify", json={"text": each}).raise_for_status().json()["usage"]["prompt_tokens"]
            for each in (text, AROUND.replace("{text}", text))
        ]
        assert tokens[0] == tokens[1]
        system = {"role": "system", "content": "Route the ticket to one of the teams."}
        asked = {"role": "user", "content": AROUND.replace("{text}", text)}
        body = {"model": "tickets", "messages": [system, asked]}
        reply = client.post("/v1/chat/completions", json=body).raise_for_status().json()
        assert reply["usage"]["prompt_tokens"] == tokens[0]
        empty = client.post("/v1/classify", json={"text": AROUND.replace("{text}", " ")})
        assert (empty.status_code, "between the fixed texts" in empty.text) == (400, True)
    engine = Engine.load(load_bundle(bundle))
    lines = [
        json.dumps({"id": n, "text": each}).encode() for n, each in enumerate((text, AROUND.replace("{text}", text)))
    ]
    short, long = answer_lines(engine, list(enumerate(lines, 1)))
    assert short | {"id": 1} == long


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

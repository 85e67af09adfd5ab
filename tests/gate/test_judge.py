"""What the gate finds in a project that was run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TOKENIZER, python, tunewright, write_project
from tests.gate.made_runs import made_runs
from tunewright.config import Spec, load_spec
from tunewright.core.errors import UserError
from tunewright.data import steps
from tunewright.evaluation.api.paid import PAID
from tunewright.evaluation.verdict.outlived import ended_since
from tunewright.gate import Gate, gate
from tunewright.pipeline import fingerprint as pipeline

MUCH = {"requests_per_month": 10_000_000}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = write_project(tmp_path / "project", traffic=MUCH)
    made_runs(load_spec(folder), folder / "runs")
    return folder


def judged(project: Path, *changes: str) -> Gate:
    return gate(load_spec(project, changes))


def fresh(found: Gate) -> tuple[bool, str]:
    last = found.targets[-1]
    assert last.name == "up to date"
    return last.met, last.found


def test_a_verdict_that_meets_its_targets_passes(project: Path) -> None:
    found = judged(project)
    assert found.passed
    assert (found.name, found.decision) == ("tickets", "switch")
    assert [target.name for target in found.targets] == ["accuracy on test", "P95", "parity", "up to date"]
    assert found.lines[0] == ("A month now", "$14,000 for 10,000,000 requests to gpt-4o.")


def test_a_missed_target_fails(tmp_path: Path) -> None:
    folder = write_project(tmp_path, traffic=MUCH)
    made_runs(load_spec(folder), folder / "runs", share=0.7)
    found = judged(folder)
    assert not found.passed
    assert [target.name for target in found.targets if not target.met] == ["accuracy on test"]


def test_it_says_what_changed_since_the_verdict(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh(judged(project)) == (True, "nothing changed since the verdict")
    met, found = fresh(judged(project, "train.lr=1e-3"))
    assert not met
    assert found.startswith("the spec changed since the verdict; these steps would run again: train, export")
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "one more", "label": "refund"}\n')
    assert fresh(judged(project))[1].startswith("the input of the step check (data.train) changed since the verdict")
    write_project(project, traffic=MUCH)
    assert fresh(judged(project))[0], "as it was"
    monkeypatch.setattr(pipeline, "code_version", lambda package: f"9.9+{package}")
    assert "9.9+data) changed since the verdict; these steps would run again: check" in fresh(judged(project))[1]


def test_the_verdict_of_a_spec_that_was_changed_back_is_found(project: Path) -> None:
    made_runs(load_spec(project, ["goal.accuracy=0.99"]), project / "runs")
    assert not judged(project, "goal.accuracy=0.99").passed
    found = judged(project)
    assert found.passed, "the latest verdict is of another goal"
    assert fresh(found) == (True, "nothing changed since the verdict")


def test_an_api_that_ended_after_the_verdict_is_named(project: Path) -> None:
    (file,) = (project / "runs").glob("verdict-*/verdict.json")
    data = json.loads(file.read_text("utf-8"))
    data["comparison"] = {"apis": {"gpt-4o": {"lifetime": {"end": "2027-01-14", "ended": False}}}}
    data["verdict"] |= {"reference": None, "answers": "served"}
    for day, is_named in (("2027-01-13", False), ("2027-01-14", True)):
        said = ended_since(data, date.fromisoformat(day))
        assert ("has ended: gpt-4o on 2027-01-14." in said) == is_named
    data["comparison"]["apis"]["gpt-4o"]["lifetime"]["ended"] = True
    assert not ended_since(data, date.fromisoformat("2028-01-01")), "the verdict knew it"
    data["comparison"]["apis"]["gpt-4o"]["lifetime"] = {"end": "2020-01-14", "ended": False}
    file.write_text(json.dumps(data), "utf-8")
    assert "has ended: gpt-4o on 2020-01-14." in judged(project).sentence


def test_without_a_verdict_one_paragraph_says_what_to_type(project: Path) -> None:
    shutil.rmtree(project / "runs")
    with pytest.raises(UserError, match="There is no verdict to judge") as error:
        judged(project)
    assert f"tunewright gate {project} --update" in str(error.value)
    own = (project / "tunewright.yaml").rename(project / "its mails.yaml")
    with pytest.raises(UserError) as error:
        judged(own)
    assert f"tunewright gate '{own}' --update" in str(error.value)


def test_a_verdict_that_was_cut_is_one_paragraph(project: Path) -> None:
    file = project / "runs" / "latest" / "verdict" / "verdict.json"
    file.write_text(file.read_text("utf-8")[:100], "utf-8")
    with pytest.raises(UserError, match="can't be read"):
        judged(project)


def ladder(project: Path) -> Spec:
    """A spec of three base models, of which the second is the one whose verdict stands."""
    models = []
    for name in ("small", "middle", "large"):
        shutil.copytree(TOKENIZER, project / name)
        (project / name / "which.txt").write_text(name, "utf-8")
        models.append(str(project / name))
    write_project(project, traffic=MUCH)
    spec = load_spec(project, [f"candidates={json.dumps(models)}"])
    for rung, share in zip(spec.each_candidate[:2], (0.7, 0.97), strict=True):
        made_runs(rung, project / "runs", share=share)
    return spec


def test_a_ladders_standing_verdict_is_judged(tmp_path: Path) -> None:
    found = gate(ladder(tmp_path))
    assert found.passed
    assert fresh(found) == (True, "nothing changed since the verdict")


@pytest.mark.slow
def test_a_ladders_verdict_of_other_settings_is_not_up_to_date(tmp_path: Path) -> None:
    spec = ladder(tmp_path)
    made_runs(load_spec(tmp_path, ["seed=7"]), tmp_path / "runs")
    met, found = fresh(gate(spec))
    assert not met
    assert "belongs to other settings" in found


def test_a_ladders_data_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, hashed = ladder(tmp_path), Counter[str]()
    inside = steps.sha256_file

    def counting(path: Path) -> str:
        hashed[path.name] += 1
        return inside(path)

    monkeypatch.setattr(steps, "sha256_file", counting)
    gate(spec)
    assert hashed["train.jsonl"] == 1


def test_tunewrights_own_source_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, inside = Counter[Path](), pipeline.sha256_file

    def counting(path: Path) -> str:
        hashed[path] += 1
        return inside(path)

    monkeypatch.setattr(pipeline, "sha256_file", counting)
    pipeline.code_version.cache_clear()
    pipeline.source_sha256.cache_clear()
    for package in ("data", "training", "evaluation"):
        pipeline.code_version(package)
    assert hashed
    assert set(hashed.values()) == {1}


@pytest.mark.slow
def test_it_loads_no_library_that_trains_or_serves(project: Path) -> None:
    script = (
        "import sys; from tunewright.cli import main\n"
        "sys.argv = ['tunewright', 'gate', sys.argv[1]]\n"
        "try: main()\n"
        "except SystemExit as end: print('ends with', end.code)\n"
        "heavy = ('torch', 'transformers', 'sklearn', 'scipy', 'onnxruntime', 'openvino', 'huggingface_hub')\n"
        "print('loads', [name for name in heavy if name in sys.modules])"
    )
    done = python("-c", script, str(project))
    assert "✓ up to date: nothing changed since the verdict" in done.stdout, done.stderr
    assert done.stdout.endswith("ends with 0\nloads []\n")


@pytest.mark.slow
def test_manifests_and_the_verdict_are_evidence_enough(project: Path, tmp_path: Path) -> None:
    """What docs/pipelines.md says to commit."""
    page = (REPOSITORY / "docs" / "pipelines.md").read_text("utf-8")
    (project / ".gitignore").write_text(page.partition("```gitignore\n")[2].partition("```")[0], "utf-8")
    (project / "runs" / PAID).write_bytes(b"the text of every paid answer")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(project)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(project), str(clone)], check=True, capture_output=True)
    assert not list(clone.rglob("weights.bin"))
    assert list(project.rglob("weights.bin"))
    assert not list(clone.rglob(PAID))
    done = tunewright("gate", str(clone), "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    assert json.loads(done.stdout)["passed"]

"""The ladder on two sizes of one real model: SmolLM2-135M cut to its first four layers, and the whole of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tunewright as tw
from tests.conftest import tunewright
from tests.fixtures.short_run import SHORT, ShortRun
from tunewright.ladder.forecast import forecast_candidate
from tunewright.models.resolve import resolve

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

EASY = ["goal.accuracy=0.01", "goal.margin=0.9", "goal.p95_ms=100000", "data.group=null"]
"""A goal that everything meets; eight examples of few groups would prove nothing."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tunewright.inference.runtimes.torch_model import load_torch_model

    base, folder = resolve("smollm2-135m", Path()).folder, tmp_path_factory.mktemp("small")
    model = load_torch_model(base)
    model.model.layers = model.model.layers[:4]
    model.config.num_hidden_layers = 4
    model.config.layer_types = None
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, folder / name)
    return folder


def climbed(short_run: ShortRun, small: Path, *changes: str) -> dict:
    ladder = [*SHORT, f"candidates=[{small}, smollm2-135m]", *changes]
    done = tunewright("run", str(short_run.project), *ladder, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.nightly
def test_a_small_model_that_misses_a_target_is_followed_by_the_next(short_run: ShortRun, small: Path) -> None:
    report = climbed(short_run, small)
    first, second = report["ladder"]["tried"][:2]
    assert (first["name"], second["name"]) == (small.name, "smollm2-135m")
    assert any("accuracy on unseen_phrasing" in missed for missed in first["missed"])
    assert report["ladder"]["dearer"] == []
    # The second is the job of the short run: nothing of it is done again.
    assert report["ladder"]["best"] != "smollm2-135m" or report["verdict"] == short_run.report["verdict"]


@pytest.mark.nightly
def test_where_an_svm_is_good_enough_the_ladder_ends(short_run: ShortRun, small: Path) -> None:
    report = climbed(short_run, small, *EASY)
    (only,) = report["ladder"]["tried"]
    assert only["ends"] == "the linear SVM is good enough, so nothing dearer is tried."
    assert report["verdict"]["good_enough"] == "svm"
    assert [each["name"] for each in report["ladder"]["dearer"]] == ["smollm2-135m"]


@pytest.mark.parametrize(
    ("model", "trying", "serving"),
    [
        ("smollm2-135m", " here, or ", "a month on 2 x Standard_"),
        ("mistral-7b", " to train on Standard_", " a month on "),
        ("no-such/model", "an unknown time", "not known either"),
    ],
)
def test_a_dearer_candidate_is_priced(
    model: str, trying: str, serving: str, short_run: ShortRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report = tw.run(tw.load_spec(short_run.project, SHORT))
    found = forecast_candidate(tw.load_spec(short_run.project, [*SHORT, f"model={model}"]), report, [])
    assert (found.name, trying in found.trying, serving in found.serving) == (model, True, True), found


def test_a_wrong_name_further_up_is_told_before_anything_is_trained(short_run: ShortRun, small: Path) -> None:
    done = tunewright("run", str(short_run.project), *SHORT, f"candidates=[{small}, phi-3-mni]")
    assert done.returncode == 2
    assert "phi-3-mini" in done.stderr
    assert "train" not in done.stderr.split("phi-3-mni")[0]

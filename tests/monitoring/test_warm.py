"""A retraining that is to begin with what the champion knows, where that is no adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import make_spec
from tests.monitoring.bundles import bundle_in
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.monitoring.retraining.run import Course, Parts, TrainedChallenger, retrain
from tunewright.monitoring.store import open_store


def test_a_champion_that_is_an_encoder_is_no_beginning(tmp_path: Path) -> None:
    spec, runs = make_spec(tmp_path), tmp_path / "runs"
    bundle = bundle_in(runs / "bundle-1")
    info = json.loads((bundle / "bundle.json").read_text("utf-8"))
    encoder = info | {"runtime": "openvino-encoder", "base_model": "bert", "template_sha256": None}
    (bundle / "bundle.json").write_text(json.dumps(encoder), "utf-8")

    def run(_: Spec) -> TrainedChallenger:
        raise AssertionError("nothing may be trained")

    parts = Parts(
        latest=lambda: bundle,
        collect=lambda: None,
        collect_corrections=lambda: "one",
        freeze=lambda: None,
        run=run,
        appraise=lambda _session, _captures: None,
    )
    with pytest.raises(UserError, match=r"The champion, bert, is not a language model.*Leave --warm out"):
        retrain(spec, open_store(spec), runs, parts, Course(0, None, warm=True))

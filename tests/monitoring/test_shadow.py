"""What a shadow is judged by: the store is real, and the challenger has answered before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.monitoring.bundles import bundle_in
from tests.monitoring.captures import capture, opinion
from tests.monitoring.reviewing import task
from tunewright.core.artifacts import atomic_folder, read_manifest, write_json
from tunewright.inference.bundle import Bundle, read_info
from tunewright.inference.calibration import Calibration
from tunewright.models.linear_model import Ngrams
from tunewright.monitoring.retraining import shadow as module
from tunewright.monitoring.retraining.contest import escalations_count
from tunewright.monitoring.retraining.shadow import Shadow, shadow
from tunewright.monitoring.store import Store

ASKED, DOUBTFUL = 200, 10


def seen(
    store: Store,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    champion: bool | None,
    threshold: float | None,
    **more: bool,
) -> Shadow:
    """What a shadow finds whose challenger doubts 10 of 200 requests.

    Args:
        champion: the champion's flag on all of them.
        threshold: the challenger's.
    """
    bundles = {version: _bundle(folder / version, threshold) for version in ("old", "new")}
    monkeypatch.setattr(module, "load_bundle", lambda at: bundles[at.name])
    captures = [capture(number, f"request {number}", version="old", escalate=champion) for number in range(ASKED)]
    opinions = [opinion(each, each.answer, "new") for each in captures]
    for number, each in enumerate(opinions):
        each.confidence = 0.5 if number < DOUBTFUL else 0.9
    with store.session() as session:
        session.add_all([*captures, *opinions])
    return shadow(store, "tickets", bundles["old"], folder / "new", lambda *_: None, most=ASKED, margin=0.02, **more)


def _bundle(folder: Path, threshold: float | None) -> Bundle:
    info = read_info(bundle_in(folder, folder.name, None)).model_copy(update={"threshold": threshold})
    return Bundle(folder, info, task(), None, Ngrams([], []), Calibration())


def test_a_challenger_that_escalates_more_is_rolled_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = seen(store, tmp_path, monkeypatch, champion=False, threshold=0.7)
    assert found.against == ["10 of its 200 requests were escalated, of the champion's 0 of 200"]


@pytest.mark.parametrize(
    ("champion", "threshold", "counts"), [(None, 0.7, True), (False, None, True), (False, 0.7, False)]
)
def test_escalations_are_compared_only_where_both_have_a_threshold_and_somebody_acts_on_it(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    champion: bool | None,
    threshold: float | None,
    counts: bool,
) -> None:
    found = seen(store, tmp_path, monkeypatch, champion, threshold, escalations=counts)
    assert (found.against, found.escalated) == ([], None)
    assert found.sentence == "In shadow it answered 200 captured requests, 100.0% of them as the champion did."


@pytest.mark.parametrize(("shown", "counts"), [("switch", False), ("cascade", True), (None, True)])
def test_nobody_acts_on_the_flag_of_a_champion_whose_verdict_is_switch(
    tmp_path: Path, shown: str | None, counts: bool
) -> None:
    about: dict[str, Any] = {"fingerprint": "1", "spec_sha256": "", "seed": 0, "code_version": ""}
    inputs = {}
    if shown:
        with atomic_folder(tmp_path / "verdict-1", kind="verdict", inputs={}, **about) as output:
            write_json(output.path / "verdict.json", {"verdict": {"shown": shown}})
        made = read_manifest(tmp_path / "verdict-1")
        assert made
        inputs = {"verdict": made.content}
    with atomic_folder(tmp_path / "bundle-1", kind="bundle", inputs=inputs, **about) as output:
        bundle_in(output.path, "old", None)
    assert escalations_count(tmp_path / "bundle-1") is counts

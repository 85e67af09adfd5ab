from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conftest import spec_data
from tests.drift.made import Asked, asked
from tests.monitoring.bundles import bundle_in
from tests.monitoring.request_logs import capture, write
from tunewright.core.artifacts import atomic_folder, read_manifest
from tunewright.pipeline import step


def captured(project: Path, what: Asked) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    entries = zip(what.texts, what.answers, what.confidences, strict=True)
    write(
        project / "captures",
        *(
            capture(f"{number}", time=yesterday.isoformat(), request=text, answer=answer, confidence=sure)
            for number, (text, answer, sure) in enumerate(entries)
        ),
    )


def drift(project: Path, what: Asked) -> tuple[int, dict]:
    """(exit code, what was found) of the step as a command line."""
    captured(project, what)
    spec = spec_data(monitor={"webhook": "NOT_SET_ON_A_NODE"})
    (project / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    made = {"kind": "bundle", "fingerprint": "0", "spec_sha256": "0", "inputs": {}, "seed": 0, "code_version": "0"}
    with atomic_folder(project / "bundle", **made) as output:
        bundle_in(output.path)
    arguments = ["drift", "--spec", str(project), "--in", f"bundle={project / 'bundle'}"]
    code = step.main([*arguments, "--out", str(project / "drift")])
    return code, json.loads((project / "drift" / "drift.json").read_text("utf-8"))


def test_the_step_tells_a_drift_and_fails_nothing(tmp_path: Path) -> None:
    code, found = drift(tmp_path, asked(300, 2, mix=(0.1, 0.7, 0.2)))
    assert code == 0
    assert {alarm["kind"] for alarm in found["alarms"]} >= {"answer"}
    manifest = read_manifest(tmp_path / "drift")
    assert manifest
    assert manifest.result == {"captures": 300, "alarms": len(found["alarms"])}


def test_the_step_finds_nothing_in_traffic_as_usual_and_tells_no_text(tmp_path: Path) -> None:
    what = asked(300, 2)
    code, found = drift(tmp_path, what)
    assert (code, found["alarms"]) == (0, [])
    said = (tmp_path / "drift" / "drift.json").read_text("utf-8")
    assert not any(text in said for text in what.texts)


def test_too_few_captures_are_told_and_fail_nothing(tmp_path: Path) -> None:
    code, found = drift(tmp_path, asked(20, 2))
    assert (code, found["alarms"]) == (0, [])
    assert all(window["findings"] == [] for window in found["windows"])

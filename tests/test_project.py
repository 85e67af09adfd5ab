from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.api import traffic_of
from tunewright.core.artifacts import atomic_folder, read_manifest
from tunewright.project import NoBundle, Project, served_from, write_serving


def step(latest: Path, name: str, text: str, **inputs: str) -> str:
    """Write an output of a step. Returns its content hash."""
    with atomic_folder(
        latest / name, kind=name, fingerprint="f", spec_sha256="s", inputs=inputs, seed=0, code_version="1"
    ) as output:
        (output.path / "out.txt").write_text(text)
    manifest = read_manifest(latest / name)
    assert manifest
    return manifest.content


@pytest.fixture
def project(tmp_path: Path) -> Path:
    latest = tmp_path / "runs" / "latest"
    exported, verdict = step(latest, "export", "first"), step(latest, "verdict", "good")
    step(latest, "bundle", "both", export=exported, verdict=verdict)
    return tmp_path


def test_the_bundle_of_the_last_verdict_is_served(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Project(project).latest_bundle() == project / "runs" / "latest" / "bundle"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["export", "verdict"])
def test_a_newer_export_is_served_with_a_note(name: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step(project / "runs" / "latest", name, "newer")
    (project / "tunewright.yaml").touch()
    assert traffic_of(project).champion == project / "runs" / "latest" / "export" / "bundle"
    assert "has no threshold. To judge it: tunewright run" in capsys.readouterr().err


def test_a_whole_bundle_is_served_without_its_export(project: Path) -> None:
    import shutil

    shutil.rmtree(project / "runs" / "latest" / "export")
    assert Project(project).latest_bundle() == project / "runs" / "latest" / "bundle"


def test_a_project_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoBundle, match="no bundle yet"):
        Project(tmp_path).latest_bundle()


def test_traffic_and_champion_agree_after_a_bare_export(project: Path) -> None:
    step(project / "runs" / "latest", "export", "newer")
    bare = project / "runs" / "latest" / "export" / "bundle"
    assert Project(project).traffic().champion == Project(project).champion() == bare


def test_a_champion_stays_after_a_newer_export(project: Path) -> None:
    write_serving(project / "runs", served_from("latest/bundle", "1"))
    step(project / "runs" / "latest", "export", "newer")
    assert Project(project).champion() == project / "runs" / "latest" / "bundle"

"""From own answers to corrections: what a job's project keeps of them, and what the ledger says of reviews."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from tests.gateway.conftest import Running, Start
from tests.gateway.test_faults import until
from tests.gateway.test_store import run
from tests.gateway.test_takeover import ask, counts
from tests.gateway.tickets import Messages, request, team_of
from tests.gateway.upstream import Upstream
from tunewright.config import load_spec
from tunewright.data.readers.sources import files
from tunewright.gateway.config import CaptureSpec, JobSpec
from tunewright.monitoring.store import open_store
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.tables import Capture, Review, SecondOpinion
from tunewright.serving.captures import CaptureRecord, read_captures

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tickets: Path, tmp_path: Path) -> Path:
    """A copy of the job's project, without captures."""
    return Path(shutil.copytree(tickets, tmp_path / "mine", symlinks=True, ignore=shutil.ignore_patterns("captures")))


@pytest.fixture
def begin(start: Start, team_api: Upstream, project: Path) -> Callable[..., Running]:
    def begin(mode: str, audit: float = 1.0, **settings: object) -> Running:
        job = JobSpec(project=project, mode=mode, audit=audit)
        return start({"openai": team_api.url}, jobs={"tickets": job}, **settings)

    return begin


def kept(project: Path) -> list[CaptureRecord]:
    return [each for each in read_captures(project / "captures") if isinstance(each, CaptureRecord)]


def test_own_answers_and_the_apis_are_there_for_review(begin: Callable[..., Running], project: Path) -> None:
    running, messages = begin("own"), Messages(1)
    texts = [messages.clear(), messages.unclear()]
    for text in texts:
        ask(running, request(text))
    until(lambda: counts(running)["audits"] == 2)
    spec = load_spec(project)
    store = open_store(spec)
    assert collect(spec, store).captures == 2
    with store.session() as session:
        captures = session.scalars(select(Capture).order_by(Capture.time)).all()
        seconds = {each.capture_id: each for each in session.scalars(select(SecondOpinion))}
    assert [(each.request, each.model, each.escalate) for each in captures] == [
        (texts[0], "tickets", False),
        (texts[1], "tickets", True),
    ]
    assert [(seconds[each.id].source, seconds[each.id].answer) for each in captures] == [
        ("api", team_of(text)) for text in texts
    ]
    assert captures[0].answer == team_of(texts[0])
    assert captures[0].disagreement == 0
    store.close()


@pytest.mark.parametrize("mode", ["shadow", "cascade"])
def test_all_that_the_model_was_asked_is_kept_sure_or_not(
    mode: str, begin: Callable[..., Running], project: Path
) -> None:
    """Drift would see a fall where only the sure ones are kept."""
    running, messages = begin(mode), Messages(1)
    for text in [*(messages.clear() for _ in range(5)), *(messages.unclear() for _ in range(5))]:
        ask(running, request(text))
    until(lambda: len(kept(project)) == 10)
    assert {each.escalate for each in kept(project)} == {True, False}
    assert {each.id for each in kept(project)} == {each.id for each in running.exchanges() if not each.is_audit}


def test_what_nobody_wants_captured_is_not(begin: Callable[..., Running], project: Path, tmp_path: Path) -> None:
    running, messages = begin("own", audit=0), Messages(1)
    no = {"x-tunewright-capture": "no"}
    httpx.post(f"{running.url}/v1/chat/completions", json=request(messages.clear()), headers=no, timeout=30)
    assert kept(project) == []
    redacting = begin("own", audit=0, capture=CaptureSpec(folder=tmp_path / "others", redact=True))
    ask(redacting, request("My invoice went to anna.schmidt@example.org, a refund please"))
    assert [each.request for each in kept(project)] == ["My invoice went to [EMAIL], a refund please"]
    assert [each.answer for each in kept(project)] == ["billing"]


def test_without_captures_nothing_is_kept(begin: Callable[..., Running], project: Path) -> None:
    ask(begin("own", audit=0, capture=None), request(Messages(1).clear()))
    assert not (project / "captures").exists()


def test_a_read_only_projects_answers_are_captured_beside_the_gateways(
    begin: Callable[..., Running], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a pod, whose projects are mounted read-only."""
    (project / "captures").write_text("a file in the folder's place", "utf-8")
    running, text = begin("own"), Messages(1).clear()
    assert ask(running, request(text)).headers["x-tunewright-answered-by"] == "own"
    until(lambda: counts(running)["audits"] == 1)
    folder = running.captures / ".own" / "tickets"
    assert f"answers are captured for review in {folder}." in capsys.readouterr().err
    assert len(running.exchanges()) == 2, "own answers are not among the exchanges"
    assert {each.path.parent for each in files(running.captures)} == {running.captures}, "nor among data"
    spec = load_spec(project, [f"monitor.captures={folder}"])
    store = open_store(spec)
    assert collect(spec, store).captures == 1
    with store.session() as session:
        (capture,) = session.scalars(select(Capture))
        (second,) = session.scalars(select(SecondOpinion))
    assert (capture.request, capture.answer) == (text, team_of(text))
    assert (second.capture_id, second.answer) == (capture.id, team_of(text))
    store.close()


def test_folders_that_cant_be_written_to_cost_no_answer(
    begin: Callable[..., Running], project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (project / "captures", tmp_path / "captures" / ".own"):
        folder.parent.mkdir(exist_ok=True)
        folder.write_text("a file in the folder's place", "utf-8")
    assert ask(begin("own", audit=0), request(Messages(1).clear())).headers["x-tunewright-answered-by"] == "own"
    assert "tickets: the own model's answers are not captured for review" in capsys.readouterr().err


def test_the_ledger_counts_what_people_corrected(begin: Callable[..., Running], project: Path, tmp_path: Path) -> None:
    running, messages = begin("own"), Messages(1)
    for _ in range(3):
        ask(running, request(messages.clear()))
    until(lambda: counts(running)["audits"] == 3)
    file = tmp_path / "gateway.yaml"
    file.write_text(f"upstreams: {{openai: {{url: openai}}}}\njobs: {{tickets: {{project: {project}}}}}\n", "utf-8")
    assert " of " not in run("gateway", "ledger", file).partition("To date")[0]
    spec = load_spec(project)
    store = open_store(spec)
    collect(spec, store)
    with store.session() as session:
        first, second, _ = session.scalars(select(Capture).order_by(Capture.time)).all()
        for capture, right in ((first, True), (second, False)):
            about = {"capture_id": capture.id, "reviewer": "anna", "time": datetime.now(UTC), "source": "review"}
            session.add(Review(**about, answer="account", right=right))
    store.close()
    assert "1 of 2" in run("gateway", "ledger", file, "--page", tmp_path / "ledger.html")
    assert "<td>1 of 2</td>" in (tmp_path / "ledger.html").read_text("utf-8")
    assert '"corrected": 1' in run("gateway", "ledger", file, "--json")
    (project / "monitor.db").write_text("no database\n" * 200, "utf-8")
    assert "tickets: corrections are not known. " in run("gateway", "ledger", file)

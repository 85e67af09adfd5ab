"""A month of operation, played in an hour: real servers, the real store, queue, watch and retraining, and a reviewer
who knows the truth. Only the calendar is played: what servers captured is moved to the day that is being played.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import time_machine

import tunewright as tw
from tunewright import api
from tunewright.config import Spec
from tunewright.monitoring.queue import waiting
from tunewright.monitoring.retraining.run import Course
from tunewright.monitoring.retraining.status import outlook
from tunewright.monitoring.store import Store, open_store
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.watch import watch
from tunewright.project import Project
from tunewright.review.acts import ReviewChoice, save
from tunewright.serving.child import running_server

EXPERT = "expert"
LOG = "serve.log"


@dataclass(frozen=True)
class Ticket:
    text: str
    label: str


@dataclass(frozen=True)
class Day:
    """A day that was played."""

    number: int
    with_loop: float
    """Share of right answers of the model that served."""
    without: float
    """That of the first model."""
    version: str
    """That served."""
    alarms: list[str]
    reviewed: int
    event: str | None
    """What a retraining in the evening ended with."""
    sentence: str = ""


def play(project: Path, days: Sequence[Sequence[Ticket]], *, reviews: int, course: Course) -> Iterator[Day]:
    """Play days, one after the other, with a model that was made before.

    Args:
        days: what is asked on each.
        reviews: how many captures the expert reviews in the evening, from the top of the queue.
        course: how challengers are tried.
    """
    spec, store = tw.load_spec(project), open_store(tw.load_spec(project))
    first = Project(project).latest_bundle().resolve()
    truth = {ticket.text: ticket.label for day in days for ticket in day}
    start = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    live, moved, promoted = project / "live", 0, False
    with _serving(project, live) as served, running_server(first) as unchanged:
        for number, tickets in enumerate(days, 1):
            today = start + timedelta(days=number)
            replies = [_ask(served, ticket) for ticket in tickets]
            # Until another one serves, the first model's answers are those that were given.
            before = [_ask(unchanged, ticket) for ticket in tickets] if promoted else replies
            versions = _move(live, moved, spec.path(spec.monitor.captures), today)
            moved += len(versions)
            # The day is over: drift reads whole days.
            with time_machine.travel(today.replace(hour=0) + timedelta(days=1, minutes=5)):
                collect(spec, store)
                alarms = [alarm.kind for alarm in watch(spec, store)]
                done = _review(spec, store, truth, reviews)
                due = outlook(spec, store).due
                retrained = api.retrain(spec, course) if due else None
            if retrained and retrained.event == "promoted":
                promoted = True
                _wait_for(project / LOG, f"version {retrained.champion}")  # a server looks once a second
            yield Day(
                number,
                _right(replies, tickets),
                _right(before, tickets),
                " ".join(sorted(set(versions))),
                alarms,
                done,
                retrained.event if retrained else None,
                retrained.sentence if retrained else "",
            )
    store.close()


@contextmanager
def _serving(project: Path, captures: Path) -> Iterator[str]:
    """The project's server, which watches what is to serve; yields its address."""
    log = project / LOG
    command = [sys.executable, "-m", "tunewright", "serve", str(project), "--port", "0", "--captures", str(captures)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, text=True)
    try:
        yield _wait_for(log, "is ready at ").split()[0]
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(log: Path, words: str) -> str:
    """Wait until a server has said some words. Returns what it said behind them."""
    end = time.monotonic() + 120
    while words not in (said := log.read_text("utf-8")):
        assert time.monotonic() < end, said
        time.sleep(0.1)
    return said.split(words)[1]


def _ask(address: str, ticket: Ticket) -> str:
    reply = httpx.post(f"{address}/v1/classify", json={"text": ticket.text}, timeout=60)
    return str(reply.raise_for_status().json()["label"])


def _right(replies: Sequence[str], tickets: Sequence[Ticket]) -> float:
    return sum(reply == ticket.label for reply, ticket in zip(replies, tickets, strict=True)) / len(tickets)


def _move(live: Path, moved: int, captures: Path, day: datetime) -> list[str]:
    """What servers wrote behind the first `moved` entries becomes the journal of a day. Returns who answered each."""
    lines = [line for file in sorted(live.glob("captures-*.jsonl")) for line in file.read_text("utf-8").splitlines()]
    fresh = [json.loads(line) for line in lines[moved:]]
    captures.mkdir(exist_ok=True)
    with (captures / f"captures-{day:%Y%m%d}.jsonl").open("w", encoding="utf-8") as stream:
        for second, entry in enumerate(fresh):
            when = (day + timedelta(seconds=second)).isoformat(timespec="milliseconds")
            stream.write(json.dumps(entry | {"time": when}) + "\n")
    return [entry["version"] for entry in fresh]


def _review(spec: Spec, store: Store, truth: dict[str, str], most: int) -> int:
    for done in range(most):
        with store.session() as session:
            capture = waiting(session, spec.name, EXPERT)
            if capture is None:
                return done
            verdict = ReviewChoice(answer=truth[capture.request])
            save(session, [capture.id], spec.name, EXPERT, verdict, source="review", wanted=1)
    return most

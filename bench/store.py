"""How fast captures are collected, and what opening a store and redacting a request take.

    python bench/store.py [captures]         # 100,000 by default; PostgreSQL too where it is installed

The peer is the least that could be done: each line parsed with `json.loads` and inserted into one SQLite table without
an index, in the same batches. It is compared by the time of a processor, which other work on the machine changes less;
what PostgreSQL's own processes take is not in it. The texts are tickets of 30 to 120 words, no two the same.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, select

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' helpers
from tests.conftest import make_spec
from tests.monitoring.conftest import PostgreSQL, execute, postgres_programs

from tunewright.config import Spec
from tunewright.monitoring.store import Store, tables
from tunewright.monitoring.store.collect import BATCH_LINES, collect
from tunewright.monitoring.store.database import open_at
from tunewright.serving.captures import CaptureRecord, RequestLog, request_logs
from tunewright.serving.redaction import redact

WORDS = [
    "card",
    "transfer",
    "pending",
    "refund",
    "cash",
    "fee",
    "abroad",
    "lost",
    "exchange",
    "rate",
    "arrived",
    "identity",
    "declined",
    "please",
    "the",
    "my",
    "was",
    "not",
    "since",
    "yesterday",
    "order",
    "invoice",
    "account",
    "help",
]


def text_of(rng: random.Random, words: int) -> str:
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(10) or ''}" for _ in range(words))


def fill(folder: Path, count: int) -> None:
    rng, request_log = random.Random(0), RequestLog(folder)
    for _ in range(count):
        request_log.keep(
            CaptureRecord(
                id=uuid.UUID(int=rng.getrandbits(128)).hex,
                time="2026-11-27T01:30:00.123+00:00",
                model="tickets",
                version="0" * 16,
                by="shop",
                request=text_of(rng, rng.randint(30, 120)),
                answer=rng.choice(WORDS),
                confidence=rng.random(),
                escalate=False,
                in_scope=True,
                prompt_tokens=90,
                answer_tokens=2,
                seconds=0.03,
            )
        )
    request_log.close()


def plain(folder: Path, database: Path) -> float:
    """Seconds of a processor that the peer takes."""
    started = time.process_time()
    connection = sqlite3.connect(database)
    names = list(CaptureRecord.model_fields)
    connection.execute(f"CREATE TABLE captures ({', '.join(f'{name!r}' for name in names)})")
    batch = []
    for file in request_logs(folder):
        with file.open("rb") as lines:
            for line in lines:
                said = json.loads(line)
                batch.append([said[name] for name in names])
                if len(batch) == BATCH_LINES:
                    _insert(connection, batch)
    _insert(connection, batch)
    return time.process_time() - started


def _insert(connection: sqlite3.Connection, batch: list[list[object]]) -> None:
    connection.executemany(f"INSERT INTO captures VALUES ({', '.join('?' * len(CaptureRecord.model_fields))})", batch)
    connection.commit()
    batch.clear()


def measured(name: str, spec: Spec, open_it: Callable[[], Store], count: int, peer: float) -> None:
    store = open_it()
    started, began = time.perf_counter(), time.process_time()
    collect(spec, store)
    seconds, used = time.perf_counter() - started, time.process_time() - began
    with store.session() as session:
        assert session.scalar(select(func.count()).select_from(tables.Capture)) == count
    opened = []
    for _ in range(5):
        started = time.perf_counter()
        open_it().close()
        opened.append(time.perf_counter() - started)
    print(
        f"{name}: {count / seconds:,.0f} captures a second; {1e6 * used / count:.0f} us of a processor each here, "
        f"{used / peer:.1f} times the peer; opened again in {1000 * statistics.median(opened):.1f} ms"
    )


def redaction() -> None:
    rng = random.Random(1)
    for words in (30, 120, 1000, 20_000):
        text = f"{text_of(rng, words)} Mrs. Ada Lovelace, ada@example.org, DE89 3704 0044 0532 0130 00"
        entry = CaptureRecord(
            id="1",
            time="",
            model="m",
            by=None,
            version="v",
            request=text,
            answer="refund",
            confidence=None,
            escalate=None,
            in_scope=None,
        )
        took = []
        for _ in range(max(5, 3000 // words)):
            started = time.process_time()
            redact(entry, from_fixed_set=True)
            took.append(time.process_time() - started)
        print(
            f"redacting a request of {words:,} words ({len(text):,} letters): {1000 * statistics.median(took):.2f} ms"
        )


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = make_spec(folder)
        fill(folder / "captures", count)
        peer = plain(folder / "captures", folder / "peer.db")
        print(f"peer: {1e6 * peer / count:.0f} us of a processor each")
        measured("SQLite", spec, lambda: open_at(f"sqlite:///{folder / 'monitor.db'}"), count, peer)
        programs = postgres_programs()
        if programs is not None:
            with PostgreSQL(programs) as server:
                execute(server.address.format("postgres"), "CREATE DATABASE bench")
                measured("PostgreSQL", spec, lambda: open_at(server.address.format("bench")), count, peer)
    redaction()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 100_000)

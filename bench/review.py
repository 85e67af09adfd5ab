"""The review app with many captures: how long a page takes, over HTTP, and how good its clusters are.

    python bench/review.py                                     # 100,000 captures in SQLite; --count N for others
    python bench/review.py --database postgresql://user@host/empty
    python bench/review.py --clusters                          # requests of one cluster, and their true labels

The data sets: bench/data_sets.py. Requests are those of BANKING77's training part, alone and joined with
another's words in front, so that all are different texts; one answer in five is another label. One capture in five has
a second opinion, and one in ten is reviewed, a fifth of these by two people. The server runs in a process of its own,
and each page is asked for a hundred times, one after the other, by somebody who is signed in.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import tempfile
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import numpy as np
from data_sets import DATA
from sqlalchemy import DDL

from tunewright.core.processes import listener
from tunewright.monitoring.queue import appraise, clusters
from tunewright.monitoring.store.database import Store, open_at
from tunewright.monitoring.store.tables import Capture, Review, SecondOpinion
from tunewright.review.answers import AnswerForm
from tunewright.review.app import build_app
from tunewright.review.people import OneTimeLink, Person
from tunewright.review.site import Site
from tunewright.tasks import ClassifyTask

START = datetime(2026, 11, 1, tzinfo=UTC)
TIMES = 100


def rows_of(name: str) -> list[tuple[str, str]]:
    lines = (DATA / name / "train.jsonl").read_text("utf-8").splitlines()
    return [(row["text"], row["label"]) for row in map(json.loads, lines)]


def seed(store: Store, count: int) -> None:
    draw = random.Random(0)
    rows = rows_of("banking77")
    labels = sorted({label for _, label in rows})
    started = time.monotonic()
    for start in range(0, count, 5000):
        with store.session() as session:
            captures = []
            for number in range(start, min(start + 5000, count)):
                text, label = rows[number % len(rows)]
                if number >= len(rows):
                    text = f"{draw.choice(rows)[0]} {text}"
                given = label if draw.random() < 0.8 else draw.choice(labels)
                capture = Capture(
                    id=f"{draw.getrandbits(128):032x}",
                    time=START + timedelta(seconds=20 * number),
                    model="bench",
                    version="v1",
                    request=text,
                    answer=given,
                    confidence=draw.betavariate(4, 1),
                )
                captures.append(capture)
                if number % 5 == 0:
                    other = label if draw.random() < 0.9 else draw.choice(labels)
                    session.add(SecondOpinion(capture_id=capture.id, source="api", time=START, answer=other))
                if number % 10 == 0:
                    people = ("ann", "bob") if number % 50 == 0 else ("ann",)
                    said = label if draw.random() < 0.9 else draw.choice(labels)
                    for person in people:
                        session.add(
                            Review(
                                capture_id=capture.id,
                                reviewer=person,
                                time=START,
                                source="review",
                                act=f"{number:x}",
                                answer=said,
                                right=said == given,
                            )
                        )
                    capture.state = "done"
            session.add_all(captures)
            session.flush()
            appraise(session, captures, None)
    with store.session() as session:
        if session.get_bind().dialect.name == "postgresql":  # which its autovacuum does within a minute
            session.execute(DDL("ANALYZE"))
    print(f"{count:,} captures stored in {time.monotonic() - started:.0f} s")


def serve(address: str, port: int, secret: Any) -> None:
    import uvicorn

    labels = sorted({label for _, label in rows_of("banking77")})
    link = OneTimeLink(Person("bench", "admin"))
    site = Site(open_at(address), "bench", AnswerForm(ClassifyTask("Which?", dict.fromkeys(labels, "")), {}), link=link)
    bound = listener("127.0.0.1", port)
    bound.listen()
    secret.put((bound.getsockname()[1], link.secret))
    uvicorn.Server(uvicorn.Config(build_app(site), log_level="warning")).run(sockets=[bound])


def measure(address: str) -> None:
    told: Any = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(address, 0, told), daemon=True)
    server.start()
    port, secret = told.get()
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=60) as client:
        client.get(f"/sign-in/link?secret={secret}").raise_for_status()

        def ask(name: str, method: str, path: str, **form: Any) -> str:
            started = time.perf_counter()
            answer = client.request(method, path, data=form or None).raise_for_status()
            seconds[name].append(time.perf_counter() - started)
            return answer.text

        for _ in range(TIMES):
            page = ask("queue", "GET", "/")
            (shown,) = re.findall(r'action="/item/(\w+)"', page)
            (csrf,) = set(re.findall(r'name="csrf" value="([\w-]+)"', page))
            ask("save, and the next", "POST", f"/item/{shown}", csrf=csrf, say="right")
            ask("alike", "GET", f"/alike/{shown}")
            ask("undo, and that item", "POST", "/undo", csrf=csrf)
            ask("save, and the next", "POST", f"/item/{shown}", csrf=csrf, say="none")
            ask("further on", "GET", f"/?after={shown}")
            ask("history", "GET", "/history")
            ask("agreement", "GET", "/agreement")
            ask("overview", "GET", "/overview")
    server.terminate()
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'page':20}{'median ms':>12}{'P95 ms':>10}")
    for name, taken in seconds.items():
        print(f"{name:20}{1000 * np.median(taken):12.1f}{1000 * np.quantile(taken, 0.95):10.1f}")


def judge_clusters() -> None:
    print(f"{'data':18}{'requests':>9}{'in clusters':>13}{'of its main label':>19}{'largest':>9}")
    for name in ("bitext_support", "banking77", "clinc150_oos"):
        rows = rows_of(name)
        found: defaultdict[str, list[str]] = defaultdict(list)
        for key, (_, label) in zip(clusters([text for text, _ in rows]), rows, strict=True):
            found[key].append(label)
        several = [labels for labels in found.values() if len(labels) > 1]
        joined = sum(map(len, several))
        main = sum(Counter(labels).most_common(1)[0][1] for labels in several)
        print(f"{name:18}{len(rows):9,}{joined / len(rows):13.1%}{main / joined:19.1%}{max(map(len, several)):9}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--database", help="address of an empty database")
    parser.add_argument("--clusters", action="store_true")
    options = parser.parse_args()
    if options.clusters:
        judge_clusters()
        return
    with tempfile.TemporaryDirectory() as folder:
        address = options.database or f"sqlite:///{folder}/monitor.db"
        store = open_at(address)
        seed(store, options.count)
        store.close()
        measure(address)


if __name__ == "__main__":
    main()

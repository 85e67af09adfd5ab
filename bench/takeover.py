"""A paid API is replaced job by job, under the eyes of an application that notices nothing.

    python bench/takeover.py [SVG]             # some four minutes; SVG: a picture of the bill is written there

An application asks through the gateway with the official clients, synchronous and asynchronous, streamed, and with
structured output: questions to a bank (BANKING77) and to a shop (Bitext). The API is played by a server that is right
to a known degree, refuses one request of a hundred and fails one of two hundred, is sometimes slow, and bills by a
meter of its own (`takeover_upstream.py`). All of the gateway is real, and so are the commands that are typed.

Observe, find the jobs, make a project of each, train a linear model, shadow, a tenth in cascade, all in cascade; then
the traffic changes: half of the bank's questions are of kinds that nobody asked before. The gateway has to notice that
and to take the bank back. It is trained again on what was captured, and goes into cascade again; the shop goes over to
its own model; and the gateway is killed. It checks that

- no request fails at the client, which retries connections only,
- the ledger and the upstream's meter differ by less than 1 %, as do both sums of what the API alone would have cost,
- what clients got is never less accurate than the API by more than the margin (2 points), in any stage of either job. A
  stage are the phases in which a job is answered in the same way.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from data_sets import root
from openai import APIConnectionError, AsyncOpenAI, OpenAI
from takeover_upstream import PaidApi, serve

from tunewright.core.processes import free_port

MODEL = "gpt-4o"
MARGIN = 0.02
SIZES = {"observe": 5000, "shadow": 600, "a tenth in cascade": 600, "cascade": 1500, "the traffic changes": 4000}
SIZES |= {"trained again": 900, "cascade again": 1500, "the shop by its own model": 2000, "a kill": 1000}
"""Requests in each phase."""
STAGES = {
    "bank": {"the shop by its own model": "cascade again", "a kill": "cascade again"},
    "shop": {"the traffic changes": "cascade", "trained again": "cascade", "cascade again": "cascade"}
    | {"a kill": "the shop by its own model"},
}
"""The phases of each job in which nothing changes for it, with the phase that began it."""
CLIENTS = 12
OLD_INTENTS = 40
"""Intents of the bank before the change."""


@dataclass(frozen=True)
class Job:
    name: str
    system: str
    rows: list[tuple[str, str]]
    """(text, label)"""
    is_structured: bool

    def body(self, text: str) -> dict[str, Any]:
        messages = [{"role": "system", "content": self.system}, {"role": "user", "content": text}]
        asked: dict[str, Any] = {"model": MODEL, "messages": messages, "temperature": 0}
        if self.is_structured:
            labels = sorted({label for _, label in self.rows})
            schema = {
                "type": "object",
                "properties": {"intent": {"enum": labels}},
                "required": ["intent"],
                "additionalProperties": False,
            }
            asked["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "intent", "schema": schema, "strict": True},
            }
        return asked


@dataclass(frozen=True)
class Got:
    """What a client got."""

    phase: str
    job: str
    text: str
    label: str
    answer: str
    at: float
    seconds: float


def jobs() -> list[Job]:
    def rows(name: str) -> list[tuple[str, str]]:
        lines = (root() / name / "train.jsonl").read_text("utf-8").splitlines()
        return list(dict.fromkeys((row["text"], row["label"]) for row in map(json.loads, lines)))

    def prompt(who: str, found: list[tuple[str, str]]) -> str:
        listed = ", ".join(sorted({label for _, label in found}))
        return (
            f"You sort the questions of {who}. Answer with exactly one intent of this list, and nothing else: {listed}"
        )

    bank, shop = rows("banking77"), rows("bitext_support")
    return [
        Job("bank", prompt("a bank's customers in its app", bank), bank, is_structured=False),
        Job("shop", prompt("customers of an online shop", shop), shop, is_structured=True),
    ]


class Application:
    """Asks by whichever client's turn it is. It asks again where a connection fails, and only then."""

    def __init__(self, url: str):
        self._url = url
        self.got: list[Got] = []
        self.failed: list[str] = []
        self._began = time.monotonic()

    def run(self, phase: str, asked: Sequence[tuple[Job, str, str]]) -> None:
        """Ask all of them, half by synchronous clients in threads."""
        threads = [
            threading.Thread(target=self._synchronously, args=(phase, asked[number::CLIENTS]))
            for number in range(CLIENTS // 2)
        ]
        for thread in threads:
            thread.start()
        asyncio.run(self._asynchronously(phase, [asked[number::CLIENTS] for number in range(CLIENTS // 2, CLIENTS)]))
        for thread in threads:
            thread.join()

    def _synchronously(self, phase: str, asked: Sequence[tuple[Job, str, str]]) -> None:
        client = OpenAI(base_url=self._url, api_key="sk-1", max_retries=0, timeout=60)
        for number, (job, text, label) in enumerate(asked):

            def ask(job: Job = job, text: str = text, number: int = number) -> str:
                if number % 2:
                    return client.chat.completions.create(**job.body(text)).choices[0].message.content or ""
                options: Any = {"include_usage": True}
                stream = client.chat.completions.create(**job.body(text), stream=True, stream_options=options)
                return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

            begun, answer = time.monotonic(), None
            while answer is None:
                try:
                    answer = ask()
                except (APIConnectionError, httpx.TransportError):
                    time.sleep(0.2)
                except Exception as error:  # noqa: BLE001 (it is counted as failed)
                    self.failed.append(repr(error))
                    answer = ""
            self._note(phase, job, text, label, answer, begun)

    async def _asynchronously(self, phase: str, parts: Sequence[Sequence[tuple[Job, str, str]]]) -> None:
        async with AsyncOpenAI(base_url=self._url, api_key="sk-1", max_retries=0, timeout=60) as client:

            async def one(asked: Sequence[tuple[Job, str, str]]) -> None:
                for job, text, label in asked:
                    begun, answer = time.monotonic(), None
                    while answer is None:
                        try:
                            reply = await client.chat.completions.create(**job.body(text))
                            answer = reply.choices[0].message.content or ""
                        except (APIConnectionError, httpx.TransportError):
                            await asyncio.sleep(0.2)
                        except Exception as error:  # noqa: BLE001 (it is counted as failed)
                            self.failed.append(repr(error))
                            answer = ""
                    self._note(phase, job, text, label, answer, begun)

            await asyncio.gather(*map(one, parts))

    def _note(self, phase: str, job: Job, text: str, label: str, answer: str, begun: float) -> None:
        said = answer
        if job.is_structured:
            with suppress(ValueError, KeyError):
                said = json.loads(answer)["intent"]
        now = time.monotonic()
        self.got.append(Got(phase, job.name, text, label, said, now - self._began, now - begun))


class Gateway:
    """The gateway's process, and the commands beside it."""

    def __init__(self, folder: Path, upstream: int):
        self.folder, self._port = folder, free_port()
        self.url = f"http://127.0.0.1:{self._port}/v1"
        self._upstream = upstream
        self.jobs: dict[str, str] = {}
        """Name to project."""
        self.write()
        self.start()

    def write(self) -> None:
        listed = "".join(f"  {name}: {{project: {project}, audit: 0.05}}\n" for name, project in self.jobs.items())
        (self.folder / "gateway.yaml").write_text(
            f"upstreams: {{openai: {{url: 'http://127.0.0.1:{self._upstream}/v1', retries: 4}}}}\n"
            f"capture: {{folder: captures}}\n" + (f"jobs:\n{listed}" if listed else ""),
            "utf-8",
        )

    def start(self) -> None:
        words = [sys.executable, "-m", "tunewright", "gateway", "gateway.yaml", "--port", str(self._port)]
        log = (self.folder / "gateway.log").open("a")
        self._process = subprocess.Popen(words, cwd=self.folder, stdout=log, stderr=log)

    def wait(self) -> None:
        for _ in range(300):
            with suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{self._port}/ready").is_success:
                    return
            time.sleep(0.1)
        sys.exit((self.folder / "gateway.log").read_text("utf-8")[-2000:])

    def kill(self) -> None:
        """Kill it amid its work, and start it again as a supervisor would."""
        time.sleep(1.5)
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.start()

    def reload(self) -> None:
        said = (self.folder / "gateway.log").read_text("utf-8").count("were read again")
        self._process.send_signal(signal.SIGHUP)
        for _ in range(600):
            if (self.folder / "gateway.log").read_text("utf-8").count("were read again") > said:
                return
            time.sleep(0.1)
        sys.exit((self.folder / "gateway.log").read_text("utf-8")[-2000:])

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def type(self, *words: str) -> str:
        """Type a command of tunewright, and give what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "tunewright", *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"tunewright {' '.join(words)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def mode(self, job: str, *words: str) -> None:
        print("  $ " + self.type("gateway", "mode", job, *words).strip(), flush=True)
        time.sleep(1.5)  # it is followed within a second


def train(gateway: Gateway, captures: str, beginning: str, project: str) -> None:
    """Make a project of the job whose prompt begins so, and train a linear model."""
    found = json.loads(gateway.type("traffic", "ls", captures, "--json"))["jobs"]
    job = next(each for each in found if beginning in each["outline"])
    gateway.type("init", captures, "--from-traffic", job["name"], "--out", project)
    file = gateway.folder / project / "tunewright.yaml"
    text, count = re.subn(r"(?m)^candidates: .*$", "model: linear", file.read_text("utf-8"))
    assert count == 1
    file.write_text(text, "utf-8")
    gateway.type("run", project)
    print(f"  {job['name']}: {job['requests']:,.0f} requests → {project}", flush=True)


class Traffic:
    """The texts of both jobs, each asked once. Before the change the bank has `OLD_INTENTS` kinds of questions."""

    def __init__(self, listed: Sequence[Job]):
        chance = random.Random(0)
        self._chance = chance
        bank, shop = listed
        old = set(sorted({label for _, label in bank.rows})[:OLD_INTENTS])
        self._pools = {
            "old": [(bank, *row) for row in bank.rows if row[1] in old],
            "new": [(bank, *row) for row in bank.rows if row[1] not in old],
            "shop": [(shop, *row) for row in shop.rows],
        }
        for pool in self._pools.values():
            chance.shuffle(pool)
        self._at = dict.fromkeys(self._pools, 0)

    def take(self, count: int, *, changed: bool) -> list[tuple[Job, str, str]]:
        names = ["old", "new", "shop"] if changed else ["old", "shop"]
        weights = [0.3, 0.3, 0.4] if changed else [0.6, 0.4]
        return [self._one(name) for name in self._chance.choices(names, weights, k=count)]

    def _one(self, name: str) -> tuple[Job, str, str]:
        pool = self._pools[name]
        self._at[name] += 1
        return pool[(self._at[name] - 1) % len(pool)]


def main(picture: Path | None) -> None:
    listed = jobs()
    truth = {text: label for job in listed for text, label in job.rows}
    port = free_port()
    with tempfile.TemporaryDirectory() as name, played(truth, port):
        gateway = Gateway(Path(name), port)
        gateway.wait()
        application, traffic = Application(gateway.url), Traffic(listed)
        bills: dict[str, float] = {}

        def metered() -> float:
            return float(httpx.get(f"http://127.0.0.1:{port}/meter").json()["usd"])

        def phase(what: str, *, changed: bool = False, meanwhile: Callable[[], None] | None = None) -> None:
            before = metered()
            asked = traffic.take(SIZES[what], changed=changed)
            helper = threading.Thread(target=meanwhile) if meanwhile else None
            if helper:
                helper.start()
            begun = time.monotonic()
            application.run(what, asked)
            rate = len(asked) / (time.monotonic() - begun)
            print(f"{what}: {len(asked):,} requests, {rate:,.0f} a second", flush=True)
            if helper:
                helper.join()
            time.sleep(0.5)  # the last audits
            bills[what] = metered() - before

        phase("observe")
        for beginning, job in (("a bank's", "bank"), ("an online shop", "shop")):
            train(gateway, "captures", beginning, job)
            gateway.jobs[job] = job
        gateway.write()
        gateway.reload()
        for job in gateway.jobs:
            gateway.mode(job, "shadow")
        phase("shadow")
        print(gateway.type("gateway", "jobs"), flush=True)
        for job in gateway.jobs:
            gateway.mode(job, "cascade", "--share", "0.1")
        phase("a tenth in cascade")
        for job in gateway.jobs:
            gateway.mode(job, "cascade")
        phase("cascade")
        phase("the traffic changes", changed=True)
        print("  " + gateway.type("gateway", "changes").splitlines()[0], flush=True)
        train(gateway, "captures", "a bank's", "bank-2")
        gateway.jobs["bank"] = "bank-2"
        gateway.write()
        gateway.reload()
        phase("trained again", changed=True)
        gateway.mode("bank", "cascade")
        phase("cascade again", changed=True)
        gateway.mode("shop", "own")
        phase("the shop by its own model", changed=True)
        phase("a kill", changed=True, meanwhile=gateway.kill)
        time.sleep(3)
        found = json.loads(gateway.type("gateway", "ledger", "--json"))
        print(gateway.type("gateway", "ledger"))
        print(gateway.type("gateway", "changes"))
        meter = httpx.get(f"http://127.0.0.1:{port}/meter").json()
        observed = read_observed(gateway.folder / "captures")
        gateway.stop()
    report(application, truth, found, meter, observed, listed)
    if picture:
        draw(picture, application, bills, truth, listed)


@contextmanager
def played(truth: dict[str, str], port: int) -> Any:
    """The paid API in a process of its own."""
    child = os.fork()
    if child == 0:
        serve(truth, port)
        os._exit(0)
    try:
        for _ in range(100):
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/meter")
                break
            time.sleep(0.1)
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def read_observed(captures: Path) -> float:
    """What was paid before there were jobs in the settings: the captures have it, the ledger begins later."""
    from tunewright.gateway.exchanges import read_exchanges

    return sum(each.usd or 0.0 for each in read_exchanges(captures) if each.job is None)


def alone(api: PaidApi, job: Job, text: str) -> float:
    """What the API would bill for a request."""
    body = job.body(text)
    return api.usd(api.bill(body["messages"], api.spoken(body)), MODEL)


def report(
    application: Application,
    truth: dict[str, str],
    found: dict[str, Any],
    meter: dict[str, Any],
    observed: float,
    listed: Sequence[Job],
) -> None:
    """Print what was checked. Exits with 1 if something did not hold."""
    api, by_name, faults = PaidApi(truth), {job.name: job for job in listed}, []
    print(f"{'':28}{'requests':>9}{'clients got':>13}{'API alone':>11}{'P50 ms':>8}{'P95 ms':>8}")
    for job, what in ((job, what) for job in by_name for what in SIZES if what not in STAGES[job]):
        phases = [what, *(phase for phase, stage in STAGES[job].items() if stage == what)]
        got = [each for each in application.got if each.phase in phases and each.job == job]
        right = sum(each.answer == each.label for each in got) / len(got)
        theirs = sum(api.answer(each.text) == each.label for each in got) / len(got)
        taken = sorted(1000 * each.seconds for each in got)
        p50, p95 = (taken[int(share * len(taken))] for share in (0.5, 0.95))
        print(f"{job:5} {what[:22]:22}{len(got):9,}{right:13.1%}{theirs:11.1%}{p50:8.0f}{p95:8.0f}")
        if right < theirs - MARGIN:
            faults.append(f"{what}, {job}: clients got {right:.1%}, the API alone would have given {theirs:.1%}")
    total = found["total"]
    counted = observed + total["paid_usd"] + total["audit_usd"]
    would = sum(alone(api, by_name[each.job], each.text) for each in application.got)
    in_ledger = observed + total["api_usd"]
    print(f"paid: the meter ${meter['usd']:.4f}, the gateway ${counted:.4f} ({counted / meter['usd'] - 1:+.2%})")
    print(f"the API alone: by its meter ${would:.4f}, by the ledger ${in_ledger:.4f} ({in_ledger / would - 1:+.2%})")
    print(f"faults of the API: {meter['faults']}; requests that failed at a client: {len(application.failed)}")
    for expected, value in ((meter["usd"], counted), (would, in_ledger)):
        if abs(value / expected - 1) > 0.01:
            faults.append(f"${value:.4f} is more than 1 % from ${expected:.4f}")
    faults += application.failed[:5]
    if faults:
        sys.exit("\n".join(["It does not hold:", *faults]))
    print("All of it holds.")


def draw(
    picture: Path, application: Application, bills: dict[str, float], truth: dict[str, str], listed: Sequence[Job]
) -> None:
    """The bill for a thousand requests, phase by phase, beside what the API alone would have cost."""
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "takeover", "font.size": 9}
    api, by_name = PaidApi(truth), {job.name: job for job in listed}
    figure, axes = plt.subplots(figsize=(8.5, 3.2), layout="constrained")
    for place, (what, paid) in enumerate(bills.items()):
        got = [each for each in application.got if each.phase == what]
        full = sum(alone(api, by_name[each.job], each.text) for each in got)
        grey = axes.bar(place, 1000 * full / len(got), color="#d5dae0", width=0.8)
        blue = axes.bar(place, 1000 * paid / len(got), color="#2563a8", width=0.8)
        axes.text(place, 1000 * paid / len(got), f"{paid / full:.0%}", ha="center", va="bottom")
    axes.set_xticks(range(len(bills)), [what.replace(" ", "\n", 2) for what in bills])
    axes.set_ylabel("USD for 1,000 requests")
    axes.legend([grey, blue], ["the API alone", "paid, audits included"], frameon=False, ncols=2, loc="upper right")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)

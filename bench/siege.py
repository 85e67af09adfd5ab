"""Honest clients of a server, first alone, then while `attacks.py` sends it all that may harm it.

They ask at fixed times, whether or not the last answer has come, and what waits counts: a request's time is that from
when it was due to its right answer, refusals and lost connections on the way included. What is right they asked
beforehand. `python bench/soak.py --hostile` runs it; it writes all it measured to bench/runs/soak/hostile.json.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from attacks import attacks
from soak_server import Server
from tests.documents import hostile
from tests.fixtures.tiny import FAMILIES, run_example, write_tiny_model

from tunewright.core.artifacts import read_jsonl
from tunewright.serving.captures import CaptureRecord, read_captures

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "bench" / "runs" / "soak"
"""The tiny bundle, and what was measured last."""
CLIENTS, EVERY = 6, 1.0
"""Honest clients, and seconds between two requests of each."""
TEXTS = 12
PATIENCE = 120.0
"""Seconds after which an honest request has failed."""
SLOWER = 2.0
"""Than alone, P99 of honest clients may be under attack."""
GROWTH = 0.05
"""By which the server's memory may differ between the end of its warm-up and the end."""
WARM = 300.0
"""Seconds under attack after which a server has all the memory it needs, or a fifth of a shorter time."""
SLOWEST = 100
"""Honest requests of which it is told when they were due: what stood beside them says why."""
CALM = 20.0
"""Seconds after the last attack in which its connections have ended."""
LOG_BYTES_A_MINUTE = 20_000
FIELDS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "floor": {"enum": [1, 2, 3]}},
    "required": ["city", "floor"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Case:
    """Something that an honest client asks."""

    kind: str
    path: str
    body: dict[str, Any]

    @property
    def said(self) -> str:
        return json.dumps([self.kind, self.body])


def cases(model: str) -> list[Case]:
    """Two thirds of them texts, in all the ways to ask, the others documents."""
    texts = [row["text"] for row in read_jsonl(ROOT / "examples" / "replies" / "data" / "test.jsonl")[:TEXTS]]
    found = []
    for number, text in enumerate(texts):
        asked = {"model": model, "messages": [{"role": "user", "content": text}]}
        wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": FIELDS}}
        found += [
            Case("plain", "/v1/generate", {"text": text}),
            Case("chat", "/v1/chat/completions", asked | {"max_tokens": 16, "stop": ["\n\n"]}),
            Case("stream", "/v1/chat/completions", asked | {"stream": True}),
            Case("schema", "/v1/chat/completions", asked | {"response_format": wanted}),
        ]
        name, content = (
            ("a.txt", text.encode()),
            ("a.eml", f"From: a@b.example\nSubject: A question\n\n{text}\n".encode()),
            ("a.pdf", hostile.raw_pdf(hostile.TEXT.replace(b"hello there", b"Where is parcel %d" % number))),
            ("a.hocr", f"<html><body><div class='ocr_page'>{_words(text)}</div></body></html>".encode()),
        )[number % 4]
        document = {"name": name, "content": base64.b64encode(content).decode()}
        found += [Case("document", "/v1/generate", {"document": document})] * 2
    return found


def _words(text: str) -> str:
    told = re.findall(r"\w+", text)[:12]
    return "".join(
        f"<span class='ocrx_word' title='bbox {60 * number} 0 {60 * number + 50} 9'>{word}</span>"
        for number, word in enumerate(told)
    )


@dataclass
class Phase:
    """What honest clients met in a part of the time."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds of each request, by kind; and of the health route."""
    statuses: Counter[str] = field(default_factory=Counter)
    moments: list[tuple[float, float, str]] = field(default_factory=list)
    """(seconds it took, when it was due, kind) of each request."""
    begin: float = field(default_factory=time.monotonic)

    def note(self, kind: str, due: float) -> None:
        """Note a request that is answered now."""
        seconds = time.monotonic() - due
        self.times[kind].append(seconds)
        self.moments.append((round(seconds, 3), round(due - self.begin, 1), kind))

    def told(self) -> dict[str, Any]:
        asked = {kind: times for kind, times in self.times.items() if kind != "health"}
        texts = [each for kind, times in asked.items() if kind != "document" for each in times]
        every = {"all": [*chain.from_iterable(asked.values())], "texts": texts, **self.times}
        figures = {kind: percentiles(times) for kind, times in every.items() if times}
        return {"ms": figures, "statuses": dict(self.statuses), "slowest": sorted(self.moments, reverse=True)[:SLOWEST]}


def percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p95, p99, most = (1e3 * float(np.percentile(seconds, share)) for share in (50, 95, 99, 100))
    return {"count": len(seconds), "p50": p50, "p95": p95, "p99": p99, "most": most}


class Siege:
    def __init__(self, server: Server, model: str):
        self.server, self.cases = server, cases(model)
        self.phase = Phase()
        self.known: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.kept: dict[str, str] = {}
        """Id -> answer, of all that were answered and said to be kept."""
        self.lost = 0
        """Connections that broke off after a request was sent: the server may have kept it and told nobody."""

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.server.address, headers=self.server.headers, timeout=PATIENCE)

    async def answer(self, client: httpx.AsyncClient, case: Case) -> Any:
        """Ask once. Returns what is to be the same each time; None where it was refused for now."""
        async with client.stream("POST", case.path, json=case.body) as reply:
            self.phase.statuses[str(reply.status_code)] += 1
            if reply.status_code in (429, 503):
                await asyncio.sleep(float(reply.headers.get("retry-after", 1)))
                return None
            if reply.status_code != 200:
                await reply.aread()
                return f"status {reply.status_code}: {reply.text[:200]}"
            lines = [line async for line in reply.aiter_lines()]
        if case.kind == "stream":
            events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
            if any("error" in event for event in events) or lines[-2:] != ["data: [DONE]", ""]:
                return f"a stream that ended with {lines[-3:]}"
            said, last = events[-1], events[-1]["choices"][0]["finish_reason"]
            text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
        else:
            said = json.loads("\n".join(lines))
            choice = said["choices"][0] if "choices" in said else None
            text = choice["message"]["content"] if choice else said["text"]
            last = choice["finish_reason"] if choice else said["finish_reason"]
        if not said["captured"]:
            return "an answer that was not kept"
        self.kept[said["id"]] = text
        return text, last, said["confidence"]

    async def ask(self, client: httpx.AsyncClient, case: Case, due: float) -> None:
        """Ask until there is an answer."""
        while (found := await self._once(client, case)) is None:
            if time.monotonic() - due > PATIENCE:
                self.wrong.append(f"{case.kind}: no answer in {PATIENCE:g} s")
                return
        self.phase.note(case.kind, due)
        if found != self.known.setdefault(case.said, found) or isinstance(found, str):
            self.wrong.append(f"{case.kind}: {found}, alone {self.known[case.said]}")

    async def _once(self, client: httpx.AsyncClient, case: Case) -> Any:
        try:
            return await self.answer(client, case)
        except httpx.TransportError as error:
            self.phase.statuses[type(error).__name__] += 1
            self.lost += not isinstance(error, httpx.ConnectError)
            await asyncio.sleep(0.1)
            return None

    async def ask_on(self, number: int, begin: float, seconds: float) -> None:
        rng = random.Random(number)
        due = begin + EVERY * number / CLIENTS
        async with self.client() as client:
            while due < begin + seconds and self.server.runs:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self.ask(client, rng.choice(self.cases), due)
                due += EVERY

    async def watch(self, begin: float, seconds: float) -> None:
        async with self.client() as client:
            while time.monotonic() < begin + seconds and self.server.runs:
                self.server.measure()
                asked = time.monotonic()
                try:
                    self.phase.statuses[f"health {(await client.get('/health')).status_code}"] += 1
                    self.phase.note("health", asked)
                except httpx.TransportError as error:
                    self.phase.statuses[f"health {type(error).__name__}"] += 1
                await asyncio.sleep(max(0.1, asked + 2 - time.monotonic()))

    async def part(self, seconds: float) -> dict[str, Any]:
        """Ask at the pace for so long. Returns what was met, and the share of a core that the server took."""
        self.phase = Phase()
        begin, before = time.monotonic(), self.server.cpu_seconds()
        await asyncio.gather(
            self.watch(begin, seconds), *(self.ask_on(number, begin, seconds) for number in range(CLIENTS))
        )
        took = time.monotonic() - begin
        now = self.server.cpu_seconds() if self.server.runs else before
        cores = {whose: (now[which] - before[which]) / took for which, whose in enumerate(("server", "its processes"))}
        return {**self.phase.told(), "seconds": took, "cores": cores}

    async def all_once(self) -> None:
        """Ask each case, one after the other."""
        async with self.client() as client:
            for case in self.cases:
                await self.ask(client, case, time.monotonic())

    def journal(self) -> dict[str, int]:
        """How the journal differs from what was acknowledged."""
        entries = [entry for entry in read_captures(self.server.captures) if isinstance(entry, CaptureRecord)]
        honest = [entry for entry in entries if entry.by == "soak"]
        counted = Counter(entry.id for entry in honest)
        return {
            "acknowledged": len(self.kept),
            "lost": sum(counted[each] == 0 for each in self.kept),
            "doubled": sum(counted[each] > 1 for each in self.kept),
            "another answer": sum(entry.id in self.kept and self.kept[entry.id] != entry.answer for entry in honest),
            "kept and told nobody": sum(each not in self.kept for each in counted),
            "broken off": self.lost,
            "of attackers": len(entries) - len(honest),
        }


async def _metrics(server: Server) -> dict[str, int]:
    """Answers by status, of all routes."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{server.address}/metrics", timeout=PATIENCE)).text
    found: Counter[str] = Counter()
    for status, count in re.findall(r'^tunewright_requests_total{.*status="(\d+)"} (\S+)$', text, re.MULTILINE):
        found[status] += int(float(count))
    return dict(found)


async def _attacked(siege: Siege, model: str, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What honest clients met under attack, and what attackers did."""
    command = [sys.executable, str(Path(__file__).with_name("attacks.py")), str(siege.server.port), model, str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    try:
        key = siege.server.key("attacker")["Authorization"].removeprefix("Bearer ")
        process.stdin.write(f"{key}\n".encode())
        await process.stdout.readline()
        met = await siege.part(seconds)
        told = json.loads(await process.stdout.read())
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    met["cores"]["attackers"] = told["cpu_seconds"] / met["seconds"]
    return met, told["outcomes"]


def memory_of(server: Server, begin: float, seconds: float) -> dict[str, Any]:
    """What the server took while it was attacked.

    Args:
        begin: seconds of its life.
    """
    life = np.array(server.lives[-1])
    settled = life[life[:, 0] > begin + min(WARM, seconds / 5)]
    tenth = max(1, len(settled) // 10)
    first, last = (float(np.median(part[:, 1])) for part in (settled[:tenth], settled[-tenth:]))
    quiet = life[life[:, 0] < begin]
    return {
        "quiet_mb": float(np.median(quiet[:, 1])),
        "warm_mb": first,
        "end_mb": last,
        "most_mb": float(life[:, 1].max()),
        "growth": last / first - 1,
        "mb_an_hour": 3600 * float(np.polyfit(settled[:, 0], settled[:, 1], 1)[0]),
        "processes_mb": {
            "quiet": float(quiet[:, 2].max()),
            "median": float(np.median(settled[:, 2])),
            "most": float(life[:, 2].max()),
        },
        "every_10_s": [[round(float(each), 1) for each in row] for row in life[::5]],
    }


def verdict(found: dict[str, Any]) -> dict[str, bool]:
    memory, journal, files, minutes = found["memory"], found["journal"], found["descriptors"], found["minutes"]
    return {
        "no wrong answer": not found["wrong"],
        f"P99 within {SLOWER:g} x": found["ratio"]["p99"] <= SLOWER,
        "memory flat": memory["growth"] <= GROWTH,
        "all captures kept once": not (journal["lost"] or journal["doubled"] or journal["another answer"])
        and journal["kept and told nobody"] <= journal["broken off"],
        "no failure of the server": found["runs"] and not found["answers"].get("500") and not found["tracebacks"],
        "descriptors given back": files["after"] <= files["quiet"] + 10,
        "log bounded": found["log_bytes"] <= LOG_BYTES_A_MINUTE * max(1.0, minutes),
    }


def told(found: dict[str, Any]) -> str:
    lines = [*found["attacks"], f"attackers: {found['bytes_a_second'] / 1e6:.1f} MB/s on average; {found['honest']}"]
    for part in ("quiet", "hostile"):
        lines += [
            f"{part}: {found[part]['seconds']:.0f} s; {found[part]['statuses']}; cores: "
            + ", ".join(f"{whose} {share:.2f}" for whose, share in found[part]["cores"].items())
        ]
        lines += [
            f"  {kind}: {ms['count']} in ms: P50 {ms['p50']:.0f}, P95 {ms['p95']:.0f}, P99 {ms['p99']:.0f}, "
            f"most {ms['most']:.0f}"
            for kind, ms in found[part]["ms"].items()
        ]
    lines += [
        f"  {attack}: {came['outcomes']}, at most {came['most_s']:.1f} s" for attack, came in found["outcomes"].items()
    ]
    times = ", ".join(f"{seconds:.2f} s at {due:.0f} s" for seconds, due, _ in found["hostile"]["slowest"][:5])
    lines += [f"slowest under attack: {times}"]
    lines += ["hostile / quiet: " + ", ".join(f"{name.upper()} {ratio:.2f}" for name, ratio in found["ratio"].items())]
    memory = found["memory"]
    lines += [
        f"memory: {memory['quiet_mb']:.0f} MB quiet, {memory['warm_mb']:.0f} warm, {memory['end_mb']:.0f} at the end, "
        f"{memory['most_mb']:.0f} at most; {memory['mb_an_hour']:+.1f} MB an hour; its processes "
        + ", ".join(f"{when} {amount:.0f}" for when, amount in memory["processes_mb"].items()),
        f"captures: {found['journal']}",
        f"answers by status: {found['answers']}; {found['tracebacks']} tracebacks; log of {found['log_bytes']:,} bytes",
        f"file descriptors: {found['descriptors']}",
        *(f"WRONG {each}" for each in found["wrong"][:10]),
        *(f"{'ok' if well else 'FAILED'}: {name}" for name, well in found["verdict"].items()),
    ]
    return "\n".join(lines)


def tiny_bundle() -> Path:
    """The example of replies on two random layers, so that hardly any of an answer's time is the model's. Made once."""
    bundle = KEPT / "bundle"
    if not bundle.is_dir():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            model = write_tiny_model(FAMILIES["llama3"], folder / "model")
            project, _ = run_example(
                "replies",
                model,
                folder,
                "task.max_tokens=24",
                "data.validation_fraction=0.01",
                "export.runtime=openvino-lora",
            )
            shutil.copytree(project / "runs" / "latest" / "export" / "bundle", bundle)
    return bundle


async def besieged(bundle: Path | None, minutes: float, quiet: float) -> bool:
    """Whether a server withstands.

    Args:
        bundle: of a model that generates; None: a tiny one.
        minutes: under attack.
        quiet: minutes before that.
    """
    folder = bundle or tiny_bundle()
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(folder, Path(scratch))
        await server.start()
        try:
            async with httpx.AsyncClient(headers=server.headers) as client:
                model = (await client.get(f"{server.address}/v1/models")).json()["data"][0]["id"]
            planned, siege = attacks(model), Siege(server, model)
            found: dict[str, Any] = {
                "cores": os.cpu_count(),
                "bundle": str(folder),
                "minutes": minutes,
                "honest": f"{CLIENTS} honest clients x every {EVERY:g} s",
                "attacks": [each.told() for each in planned],
                "bytes_a_second": sum(each.bytes_a_second for each in planned),
            }
            for _ in range(2):  # what each is told alone; the second time nothing is new to the server
                await siege.all_once()
            print(f"{len(siege.known)} requests answered alone", flush=True)
            found["quiet"] = await siege.part(60 * quiet)
            begin, descriptors = time.monotonic() - server.began, server.lives[-1][-1].descriptors
            found["hostile"], found["outcomes"] = await _attacked(siege, model, 60 * minutes)
            found["runs"] = server.runs
            found["memory"] = memory_of(server, begin, 60 * minutes)
            most = max(each.descriptors for each in server.lives[-1])
            if server.runs:
                await asyncio.sleep(CALM)
                await siege.all_once()
                server.measure()
            found["descriptors"] = {"quiet": descriptors, "most": most, "after": server.lives[-1][-1].descriptors}
            found["answers"] = await _metrics(server) if server.runs else {}
            alone, attacked = (found[part]["ms"]["all"] for part in ("quiet", "hostile"))
            found["ratio"] = {name: attacked[name] / alone[name] for name in ("p50", "p95", "p99")}
            server.log.seek(0)
            log = server.log.read()
            found |= {"log_bytes": len(log), "log": log[-4000:], "tracebacks": log.count("Traceback")}
            found |= {"wrong": siege.wrong, "journal": siege.journal()}
            found["verdict"] = verdict(found)
        finally:
            if server.runs:
                server.end(signal.SIGKILL)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "hostile.json").write_text(json.dumps(found, indent=1), "utf-8")
    print(told(found), f"all of it: {KEPT / 'hostile.json'}", sep="\n")
    return all(found["verdict"].values())

"""What the gateway adds to an answer, beside nginx and LiteLLM's proxy, in one run.

    apt-get install wrk nginx-light
    python -m venv LITELLM && LITELLM/bin/pip install 'litellm[proxy]'
    python bench/gateway.py --litellm LITELLM            # --seconds 20 --rate 200

Each proxy has one core (the last), what it passes to and what asks have the others. For latency, requests begin at a
fixed rate, whether or not earlier ones have ended, before an upstream that answers after 50 ms; a latency counts from
the moment when its request was due. For throughput, 64 connections ask as fast as they can before an upstream that
answers at once (nginx), so that the proxy's core is the limit.

The row `traces` captures too, and sends a span for each request and for each question to the upstream to a server
that takes them at once. The rows with a mode have a job whose own model is linear, trained once on BANKING77
(`bench/runs/gateway`). It answers in the gateway's process, on the same core. Requests are questions of BANKING77's
test.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web
from data_sets import root

from tunewright.core.processes import free_port
from tunewright.economics.usage import TokenUsage
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.config import CaptureSpec
from tunewright.gateway.exchanges import ExchangeLog
from tunewright.traffic.jobs import find_jobs
from tunewright.traffic.project import project_of

DELAY = 0.05
CORE = max(os.sched_getaffinity(0))
PROMPT = "Classify the customer's message. Answer with one of: " + ", ".join(f"label_{number}" for number in range(77))
HOME = Path(__file__).parent / "runs" / "gateway"


def rows(part: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (root() / "banking77" / f"{part}.jsonl").read_text("utf-8").splitlines()]


def asked_of(text: str) -> dict[str, Any]:
    return {
        "model": "gpt-6-luna",
        "messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": text}],
    }


TEXTS = [row["text"] for row in rows("test")]
ASKED = asked_of(TEXTS[0])
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-6-luna-2026-09-01",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "label_7"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 420, "completion_tokens": 3, "total_tokens": 423},
}
CHUNK = json.dumps({**ANSWER, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "a "}}]})
Start = Callable[[str, Path], contextmanager]


# What is asked


def upstream(port: int) -> None:
    """An upstream that answers after `DELAY`; a stream has 20 events, 5 ms apart."""

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        await asyncio.sleep(DELAY)
        if not asked.get("stream"):
            return web.json_response(ANSWER)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(20):
            await response.write(f"data: {CHUNK}\n\n".encode())
            await asyncio.sleep(0.005)
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; keepalive_requests 1000000; client_body_buffer_size 64k;
  {http}
}}
"""


@contextmanager
def process(*words: str, port: int, core: int | None, **environment: str) -> Iterator[None]:
    """A server, once it takes connections."""
    pinned = ["taskset", "-c", str(core)] if core is not None else ["taskset", "-c", f"0-{CORE - 1}"]
    with tempfile.TemporaryFile() as log:
        running = subprocess.Popen([*pinned, *words], stdout=log, stderr=log, env=os.environ | environment)
        try:
            end = time.monotonic() + 120
            while not connects(port):
                if running.poll() is not None or time.monotonic() > end:
                    log.seek(0)
                    sys.exit(log.read().decode()[-2000:])
                time.sleep(0.1)
            yield
        finally:
            running.terminate()
            running.wait(20)


def connects(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nginx(folder: Path, http: str, port: int, core: int | None) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, http=http), "utf-8")
    with process("nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder), port=port, core=core):
        yield


# The proxies: each is started before an upstream's address, and gives the port to ask


@contextmanager
def direct(target: str, _: Path) -> Iterator[int]:
    yield int(target.rpartition(":")[2])


@contextmanager
def by_nginx(target: str, folder: Path) -> Iterator[int]:
    port = free_port()
    http = (
        f"upstream u {{ server {target.removeprefix('http://')}; keepalive 256; }} server {{ listen {port}; location / "
        '{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } }'
    )
    with nginx(folder / "proxy", http, port, CORE):
        yield port


def by_gateway(*, capture: bool, traces: int | None = None) -> Start:
    """The gateway. `traces` is the port of what takes its traces; None: it sends none."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{traces}"} if traces else {}

    @contextmanager
    def started(target: str, folder: Path) -> Iterator[int]:
        port, settings = free_port(), folder / "gateway.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        kept = "capture: {folder: captures}\n" if capture else ""
        settings.write_text(f"upstreams: {{openai: {{url: '{target}/v1'}}}}\n{kept}", "utf-8")
        words = sys.executable, "-m", "tunewright", "gateway", str(settings), "--port", str(port)
        with process(*words, port=port, core=CORE, **environment):
            yield port
        if capture:
            shutil.rmtree(folder / "captures")

    return started


def by_own_model(mode: str) -> Start:
    @contextmanager
    def started(target: str, folder: Path) -> Iterator[int]:
        port, settings = free_port(), folder / "gateway.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        # The upstream always answers alike, so audits would take the job back.
        job = f"{{project: '{HOME / 'project'}', mode: {mode}, audit: 0, least_agreement: 0.001}}"
        settings.write_text(
            f"upstreams: {{openai: {{url: '{target}/v1'}}}}\ncapture: {{folder: captures}}\njobs: {{bank: {job}}}\n",
            "utf-8",
        )
        words = sys.executable, "-m", "tunewright", "gateway", str(settings), "--port", str(port)
        with process(*words, port=port, core=CORE):
            yield port
        shutil.rmtree(folder / "captures")
        (folder / "gateway.db").unlink()

    return started


def make_job() -> None:
    """The project of the job and its bundle, made once from captures of BANKING77's training part."""
    if (HOME / "project" / "runs" / "latest" / "bundle").exists():
        return
    shutil.rmtree(HOME, ignore_errors=True)
    log = ExchangeLog(CaptureSpec(folder=HOME / "captures"))
    for number, row in enumerate(rows("train")):
        log.keep(
            {
                "id": str(number),
                "time": f"2026-11-{1 + number % 28:02}T00:00:00+00:00",
                "upstream": "openai",
                "kind": "chat",
                "path": "/v1/chat/completions",
                "client": None,
                "model": "gpt-6-luna",
                "request": asked_of(row["text"]),
                "request_bytes": 1000,
                "status": 200,
                "choices": [AnswerChoice(row["label"])],
                "usage": TokenUsage(420, 4),
                "seconds": 0.5,
            }
        )
    log.close()
    (job,) = find_jobs(HOME / "captures").jobs
    project_of(HOME / "captures", job.name, HOME / "project")
    file = HOME / "project" / "tunewright.yaml"
    file.write_text(re.sub(r"(?m)^candidates: .*$", "model: linear", file.read_text("utf-8")), "utf-8")
    subprocess.run([sys.executable, "-m", "tunewright", "run", str(HOME / "project")], check=True, capture_output=True)


def by_litellm(environment: Path) -> Start:
    @contextmanager
    def started(target: str, folder: Path) -> Iterator[int]:
        port, settings = free_port(), folder / "litellm.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(
            "model_list:\n- model_name: gpt-6-luna\n  litellm_params: "
            f"{{model: openai/gpt-6-luna, api_base: '{target}/v1', api_key: sk-1}}\n",
            "utf-8",
        )
        words = str(environment / "bin" / "litellm"), "--config", str(settings), "--port", str(port)
        # Without a key it has less to do.
        least = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
        with process(*words, "--num_workers", "1", port=port, core=CORE, **least):
            yield port

    return started


# What is measured


async def latencies(port: int, rate: int, seconds: float, *, stream: bool) -> tuple[np.ndarray, int]:
    """(milliseconds of each answer from when its request was due, failures)."""
    bodies = [json.dumps({**asked_of(text), "stream": stream}).encode() for text in TEXTS]
    taken: list[float] = []
    failed = 0

    async def ask(session: aiohttp.ClientSession, number: int, due: float) -> None:
        nonlocal failed
        asked = bodies[number % len(bodies)]
        await asyncio.sleep(max(0, due - time.perf_counter()))
        try:
            async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", data=asked, headers=HEAD) as answer:
                await answer.read()
                failed += answer.status != 200
        except aiohttp.ClientError:
            failed += 1
        taken.append(1000 * (time.perf_counter() - due))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        begun = time.perf_counter() + 0.2
        warm = rate * 2
        tasks = [asyncio.create_task(ask(session, n, begun + n / rate)) for n in range(int(rate * seconds) + warm)]
        await asyncio.gather(*tasks)
    return np.array(taken[warm:]), failed


HEAD = {"content-type": "application/json", "authorization": "Bearer sk-1"}


def throughput(port: int, seconds: float, folder: Path) -> float:
    """Answers a second of 64 connections."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "ask.lua"
    heads = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in HEAD.items())
    script.write_text(f"wrk.method = 'POST'\nwrk.body = [==[{json.dumps(ASKED)}]==]\n{heads}\n", "utf-8")
    words = ["taskset", "-c", f"0-{CORE - 1}", "wrk", "-t1", "-c64", f"-d{seconds:g}s", "-s", str(script)]
    address = f"http://127.0.0.1:{port}/v1/chat/completions"
    subprocess.run([*words[:-3], "-d2s", *words[-2:], address], check=True, capture_output=True)
    said = subprocess.run([*words, address], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said:
        print(said)
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found
    return float(found[1])


def main(options: argparse.Namespace) -> None:
    """Print a row for each proxy, or for those that `--only` names."""
    slow, fast = free_port(), free_port()
    proxies: dict[str, Start] = {
        "direct": direct,
        "nginx": by_nginx,
        "gateway": by_gateway(capture=False),
        "gateway, capturing": by_gateway(capture=True),
        "gateway, traces": by_gateway(capture=True, traces=fast),
        "gateway, shadow": by_own_model("shadow"),
        "gateway, cascade": by_own_model("cascade"),
        "gateway, own": by_own_model("own"),
    }
    if options.litellm:
        proxies["LiteLLM"] = by_litellm(options.litellm)
    make_job()
    os.sched_setaffinity(0, range(CORE))
    print(f"{options.rate} requests a second for {options.seconds:g} s; one core for each proxy")
    print(f"{'':20}{'P50':>8}{'P99':>8}{'stream P50':>12}{'P99':>8}{'answers/s':>12}{'failed':>8}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        reply = f"default_type application/json; return 200 '{json.dumps(ANSWER)}';"
        at_once = f"server {{ listen {fast}; location / {{ {reply} }} }}"
        stack.enter_context(nginx(folder / "upstream", at_once, fast, None))
        stack.enter_context(process(sys.executable, __file__, "--upstream", str(slow), port=slow, core=None))
        for name, start in proxies.items():
            if options.only and name not in options.only:
                continue
            row = []
            with start(f"http://127.0.0.1:{slow}", folder / name.replace(" ", "-")) as port:
                failures = 0
                for stream in (False, True):
                    taken, failed = asyncio.run(latencies(port, options.rate, options.seconds, stream=stream))
                    row += list(np.percentile(taken, [50, 99]))
                    failures += failed
            with start(f"http://127.0.0.1:{fast}", folder / name.replace(" ", "-")) as port:
                most = throughput(port, options.seconds, folder)
            print(
                f"{name:20}{row[0]:8.1f}{row[1]:8.1f}{row[2]:12.1f}{row[3]:8.1f}{most:12,.0f}{failures:8}", flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--litellm", type=Path)
    parser.add_argument("--only", action="append", help="a row's name; repeatable")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=int, default=200)
    parser.add_argument("--upstream", type=int)
    chosen = parser.parse_args()
    upstream(chosen.upstream) if chosen.upstream else main(chosen)

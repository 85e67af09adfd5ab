"""vLLM, started beside us and asked over its own protocol: weights in 16 bits on a GPU, many requests at once.

It is told token ids and tells token ids, so that prompts, labels and records are those of every other runtime. What a
model says is confined by vLLM itself: to the tokens between which labels branch, or by the grammar of a JSON Schema,
which runs in llguidance as ours does. Log-probabilities are those among what is allowed.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from weakref import finalize

import httpx
import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.core.processes import free_port
from tunewright.core.progress import say
from tunewright.inference.decoding.protocols import WritingConfig
from tunewright.models.tensor_files import stored_bytes
from tunewright.tasks import Message

PYTHON = "TUNEWRIGHT_VLLM"
"""Environment variable: the Python of an environment that has vLLM, where ours has none."""
_READY_SECONDS = 900.0
"""It compiles and captures graphs before it answers."""
_ANSWER_SECONDS = 600.0
_BFLOAT16 = 8
"""Compute capability from which a card has bfloat16: a T4 (7.5) has not."""
_SHARE_OF_MEMORY = 0.3
"""Of a machine without a card, whose memory others use too."""
_MOST_OF_CARD = 0.9
"""Share of a card's memory that vLLM takes for weights and cache; its own context and graphs come on top."""
_CONTEXT_BYTES = 0.6e9
"""Of a card: what vLLM's CUDA context takes before it looks what is free."""
_LEAST_CACHE_BYTES = 0.5e9
"""Of a card, beside the weights: activations, and keys and values of a request or two."""
_INSTALL = f"Type: python3 -m venv vllm && vllm/bin/pip install vllm && export {PYTHON}=$PWD/vllm/bin/python"
_NEVER = -100.0
"""What is added to the logit of a token that must not be written."""
_MODEL, _ADAPTER = "base", "adapter"


class VllmModel:
    """A vLLM server of one bundle. When nobody holds it any more, or at `close`, it ends.

    Args:
        folder: Hugging Face's, with the weights in 16 bits.
        context: tokens that a sequence may have.
        adapter: peft's folder of an adapter beside them.

    Raises:
        UserError: there is no vLLM, or it did not start; its last words are the reason.
    """

    at_once = 256

    def __init__(self, folder: Path, *, context: int, adapter: Path | None = None):
        python, key = _python(), secrets.token_urlsafe(16)
        port = free_port()
        self._model = _ADAPTER if adapter else _MODEL
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the server)
        # Its last words are told where it fails; what it is asked it does not log.
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
        # The first is the cause of those that follow; a line may begin with what logs it.
        said = re.search(r"^(?:.*\] )?(\w+Error: .+)$", self._log.read(), re.MULTILINE)
        raise UserError(
            "vLLM did not start.",
            why=said[1] if said else None,
            fix="Try the environment: python -m vllm.entrypoints.openai.api_server --help",
        )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def of_tokens(self, asked: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[npt.NDArray[np.float32]]:
        """What the model says of some tokens behind each sequence: their log-probabilities among themselves.

        Args:
            asked: sequences, and at least two tokens each.

        Raises:
            RuntimeError: vLLM failed.
        """
        if len(asked) == 1:
            return [self._of_tokens(*asked[0])]
        return list(self._clients.map(self._of_tokens, *zip(*asked, strict=True)))

    def _of_tokens(self, ids: Sequence[int], tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        reply = self._client.post(
            "/v1/completions",
            json=self._asked(ids, 1)
            | {
                "logprobs": len(tokens),
                "allowed_token_ids": list(tokens),
            },
        )
        _check(reply)
        (told,) = reply.json()["choices"][0]["logprobs"]["top_logprobs"]
        found = {_token(name): value for name, value in told.items()}
        return np.array([found[token] for token in tokens], np.float32)

    def write(self, prompt: Sequence[int], wanted: WritingConfig) -> Generator[tuple[int, float], None, None]:
        """The likeliest answer, token by token with its log-probability, the one that ends it last, unless it grows
        too long. Close the iterator where the rest is not wanted: vLLM stops then.

        Raises:
            RuntimeError: vLLM failed.
        """
        asked = self._asked(prompt, wanted.most) | {"logprobs": 0, "stop_token_ids": [wanted.end], "stream": True}
        if wanted.schema is not None:
            asked["structured_outputs"] = {"json": wanted.schema}
        if wanted.silent:
            asked["logit_bias"] = {str(token): _NEVER for token in wanted.silent}
        with self._client.stream("POST", "/v1/completions", json=asked) as reply:
            if not reply.is_success:
                reply.read()
            _check(reply)
            for line in reply.iter_lines():
                if not line.startswith("data: {"):
                    continue
                said = json.loads(line.removeprefix("data: "))
                if "error" in said:
                    raise RuntimeError(f"vLLM failed: {said['error'].get('message')}")
                choice = said["choices"][0]
                told = choice["logprobs"] or {"tokens": [], "token_logprobs": []}
                for name, value in zip(told["tokens"], told["token_logprobs"], strict=True):
                    token = _token(name)
                    if token != wanted.end:
                        yield token, value
                if choice["finish_reason"] == "stop":
                    yield wanted.end, 0.0

    def _asked(self, prompt: Sequence[int], most: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "prompt": list(prompt),
            "max_tokens": most,
            "temperature": 0,
            "return_tokens_as_token_ids": True,
        }


class PlainVllm(VllmModel):
    """vLLM as anybody starts it from a folder, asked over its own chat API: its template, its defaults.

    Args:
        folder: as `tunewright export` writes it into merged/.
        context: tokens that a sequence may have.
    """

    def __init__(self, folder: Path, *, context: int):
        super().__init__(folder, context=context)

    def _options(self, folder: Path, context: int, port: int, adapter: Path | None) -> list[str]:  # noqa: ARG002
        return _plain_options(folder, context, port)

    def chat(self, messages: Sequence[Message], more: Mapping[str, Any]) -> tuple[str, list[int]]:
        """(its answer, the token ids of the prompt).

        Args:
            more: what the request says beside the messages.

        Raises:
            RuntimeError: vLLM failed.
        """
        asked = {"model": self._model, "messages": [{"role": each.role, "content": each.content} for each in messages]}
        reply = self._client.post("/v1/chat/completions", json={**asked, **more})
        _check(reply)
        tokens = self._client.post("/tokenize", json=asked)
        _check(tokens)
        return str(reply.json()["choices"][0]["message"]["content"]), list(tokens.json()["tokens"])


def _python() -> list[str]:
    """The command that has vLLM."""
    if named := os.environ.get(PYTHON):
        return [named]
    if find_spec("vllm"):
        return [sys.executable]
    raise UserError(
        "There is no vLLM here.", why="It needs an environment of its own, of about 3 to 10 GB.", fix=_INSTALL
    )


def _plain_options(folder: Path, context: int, port: int) -> list[str]:
    """vLLM's own command line, as anybody types it."""
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
    """The same, as `VllmModel` needs it."""
    words = [
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
        rank = json.loads((adapter / "adapter_config.json").read_text("utf-8"))["r"]
        sizes = (8, 16, 32, 64, 128, 256, 320, 512)
        most = next((size for size in sizes if size >= rank), rank)
        words += ["--enable-lora", "--lora-modules", f"{_ADAPTER}={adapter}", "--max-lora-rank", str(most)]
    return words


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
    """What vLLM needs to be told of the device it finds: the type of its products, which it would otherwise take from
    the weights' files (float16 ones would be run in float16 on cards that have bfloat16's range), and how much memory
    is free. vLLM takes a share of all there is, and does not start where others hold a part of that share.

    Args:
        weights: their bytes.

    Raises:
        UserError: this Python has no vLLM, or the weights don't fit in what is free.
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
    room = min(_MOST_OF_CARD, math.floor(100 * (int(free) - _CONTEXT_BYTES) / int(total)) / 100)
    had = max(0, room) * int(total)
    if had < weights + _LEAST_CACHE_BYTES:
        raise UserError(
            f"The model's weights take {weights / 1e9:.1f} GB; vLLM could have {had / 1e9:.1f} of "
            f"the GPU's {int(total) / 1e9:.1f} GB.",
            why=f"{int(free) / 1e9:.1f} GB are free.",
            fix="End what else runs on it (nvidia-smi lists it), or serve on a larger GPU.",
        )
    return ["--dtype", "float16" if half else "bfloat16", "--gpu-memory-utilization", f"{room:.2f}"]


def _check(reply: httpx.Response) -> None:
    if not reply.is_success:
        raise RuntimeError(f"vLLM answered {reply.status_code}")


def _token(name: str) -> int:
    return int(name.removeprefix("token_id:"))


def _end(process: subprocess.Popen[bytes], client: httpx.Client) -> None:
    client.close()
    assert process.stdin
    process.stdin.close()
    process.wait()

"""What vLLM is asked for, and how its stream is read; without vLLM."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tunewright.core.artifacts import write_json
from tunewright.inference.decoding.protocols import WritingConfig
from tunewright.inference.runtimes.vllm_model import VllmModel, _end

END = 9


class Streaming(VllmModel):
    """A server that streams an answer of one token; `asked` are the bodies of its requests."""

    def __init__(self, folder: Path, text: str):
        self.asked: list[dict[str, Any]] = []
        self._model, self._vocabulary, self._text = "base", self._vocabulary_of(folder), text
        self._client = httpx.Client(base_url="http://vllm", transport=httpx.MockTransport(self._reply))

    def _reply(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(json.loads(request.content))
        logprobs = {"tokens": ["token_id:5"], "token_logprobs": [-0.5]}
        event = {"choices": [{"text": self._text, "logprobs": logprobs, "finish_reason": "stop"}]}
        content = f"data: {json.dumps(event, ensure_ascii=False)}\n\ndata: [DONE]\n\n".encode()
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=content)


@pytest.mark.parametrize("letter", ["a", "\u2028", "\u2029", "\x85", "\x0b", "\x1c"])
def test_an_answer_may_have_any_line_end(letter: str, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"vocab_size": 10})
    model = Streaming(tmp_path, f"one{letter}two")
    assert list(model.write([1], WritingConfig(3, END))) == [(5, -0.5), (END, 0.0)]


@pytest.mark.parametrize("config", [{"vocab_size": 10}, {"text_config": {"vocab_size": 10}}])
def test_a_token_that_the_model_lacks_is_not_suppressed(config: dict[str, Any], tmp_path: Path) -> None:
    """vLLM refuses a bias on it, and Gemma 3's tokenizer has one for pictures."""
    write_json(tmp_path / "config.json", config)
    model = Streaming(tmp_path, "a")
    list(model.write([1], WritingConfig(3, END, suppress_tokens=[2, 9, 10, 262144])))
    list(model.write([1], WritingConfig(3, END, suppress_tokens=[10])))
    assert [each.get("logit_bias") for each in model.asked] == [{"2": -100.0, "9": -100.0}, None]


def test_the_end_of_a_server_is_waited_for_but_never_in_an_event_loop() -> None:
    slow = [sys.executable, "-c", "import sys, time; sys.stdin.read(); time.sleep(1)"]

    def ended() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(slow, stdin=subprocess.PIPE)
        _end(process, httpx.Client())
        return process

    async def in_a_loop() -> bool:
        process = ended()
        is_waiting = process.returncode is None
        await asyncio.to_thread(process.wait)
        return is_waiting

    assert ended().returncode == 0
    assert asyncio.run(in_a_loop())

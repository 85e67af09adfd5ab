"""vLLM as anybody starts it from merged/ alone: its chat API reads and answers as we do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_spec
from tests.vllm.conftest import MODEL, TASKS
from tests.vllm.test_vllm import TEXTS
from tunewright.exporters.other_engines import Asking, asking_of, complete
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.inference.runtimes.vllm_model import PlainVllm
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer

CLOSE = 0.3
"""Between the two largest logits: vLLM computes in 16 bits, and may turn what is nearly even."""


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Asking]:
    """The real model as an export of a labelling job leaves it."""
    folder = tmp_path_factory.mktemp("merged")
    spec = make_spec(model=MODEL, task=TASKS["classify"])
    base = resolve(spec.model, spec.folder)
    for name in ("model.safetensors", "config.json"):
        shutil.copy(base.folder / name, folder / name)
    asking = asking_of(spec, base, 12)
    complete(folder, spec, base, asking)
    return folder, asking


@pytest.fixture(scope="module")
def plain(merged: tuple[Path, Asking]) -> Iterator[PlainVllm]:
    model = PlainVllm(merged[0], context=512)
    yield model
    model.close()


def greedy(asking: Asking, folder: Path, prompt: list[int], model: TorchNextToken) -> str | None:
    """What is written token by token where only the choices may be; None where 16 bits could turn it."""
    tokenizer = TextTokenizer(folder)
    texts = {token: tokenizer.decode([token]) for token in asking.confined["allowed_token_ids"]}
    written, ids = "", list(prompt)
    while True:
        logits = model(ids)
        allowed = [
            token
            for token, text in texts.items()
            if any(choice.startswith(written + text) for choice in asking.choices)
        ]
        allowed += [asking.end] if written in asking.choices else []
        first, *others = sorted(allowed, key=lambda token: -logits[token])
        if others and logits[first] - logits[others[0]] < CLOSE:
            return None
        if first == asking.end:
            return written
        written += texts[first]
        ids.append(first)


def test_it_reads_the_same_tokens_and_chooses_the_same_labels(merged: tuple[Path, Asking], plain: PlainVllm) -> None:
    folder, asking = merged
    template, tokenizer = ChatTemplate.named("chatml"), TextTokenizer(folder)
    model = TorchNextToken(load_torch_model(folder))
    compared = 0
    for text in TEXTS:
        messages = asking.task.prompt(text)
        answer, prompt = plain.chat(messages, asking.confined)
        assert prompt == template.encode_prompt(messages, tokenizer)
        assert asking.task.canonical(answer) in asking.task.answers
        wanted = greedy(asking, folder, prompt, model)
        if wanted is not None:
            compared += 1
            assert answer == wanted
    assert compared >= 3


def test_it_is_greedy_and_ends_with_the_turn_by_the_folders_own_settings(
    merged: tuple[Path, Asking], plain: PlainVllm
) -> None:
    """Nothing is said of temperature or length in the request."""
    messages = merged[1].task.prompt(TEXTS[0])
    first = plain.chat(messages, {})[0]
    assert all(plain.chat(messages, {})[0] == first for _ in range(4))
    assert "<|im_end|>" not in first
    assert len(TextTokenizer(merged[0]).encode_verbatim(first)) <= merged[1].most

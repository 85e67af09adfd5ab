"""Candidates in torch: what is asked together is what is asked alone, and on a CPU a part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from tunewright.core.artifacts import write_jsonl
from tunewright.evaluation.candidates import in_torch
from tunewright.evaluation.candidates.in_torch import ADAPTER, EXPORTED, MERGED, TorchPromptBatcher, sample_for
from tunewright.evaluation.evidence import Record, collect, load_records
from tunewright.inference.predictors import language_model
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model, stored_type, upcast
from tunewright.models.chat import ChatTemplate
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import ClassifyTask, Example, Meta, Task
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.generate import GenerateTask

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "count": {"type": "integer"}},
    "required": ["name", "count"],
}
TASKS = {
    "classify": ClassifyTask("Choose:\n{labels}", {"refund": "", "delivery": "", "defect": "", "refused": ""}),
    "extract": ExtractTask("Read it.", SCHEMA),
    "extract in windows": ExtractTask("Read it.", SCHEMA, window=40),
    "generate": GenerateTask("Answer it.", 12),
}
REQUESTS = [f"ticket {number}" + " again" * (7 * number % 11) for number in range(9)]


@pytest.mark.parametrize("kind", TASKS)
def test_answers_found_together_are_those_found_alone(tiny_model: tuple[str, Path], kind: str) -> None:
    family, folder = tiny_model
    model, tokenizer = load_torch_model(folder), TextTokenizer(folder)
    task: Task = TASKS[kind]
    asked = language_model(TorchNextToken(model), task, ChatTemplate.named(family), tokenizer, 20)
    alone = [asked.answer(request) for request in REQUESTS]
    together = asked.answers(REQUESTS, TorchPromptBatcher(model))
    assert [each.text for each in together] == [each.text for each in alone]
    assert len({each.text for each in alone}) > 1 or kind == "classify"
    for one, other in zip(together, alone, strict=True):
        assert one.confidence == pytest.approx(other.confidence, abs=2e-3)
        assert (one.prompt_tokens, one.answer_tokens) == (other.prompt_tokens, other.answer_tokens)


def test_the_time_of_some_is_taken_alone(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path) -> None:
    family, folder = make_tiny_model("llama3")
    model, task = load_torch_model(folder), TASKS["classify"]
    asked = language_model(TorchNextToken(model), task, ChatTemplate.named(family), TextTokenizer(folder), 20)
    examples = [Example.of(f"ticket {number}", "refund", Meta(id=str(number))) for number in range(30)]
    records = collect("adapter", asked, task, {"test": examples}, tmp_path, TorchPromptBatcher(model))
    assert [record.id for record in records] == [example.meta.id for example in examples]
    assert [record.latency_ms > 0 for record in records] == [True] * 20 + [False] * 10
    assert [record.answer for record in load_records(tmp_path / "adapter.jsonl")] == [each.answer for each in records]


def test_on_a_cpu_a_part_is_answered_that_is_drawn(
    make_tiny_model: Callable[[str], tuple[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same part whenever it is drawn, a smaller one within a larger one, of each split its share."""
    folder = make_tiny_model("llama3")[1]
    splits = {
        name: [Example.of(f"{name} {number}", "refund", Meta(id=f"{name}{number}")) for number in range(count)]
        for name, count in (("first", 900), ("second", 100))
    }
    assert sample_for(ADAPTER, folder, splits, 7, on_gpu=True) is splits
    larger, smaller = (sample_for(name, folder, splits, 7, on_gpu=False) for name in (ADAPTER, MERGED))
    assert {name: len(some) for name, some in larger.items()} == {"first": 360, "second": 40}
    assert {name: len(some) for name, some in smaller.items()} == {"first": 90, "second": 10}
    again, other = (sample_for(ADAPTER, folder, splits, seed, on_gpu=False) for seed in (7, 8))
    assert larger == again != other
    for name, some in smaller.items():
        assert {each.meta.id for each in some} < {each.meta.id for each in larger[name]}
        assert [each.meta.id for each in splits[name] if each in some] == [each.meta.id for each in some]
    assert sample_for(EXPORTED, folder, splits, 7, on_gpu=False) == larger
    monkeypatch.setattr(in_torch, "LARGE", 1)
    assert sample_for(EXPORTED, folder, splits, 7, on_gpu=False) == smaller


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_in_16_bits_is_mapped_and_multiplied_in_float32_where_the_machine_can_do_no_better(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    from tunewright.inference.runtimes import torch_model

    load_torch_model(make_tiny_model("llama3")[1], dtype=dtype).save_pretrained(tmp_path)
    assert stored_type(tmp_path) == dtype
    exact = load_torch_model(tmp_path)
    monkeypatch.setattr(torch_model, "compute_type", lambda _: "float32")
    monkeypatch.setattr(torch_model, "_CONVERTED", 1000)  # several pieces of each weight
    held = upcast(load_torch_model(tmp_path, dtype=dtype))
    assert held.dtype == getattr(torch, dtype)
    ids = list(range(2, 100))
    wanted, found = TorchNextToken(exact)(ids), TorchNextToken(held)(ids)
    assert np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std() < 0.02


@pytest.mark.parametrize(
    ("few_shot", "svm", "asked", "more"),
    [(0.2, 0.9, 20, False), (0.8, 0.9, 20, True), (0.95, 0.9, 20, True), (0.8, 0.9, 60, False)],
)
def test_the_untuned_model_is_asked_more_only_where_it_may_beat_the_controls(
    few_shot: float, svm: float, asked: int, more: bool, tmp_path: Path
) -> None:
    def answered(name: str, share: float, count: int) -> None:
        made = [
            Record(str(n), "test", "refund", "refund" if n < share * count else "defect", 0.5, 0.0, 1, 1)
            for n in range(count)
        ]
        write_jsonl(tmp_path / f"{name}.jsonl", (asdict(record) for record in made))

    answered("few_shot", few_shot, asked)
    answered("svm", svm, 60)
    asking = object.__new__(in_torch._Asking)
    asking._answers, asking._tests = tmp_path, {"test": [Example.of("x", "refund", Meta(id="x"))] * 60}
    assert asking.needs_more("few_shot") is more

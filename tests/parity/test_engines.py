"""Parity with other engines: the comparison on a sample, and the report on a missing engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import example, make_spec
from tests.exporters.outputs import with_outputs
from tunewright.core.errors import UserError
from tunewright.evaluation.evidence import VALIDATION, record_of
from tunewright.inference.bundle import Bundle, load_bundle
from tunewright.inference.predictors import Answer
from tunewright.parity import engines as module
from tunewright.parity.engines import Elsewhere, elsewhere
from tunewright.tasks import Example, Message
from tunewright.tasks.extract import ExtractTask

pytestmark = pytest.mark.slow  # transformers is imported

RIGHT = [example(f"refund {number}", "refund") for number in range(30)]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    spec = with_outputs(make_spec(tmp_path))
    return load_bundle(spec.folder / "runs" / "export-1" / "bundle")


@pytest.fixture
def compared(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Elsewhere]]:
    """A function that compares fake engines, and gives the rows by engine."""

    def ask(llama: Callable[[str, bool], str | Exception]) -> dict[str, Elsewhere]:
        def engine(*_: object) -> Iterator[module.Asked]:
            def answer(messages: Sequence[Message], confined: bool) -> tuple[str, list[int]]:
                answer = llama(messages[-1].content, confined)
                if isinstance(answer, Exception):
                    raise answer
                return answer, bundle.template.encode_prompt(messages, bundle.tokenizer)

            yield answer

        def absent(*_: object) -> Iterator[module.Asked]:
            raise UserError("It is not installed.")
            yield

        monkeypatch.setattr(module, "_llama", engine)
        monkeypatch.setattr(module, "_vllm", absent)
        splits: dict[str, Sequence[Example]] = {VALIDATION: RIGHT[:5], "test": RIGHT}
        served = [record_of("test", each, Answer("refund", 1.0), 1.0, bundle.task) for each in RIGHT]
        merged = bundle.folder.parent / "merged"
        return {row.engine: row for row in elsewhere(bundle, merged, splits, served, tmp_path)}

    return ask


def test_answers_are_compared_with_the_servers_on_a_sample(compared: Callable[..., dict[str, Elsewhere]]) -> None:
    rows = compared(lambda text, confined: " refund" if confined else ("refund" if text.endswith("0") else "Well, …"))
    llama = rows["llama.cpp, Q8_0"]
    assert (llama.asked, llama.alike, llama.prompts_alike) == (module.SAMPLE, 1.0, 1.0)
    assert 0 < (llama.freely_alike or 0) < 0.5
    assert "answers 100% alike where its choice is confined to the labels" in llama.summary
    assert rows["transformers"].prompts_alike == 1.0


def test_a_missing_engine_is_reported(compared: Callable[..., dict[str, Elsewhere]]) -> None:
    rows = compared(lambda *_: "billing")
    assert rows["llama.cpp, Q8_0"].alike == 0.0
    assert rows["vLLM's chat API"].summary == "vLLM's chat API: not asked. It is not installed."


@pytest.mark.parametrize("fault", [RuntimeError("it answered 400"), OSError("gone"), UserError("It is cut.")])
def test_an_engine_that_fails_loses_no_run(compared: Callable[..., dict[str, Elsewhere]], fault: Exception) -> None:
    row = compared(lambda *_: fault)["llama.cpp, Q8_0"]
    assert str(fault) in row.summary
    assert row.alike is None


def test_where_every_document_is_read_in_windows_no_engine_is_asked(bundle: Bundle, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"vendor": {"type": "string"}}, "required": ["vendor"]}
    windowed = replace(bundle, task=ExtractTask("Read this.", schema, window=16))
    long = example("a line of a long document\n" * 9, '{"vendor": "Acme"}')
    rows = elsewhere(windowed, bundle.folder.parent / "merged", {"test": [long]}, [], tmp_path)
    assert len(rows) == 3
    assert {row.summary for row in rows} == {f"{row.engine}: not asked. {module._IN_WINDOWS}" for row in rows}

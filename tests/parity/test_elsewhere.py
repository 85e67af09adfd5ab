"""The real model's run, taken elsewhere: plain transformers from merged/ alone, PEFT from adapter/ alone."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import python, tunewright
from tests.fixtures.exported import plain
from tests.fixtures.short_run import SHORT, ShortRun
from tunewright.core.artifacts import read_jsonl
from tunewright.inference.bundle import Bundle, load_bundle
from tunewright.models.resolve import resolve
from tunewright.tasks import Message

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture(scope="module")
def bundle(short_run: ShortRun) -> Bundle:
    return load_bundle(short_run.latest("export") / "bundle")


@pytest.fixture(scope="module")
def requests(short_run: ShortRun) -> dict[str, str]:
    """The test's requests by the ids of their answers."""
    return {
        row["meta"]["id"]: row["messages"][0]["content"]
        for file in (short_run.latest("split") / "test").glob("*.jsonl")
        for row in read_jsonl(file)
    }


def likeliest(model: Any, tokenizer: Any, task: Any) -> Callable[[str], str]:
    """A request -> the label that plain transformers gives the highest probability, chat template and all."""
    import torch

    def tokens(messages: Sequence[Message], prompting: bool) -> list[int]:
        found = tokenizer.apply_chat_template(plain(messages), add_generation_prompt=prompting, return_dict=True)
        return list(found["input_ids"])

    def answer(request: str) -> str:
        messages = task.prompt(request)
        prompt = tokens(messages, True)
        answers = {}
        for label in task.answers:
            whole = tokens([*messages, task.written(label)], False)
            answers[label] = whole[len(prompt) : whole.index(tokenizer.eos_token_id, len(prompt)) + 1]

        with torch.inference_mode():
            read = model(torch.tensor([prompt]), use_cache=True)

        @cache
        def logits(begun: tuple[int, ...]) -> Any:
            if not begun:
                return read.logits[0, -1].float()
            with torch.inference_mode():
                # A copy, because a call adds its tokens to the cache that it is given.
                after = model(torch.tensor([begun]), past_key_values=deepcopy(read.past_key_values))
            return after.logits[0, -1].float()

        def score(ids: list[int]) -> float:
            """Each token among those that may stand in its place, as serving scores them."""
            total = 0.0
            for place, token in enumerate(ids):
                able = sorted({other[place] for other in answers.values() if other[:place] == ids[:place]})
                total += float(logits(tuple(ids[:place]))[able].log_softmax(-1)[able.index(token)])
            return total

        return max(answers, key=lambda label: score(answers[label]))

    return answer


def test_plain_transformers_answers_as_the_merged_arm(
    short_run: ShortRun, bundle: Bundle, requests: dict[str, str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = short_run.latest("export") / "merged"
    tokenizer = AutoTokenizer.from_pretrained(merged)
    answer = likeliest(AutoModelForCausalLM.from_pretrained(merged, dtype="float32"), tokenizer, bundle.task)
    candidate = read_jsonl(short_run.latest("evaluate") / "answers" / "merged.jsonl")
    for record in candidate:
        request = requests[record["id"]]
        messages = bundle.task.prompt(request)
        asked = tokenizer.apply_chat_template(plain(messages), add_generation_prompt=True, return_dict=True)
        assert list(asked["input_ids"]) == bundle.template.encode_prompt(messages, bundle.tokenizer)
        assert answer(request) == record["answer"]
    assert (merged / "system_prompt.txt").read_text("utf-8") == bundle.task.prompt("x")[0].content


def test_what_the_card_says_can_be_typed(short_run: ShortRun, requests: dict[str, str]) -> None:
    """The Python of the card, as it stands there but for the folder and the text."""
    merged = short_run.latest("export") / "merged"
    record = read_jsonl(short_run.latest("evaluate") / "answers" / "merged.jsonl")[0]
    (code,) = re.findall(r"```python\n(.*?)```", (merged / "README.md").read_text("utf-8"), re.DOTALL)
    code = code.replace('"FOLDER"', repr(str(merged))).replace('"YOUR TEXT"', repr(requests[record["id"]]))
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == record["answer"]


def test_peft_answers_as_the_adapter_arm(short_run: ShortRun, bundle: Bundle, requests: dict[str, str]) -> None:
    from peft import LoraConfig, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapter = short_run.latest("train") / "adapter"
    assert LoraConfig.from_pretrained(adapter).base_model_name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"
    base = AutoModelForCausalLM.from_pretrained(resolve("smollm2-135m", Path()).folder)
    tokenizer = AutoTokenizer.from_pretrained(short_run.latest("export") / "merged")
    answer = likeliest(PeftModel.from_pretrained(base, adapter).eval(), tokenizer, bundle.task)
    for record in read_jsonl(short_run.latest("evaluate") / "answers" / "adapter.jsonl")[:6]:
        assert answer(requests[record["id"]]) == record["answer"]


def test_the_report_tells_which_engines_were_asked(short_run: ShortRun) -> None:
    rows = {row["engine"]: row for row in short_run.report["parity"]["elsewhere"]}
    assert list(rows) == ["transformers", "llama.cpp, Q8_0", "vLLM's chat API"]
    assert rows["transformers"]["prompts_alike"] == 1.0
    assert rows["transformers"]["asked"] >= 16
    report = html.unescape(Path(short_run.report["report"]).read_text("utf-8"))
    for row in rows.values():
        assert row["asked"] or row["why"]
        assert row["told"] in report


def test_gguf_files_come_from_the_same_export(short_run: ShortRun) -> None:
    done = tunewright("export", str(short_run.project), *SHORT, "--to", "gguf", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    folder = Path(said["folder"])
    assert {file.name for file in folder.iterdir()} == {
        "tickets-Q8_0.gguf",
        "gguf.json",
        "Modelfile",
        "system_prompt.txt",
        "answers.gbnf",
        "README.md",
    }
    assert folder == (short_run.runs / "latest" / "gguf").resolve()
    assert 'SYSTEM """Which team answers this support ticket?"""' in (folder / "Modelfile").read_text("utf-8")
    shown = tunewright("push", str(short_run.project), "--to", "hub:acme/tickets", "--form", "gguf", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "tickets-Q8_0.gguf" in shown.stdout
    assert "private" in shown.stdout

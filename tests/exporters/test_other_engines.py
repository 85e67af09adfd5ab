"""What stands beside the weights: settings, system prompt, choices and card."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import TOKENIZER, make_spec
from tunewright.config import Spec
from tunewright.core.artifacts import write_json
from tunewright.exporters.other_engines import CHOICES, SYSTEM_PROMPT, asking_of, card, complete
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel
from tunewright.models.tokenizer import TextTokenizer

SAMPLING = {
    "do_sample": True,
    "temperature": 0.7,
    "top_p": 0.8,
    "repetition_penalty": 1.1,
    "eos_token_id": [7, 8],
    "bos_token_id": 1,
}


@pytest.fixture
def base(tmp_path: Path) -> LocalModel:
    folder = tmp_path / "base"
    shutil.copytree(TOKENIZER, folder)
    write_json(folder / "generation_config.json", SAMPLING)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "eos_token": "</s>",
            "auto_map": {"AutoTokenizer": "remote.Code"},
            "chat_template": "the base's",
        },
    )
    return LocalModel("tiny", folder, ChatTemplate.named("chatml"))


def completed(spec: Spec, base: LocalModel, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    complete(folder, spec, base, asking_of(spec, base, 4))
    return folder


def read(file: Path) -> Any:
    return json.loads(file.read_text("utf-8"))


def test_answers_are_greedy_and_end_with_the_turn(base: LocalModel, tmp_path: Path) -> None:
    text = {"kind": "generate", "instruction": "Answer.", "max_tokens": 4}
    merged = completed(make_spec(tmp_path, task=text), base, tmp_path / "merged")
    end = TextTokenizer(base.folder).encode_text("<|im_end|>")
    assert read(merged / "generation_config.json") == {
        "eos_token_id": [*end, 7, 8],
        "bos_token_id": 1,
        "do_sample": False,
        "temperature": 0.0,
        "max_new_tokens": 4,
    }


def test_the_tokenizer_is_read_as_it_stands_and_runs_no_code(base: LocalModel, tmp_path: Path) -> None:
    merged = completed(make_spec(tmp_path), base, tmp_path / "merged")
    config = read(merged / "tokenizer_config.json")
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "auto_map" not in config
    assert config["eos_token"] == "</s>"
    assert config["chat_template"] == (merged / "chat_template.jinja").read_text("utf-8") != "the base's"


def test_a_file_that_a_bundle_shares_stays_as_it_was(base: LocalModel, tmp_path: Path) -> None:
    """Weights of a bundle are links to those of the export; what is written beside them must not reach it."""
    merged, shared = tmp_path / "merged", tmp_path / "bundle"
    merged.mkdir()
    shared.mkdir()
    for name in ("chat_template.jinja", "generation_config.json", "README.md"):
        (merged / name).write_text("before", "utf-8")
        os.link(merged / name, shared / name)
    completed(make_spec(tmp_path), base, merged)
    assert {file.read_text("utf-8") for file in shared.iterdir()} == {"before"}
    assert "before" not in {(merged / file.name).read_text("utf-8") for file in shared.iterdir()}


def test_labels_are_confined_by_their_text_and_their_tokens(base: LocalModel, tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    asking = asking_of(spec, base, 4)
    merged = completed(spec, base, tmp_path / "merged")
    fields = read(merged / CHOICES)
    assert fields == asking.confined
    assert fields["structured_outputs"]["choice"] == list(asking.choices) == ["billing", "defect", "refund"]
    tokenizer = TextTokenizer(base.folder)
    refund = tokenizer.encode_verbatim("refund")
    assert {*refund, asking.end} <= set(fields["allowed_token_ids"])
    longest = max(len(ids) for ids in asking.choices.values())
    assert longest > 4, "what was taught may be less than a label: only what decides"
    assert read(merged / "generation_config.json")["max_new_tokens"] == asking.most == longest
    rule = asking.grammar.splitlines()[-1]
    assert rule.startswith("root ::= <[")
    assert " ".join(f"<[{token}]>" for token in refund) in rule
    assert f"<[{asking.end}]>" not in rule, "the end of the turn is the grammar's own end"


def test_a_text_is_not_confined(base: LocalModel, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, task={"kind": "generate", "instruction": "Answer.", "stop": ["\n\nYours"]})
    merged = completed(spec, base, tmp_path / "merged")
    assert not (merged / CHOICES).exists()
    assert (merged / SYSTEM_PROMPT).read_text("utf-8") == "Answer."
    text = (merged / "README.md").read_text("utf-8")
    assert '"\\n\\nYours"' in text
    assert "structured_outputs" not in text


@pytest.mark.parametrize(
    ("train", "rank"),
    [({}, 16), ({"num_seeds": 3}, 64), ({"lora": {"r": 256}, "num_seeds": 2}, 512), ({"lora": {"r": 2}}, 8)],
)
def test_an_adapters_card_has_a_rank_that_vllm_takes(
    train: dict[str, Any], rank: int, base: LocalModel, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path, train=train)
    text = card(spec, asking_of(spec, base, 4), "adapter")
    assert re.findall(r"--max-lora-rank (\S+)", text) == [str(rank)]


def test_an_adapter_whose_rank_is_too_high_for_vllm_has_no_command_for_it(base: LocalModel, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, train={"lora": {"r": 512}, "num_seeds": 2})
    text = card(spec, asking_of(spec, base, 4), "adapter")
    assert "vllm serve" not in text
    assert "Its rank is too high for vLLM, which can serve the merged model. With PEFT:" in text


def test_every_engine_is_started_with_the_context_of_the_training(base: LocalModel, tmp_path: Path) -> None:
    """A longer one would turn the positions of Phi-3.5-mini otherwise than in the training, in vLLM and llama.cpp."""
    spec = make_spec(tmp_path, train={"max_length": 100})
    cards = {form: card(spec, asking_of(spec, base, 4), form) for form in ("merged", "adapter", "gguf")}
    assert "`vllm serve FOLDER --max-model-len 104`" in cards["merged"]
    assert " --max-model-len 104 --chat-template" in cards["adapter"]
    assert " -c 104 --parallel 1 -m FILE.gguf`" in cards["gguf"]
    long = {"rope_type": "longrope", "original_max_position_embeddings": 102}
    write_json(base.folder / "config.json", read(base.folder / "config.json") | {"rope_parameters": long})
    assert asking_of(spec, base, 4).context == 102


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("acme/base", "acme/base"),
        (str(TOKENIZER), None),
    ],
)
def test_a_card_names_its_base_where_the_hub_knows_it(
    model: str, named: str | None, base: LocalModel, tmp_path: Path
) -> None:
    spec = make_spec(tmp_path, model=model, train={"loss": "labels"})
    for form, library in (("merged", "transformers"), ("adapter", "peft"), ("gguf", "gguf")):
        text = card(spec, asking_of(spec, base, 4), form)
        front = YAML(typ="safe").load(text.split("---\n")[1])
        assert front.get("base_model") == named
        assert front["library_name"] == library
        assert front["pipeline_tag"] == "text-generation"
        assert str(TOKENIZER) not in text, "no place of this machine"
        assert "Confine its choice to the labels." in text

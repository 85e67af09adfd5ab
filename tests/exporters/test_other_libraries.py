"""What is exported loads in plain transformers and PEFT, and in transformers' own reader of GGUF, which is not ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fixtures.exported import TEXTS, USUAL, Exported, exported, plain
from tests.training.test_families import trainer_for
from tunewright.exporters.gguf.export import write_gguf
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.training.loop.soup_training import average_adapters, save_adapter

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture(scope="module", params=USUAL)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(request.param, tmp_path_factory.mktemp(request.param))


def test_plain_transformers_reads_and_answers_as_we_do(model: Exported) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model.merged)
    theirs = AutoModelForCausalLM.from_pretrained(model.merged)
    ours = load_torch_model(model.merged)
    for text in TEXTS:
        asked = tokenizer.apply_chat_template(
            plain(model.messages(text)), add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        assert asked["input_ids"][0].tolist() == model.ids(text)
        written = theirs.generate(**asked)[0, asked["input_ids"].shape[1] :]
        assert written.tolist() == model.answer(ours, text)


def test_the_template_stands_in_both_places_and_knows_no_marks(model: Exported) -> None:
    config = json.loads((model.merged / "tokenizer_config.json").read_text("utf-8"))
    assert config["chat_template"] == (model.merged / "chat_template.jinja").read_text("utf-8") == model.asking.template
    assert "{% generation" not in config["chat_template"]
    settings = json.loads((model.merged / "generation_config.json").read_text("utf-8"))
    assert settings["eos_token_id"][0] == model.asking.end


def test_transformers_own_reader_finds_the_same_weights_in_gguf(model: Exported, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    (file,) = write_gguf(model.merged, tmp_path, "tiny", ["f16"], model.asking, "x")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=file.path.name, dtype=torch.float32)
    ids = torch.tensor([model.ids(TEXTS[0])])
    with torch.inference_mode():
        wanted, found = load_torch_model(model.merged)(ids).logits, theirs(ids).logits
    assert (found - wanted).abs().max() < 1e-3
    assert wanted.std() > 0.1


@pytest.mark.parametrize("architecture", USUAL)
def test_a_trained_adapter_loads_by_plain_peft(architecture: str, tmp_path: Path) -> None:
    """By the names that PEFT and vLLM know, those of fused modules too, with the base's name and not its place."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model = exported(architecture, tmp_path / "model")
    trainer = trainer_for((model.template, model.base.folder), tmp_path / "scratch")
    trainer.train()
    save_adapter(trainer, tmp_path / "member")
    average_adapters([tmp_path / "member"], tmp_path / "adapter", "owner/base")
    config = LoraConfig.from_pretrained(str(tmp_path / "adapter"))
    assert config.base_model_name_or_path == "owner/base"
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text("utf-8")
    base = AutoModelForCausalLM.from_pretrained(model.base.folder)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    saved, found = load_file(tmp_path / "adapter" / "adapter_model.safetensors"), get_peft_model_state_dict(theirs)
    assert saved.keys() == found.keys()
    assert all(torch.equal(saved[name], found[name].float()) for name in saved)
    modules = {name.split(".")[-3] for name in saved}
    assert modules == (
        {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
        if architecture == "phi-3"
        else {
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        }
    )
    ids = torch.tensor([model.ids(TEXTS[0])])
    with torch.inference_mode():
        trained = trainer.model.eval()(input_ids=ids).logits
        assert torch.allclose(theirs(ids).logits, trained, atol=1e-4)
        with theirs.disable_adapter():
            assert not torch.allclose(theirs(ids).logits, trained, atol=1e-4)

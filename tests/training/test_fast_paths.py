"""The fast paths give the loss and the gradients of the plain way, for every architecture, and are left out where they
would not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_families import EXAMPLES, TASK, rows
from tunewright.models.chat import ChatTemplate, answer_tokens
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import ClassifyTask, LabelTrie
from tunewright.training.loop.encode import IGNORED, Row, encode_examples

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

Gradients = dict[str, Any]


def peft_model(folder: Path, *, dropout: float = 0.0, dtype: str = "float32", nf4: bool = False, **changes: Any) -> Any:
    """A model with adapters that already do something, on transformers' own SDPA."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunewright.inference.runtimes.torch_model import load_torch_model

    torch.manual_seed(0)
    if nf4:
        base = load_torch_model(folder, dtype=dtype, nf4=True)
    else:
        config = AutoConfig.from_pretrained(folder, **changes)
        base = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=getattr(torch, dtype))
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, lora, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(getattr(torch, dtype))
            torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def plain(model: Any, some: Sequence[Row]) -> tuple[float, Gradients]:
    """Loss and gradients by the model's own forward pass, each example alone."""
    import torch

    total = 0.0
    for row in some:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        wanted = torch.tensor(row["labels"])
        loss = torch.nn.functional.cross_entropy(logits[:-1], wanted[1:], ignore_index=IGNORED, reduction="sum")
        loss.backward()
        total += float(loss)
    return total, gradients(model)


def packed(model: Any, some: Sequence[Row]) -> tuple[float, Gradients]:
    """The same on the fast paths, all examples at once."""
    from tunewright.training.engine.fast_paths import fit_engine, supervised_loss

    engine = fit_engine(model, some)
    assert engine.shared_prefix and engine.fused_head and engine.fused_layers, engine.reasons
    loss = supervised_loss(model, engine.collate(some))
    loss.backward()
    return float(loss), gradients(model)


def gradients(model: Any) -> Gradients:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same(ours: tuple[float, Gradients], theirs: tuple[float, Gradients], rtol: float = 1e-3) -> None:
    import torch

    assert ours[0] == pytest.approx(theirs[0], rel=rtol / 10)
    assert ours[1].keys() == theirs[1].keys() and ours[1]
    for name, value in theirs[1].items():
        torch.testing.assert_close(ours[1][name], value, atol=rtol * float(value.abs().max()), rtol=rtol, msg=name)


def under_prompts(family: str, folder: Path, prompts: Sequence[str]) -> list[Row]:
    """The examples in turn under several system prompts."""
    tokenizer, template = TextTokenizer(folder), ChatTemplate.named(family)
    return [
        row
        for number, example in enumerate(EXAMPLES)
        for row in encode_examples(
            [example], ClassifyTask(prompts[number % len(prompts)], TASK.labels), template, tokenizer, 512
        )
    ]


LONG = "Which of these teams should answer the customer's letter? " * 2


def test_a_shared_prompt_is_run_once(tiny_model: tuple[str, Path]) -> None:
    from tunewright.training.engine.packing import pack

    family, folder = tiny_model
    some = under_prompts(family, folder, [LONG])
    batch = pack(some)
    (group,) = batch["layout"]
    assert group["shared"] > len(LONG)
    assert batch["input_ids"].numel() == group["shared"] + group["own"]
    assert_same(packed(peft_model(folder), some), plain(peft_model(folder), some))


def test_several_prompts_make_several_groups(tiny_model: tuple[str, Path]) -> None:
    from tunewright.training.engine.packing import pack

    family, folder = tiny_model
    some = under_prompts(family, folder, [LONG, "Choose a team for this, and be quick about it, please.", LONG[::-1]])
    groups = pack(some)["layout"]
    assert len(groups) == 3
    assert all(group["shared"] > 40 for group in groups)
    assert_same(packed(peft_model(folder), some), plain(peft_model(folder), some))


def test_gradient_checkpointing_changes_nothing(tiny_model: tuple[str, Path]) -> None:
    family, folder = tiny_model
    some = under_prompts(family, folder, [LONG])
    model = peft_model(folder)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    assert_same(packed(model, some), plain(peft_model(folder), some))


def test_a_window_shorter_than_the_prompt_is_kept_to() -> None:
    """Mistral's and Qwen2's sliding windows, ending in the prompt, at its border and in the example."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

    draw = torch.Generator().manual_seed(0)
    prefix = torch.randint(3, 90, (40,), generator=draw).tolist()
    some = []
    for length in (5, 19, 30):
        own = torch.randint(3, 90, (length,), generator=draw).tolist()
        some.append({"input_ids": [*prefix, *own], "labels": [IGNORED] * (38 + length) + own[-2:]})
    shape = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
    }
    for window in (8, 25, 45, 200):
        for model in (
            MistralForCausalLM(MistralConfig(**shape, sliding_window=window)),
            Qwen2ForCausalLM(Qwen2Config(**shape, sliding_window=window, use_sliding_window=True, max_window_layers=1)),
        ):
            tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
            assert_same(packed(copy.deepcopy(tuned), some), plain(tuned, some))


@pytest.mark.parametrize("family", ["llama3", "phi3"])
def test_four_bit_weights_give_the_same_gradients(
    family: str, make_tiny_model: Callable[[str], tuple[str, Path]]
) -> None:
    _, folder = make_tiny_model(family)
    some = under_prompts(family, folder, [LONG])
    assert_same(packed(peft_model(folder, nf4=True), some), plain(peft_model(folder, nf4=True), some))


def test_dropout_is_that_of_each_example(tiny_model: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped depends on a token's own values here, so that both ways drop the same; in float64, so that
    rounding moves nothing over the threshold."""
    import torch

    from tunewright.training.engine import lora

    def drawn(values: Any, rate: float) -> Any:
        return -((values.detach().double() * 7919.17).frac().abs() >= rate).short()

    def dropped(self: Any, values: Any) -> Any:
        return values * -drawn(values, self.p) / (1 - self.p) if self.training else values

    family, folder = tiny_model
    some = under_prompts(family, folder, [LONG])
    monkeypatch.setattr(lora, "drawn", drawn)
    monkeypatch.setattr(torch.nn.Dropout, "forward", dropped)
    without = plain(peft_model(folder, dtype="float64"), some)
    ours = packed(peft_model(folder, dtype="float64", dropout=0.5), some)
    assert ours[0] != pytest.approx(without[0], rel=1e-4)
    assert_same(ours, plain(peft_model(folder, dtype="float64", dropout=0.5), some), rtol=1e-6)


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 0.9])
def test_dropout_drops_as_often_as_it_says_and_keeps_the_mean(name: str, rate: float) -> None:
    import torch

    from tunewright.training.engine.lora import _fused_lora

    torch.manual_seed(0)
    dtype = getattr(torch, name)
    x, weight = torch.ones(40_000, 5, dtype=dtype, requires_grad=True), torch.zeros(1, 5, dtype=dtype)
    down, up = torch.eye(5)[:1], torch.ones(1, 1)
    y = _fused_lora().apply(x, None, weight, None, dtype, None, down, up, 1.0, rate)
    chance = 4 * (rate * (1 - rate) / len(y)) ** 0.5  # four standard deviations of the share of 40,000 draws
    assert float((y == 0).double().mean()) == pytest.approx(rate, abs=chance)
    # 16 bits round what is kept, 1 / (1 - rate), by up to 0.4 %.
    assert float(y.detach().double().mean()) == pytest.approx(1, abs=chance / (1 - rate) + 0.004)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad[:, 0], y[:, 0].detach()), "what was dropped has no gradient"
    assert not x.grad[:, 1:].any()


@pytest.mark.parametrize("kind", ["Gemma2", "Granite"])
def test_what_the_fast_paths_do_not_know_is_left_to_the_model(kind: str) -> None:
    """Gemma 2 caps its attention scores, and its logits, which the fast head does too; Granite divides its logits."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    from tunewright.training.engine.fast_paths import fit_engine, supervised_loss

    torch.manual_seed(0)
    extra = {
        "Gemma2": {"head_dim": 8, "final_logit_softcapping": 0.05, "attn_logit_softcapping": 1.0},
        "Granite": {"logits_scaling": 0.1},
    }[kind]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        **extra,
    )
    base = getattr(transformers, f"{kind}ForCausalLM")(config)
    model = get_peft_model(base, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    some = [{"input_ids": list(range(3, 30 + n)), "labels": [IGNORED] * (25 + n) + [7, 8]} for n in range(4)]
    expected = plain(model, some)
    engine = fit_engine(model, some)
    if kind == "Granite":
        assert not engine.fused_head and "changes its logits" in engine.reasons["fused_head"]
    else:
        assert engine.fused_head
        assert not engine.shared_prefix and "softcap" in engine.reasons["shared_prefix"]
    loss = supervised_loss(model, engine.collate(some))
    loss.backward()
    assert_same((float(loss), gradients(model)), expected)


def test_a_model_that_remembers_what_it_read_is_not_packed() -> None:
    """A state-space layer carries one example's state into the next, whatever attention does."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MambaConfig, MambaForCausalLM

    from tunewright.training.engine.fast_paths import fit_engine

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=4))
    tuned = get_peft_model(model, LoraConfig(target_modules=["in_proj", "x_proj"]))
    some = [{"input_ids": list(range(3, 30 + n)), "labels": [IGNORED] * (25 + n) + [7, 8]} for n in range(4)]
    engine = fit_engine(tuned, some)
    assert not engine.shared_prefix
    assert engine.reasons["shared_prefix"]


@pytest.mark.parametrize("cap", [0.0, 30.0])
@pytest.mark.parametrize("among_all", [True, False])
def test_in_16_bits_confident_tokens_still_have_a_loss_and_a_gradient(among_all: bool, cap: float) -> None:
    """The right answer's logit is about 20, where bfloat16 knows only eighths; bent by a cap, about 17."""
    import torch

    from tunewright.training.engine.head import _fused_losses

    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 128, generator=draw).bfloat16()
    wanted = torch.arange(32)
    hidden = (0.15 * weight[:32] + 0.1 * torch.randn(32, 128, generator=draw)).bfloat16().requires_grad_()
    exact = hidden.detach().double().requires_grad_()
    logits = exact @ weight.double().t()
    logits = cap * (logits / cap).tanh() if cap else logits
    torch.nn.functional.cross_entropy(logits, wanted, reduction="sum").backward()
    choices = None if among_all else torch.arange(64).repeat(32, 1)
    _fused_losses(hidden, weight, wanted, choices, cap).sum().backward()
    assert hidden.grad is not None
    assert exact.grad is not None
    assert (hidden.grad - exact.grad).norm() < 0.05 * exact.grad.norm()


@pytest.mark.parametrize("loss", ["tokens", "labels"])
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_the_loss_of_each_example_is_that_of_the_example_alone(
    tiny_model: tuple[str, Path], packed: bool, loss: str
) -> None:
    """Under three prompts and in several batches, so that a batch has the rows in an order of its own."""
    from tunewright.training.engine.fast_paths import RequestedPaths, fit_engine, supervised_loss
    from tunewright.training.loop.trainer import row_losses

    family, folder = tiny_model
    tokenizer, template = TextTokenizer(folder), ChatTemplate.named(family)
    some = [
        row
        for prompt in (LONG, "Short.", LONG + "Now.")
        for row in encode_examples(EXAMPLES, ClassifyTask(prompt, TASK.labels), template, tokenizer, 512, loss)
    ]
    model = peft_model(folder).eval()
    engine = fit_engine(model, some, RequestedPaths(shared_prefix=packed))
    assert engine.shared_prefix == packed
    alone = [float(supervised_loss(model, engine.collate([row])).detach()) for row in some]
    assert row_losses(model, engine, some, at_once=5) == pytest.approx(alone, rel=1e-4, abs=1e-5)
    assert len({round(each, 3) for each in alone}) > 3


def test_paths_not_asked_for_are_left_out(tiny_model: tuple[str, Path]) -> None:
    from tunewright.training.engine.fast_paths import RequestedPaths, fit_engine, supervised_loss

    family, folder = tiny_model
    some = under_prompts(family, folder, [LONG])
    expected = plain(peft_model(folder), some)
    for wanted in (
        RequestedPaths(False, False, False),
        RequestedPaths(True, False, False),
        RequestedPaths(False, True, False),
    ):
        model = peft_model(folder)
        engine = fit_engine(model, some, wanted)
        assert (engine.shared_prefix, engine.fused_head, bool(engine.fused_layers)) == (
            wanted.shared_prefix,
            wanted.fused_head,
            wanted.fused_layers,
        )
        loss = supervised_loss(model, engine.collate(some))
        loss.backward()
        assert_same((float(loss), gradients(model)), expected)


@pytest.mark.parametrize("once", [True, False], ids=["read once", "read again"])
def test_answers_in_training_are_those_of_serving(tiny_model: tuple[str, Path], once: bool) -> None:
    """The search that stops early finds the label that scoring all of them finds, with its probability."""
    from tunewright.inference.predictors import LabelScorer
    from tunewright.inference.runtimes.torch_model import TorchNextToken
    from tunewright.training.engine.fast_paths import RequestedPaths, fit_engine
    from tunewright.training.loop.answering import likeliest_labels

    family, folder = tiny_model
    names = ["refund", "reform", "delivery", "defect", "define", "deliver it", "r", "dispute"]
    task = ClassifyTask("Choose.", dict.fromkeys(names, ""))
    template, tokenizer = ChatTemplate.named(family), TextTokenizer(folder)
    model = peft_model(folder)
    scorer = LabelScorer(TorchNextToken(model), task, template, tokenizer)
    prompts = [scorer.prompts(f"ticket {n}" + " and more" * (3 * n))[0] for n in range(12)]
    served = [scorer.probabilities(prompt) for prompt in prompts]
    engine = fit_engine(model, rows(family, folder), RequestedPaths(shared_prefix=once))
    assert engine.shared_prefix == once
    trie = LabelTrie(list(answer_tokens(task, template, tokenizer).values()))
    model.eval()
    found = likeliest_labels(model, engine, prompts, trie, at_once=5)
    assert [names[index] for index, _ in found] == [max(p, key=p.__getitem__) for p in served]
    assert [p for _, p in found] == pytest.approx([max(p.values()) for p in served], rel=1e-4)

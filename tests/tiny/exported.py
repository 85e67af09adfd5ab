"""What tests of exported models on tiny weights share: a model of each architecture, completed as an export's."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import make_spec
from tests.tiny.conftest import _SPECIAL
from tunewright.exporters.other_engines import Asking, asking_of, complete
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel, resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Message

TEXTS = ("hello there", "Where is 12?", "\nOn a line of its own ", " \t ", "“é” 🦙 <|imend|>")
MOST = 12
_LONG = {
    "rope_theta": 1e4,
    "rope_type": "longrope",
    "original_max_position_embeddings": 512,
    "short_factor": [1.0 + n / 20 for n in range(6)],
    "long_factor": [2.0 + n for n in range(6)],
}
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama3", "LlamaConfig", {}),
    "mistral": ("mistral", "MistralConfig", {"head_dim": 32}),
    "phi-3": ("phi3", "Phi3Config", {"original_max_position_embeddings": 512}),
    "qwen2": ("chatml", "Qwen2Config", {}),
    "qwen3": ("chatml", "Qwen3Config", {"head_dim": 32}),
    "phi-4-mini": (
        "phi4",
        "Phi3Config",
        {
            "tie_word_embeddings": True,
            "rope_parameters": _LONG | {"partial_rotary_factor": 0.75},
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 512,
        },
    ),
    "llama 3.1's positions": (
        "llama3",
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_theta": 1e4,
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "llama, positions stretched": (
        "llama3",
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_theta": 1e4,
                "rope_type": "linear",
                "factor": 4.0,
            }
        },
    ),
}
"""Template, transformers' config, what differs from a small Llama."""
USUAL = ("llama", "mistral", "phi-3", "qwen2")


@dataclass(frozen=True)
class Exported:
    template: str
    merged: Path
    base: LocalModel
    asking: Asking

    def messages(self, text: str) -> list[Message]:
        return self.asking.task.prompt(text)

    def ids(self, text: str) -> list[int]:
        """The prompt as it is served."""
        return self.base.template.encode_prompt(self.messages(text), TextTokenizer(self.base.folder))

    def answer(self, model: Any, text: str) -> list[int]:
        """What torch writes behind the prompt, greedily, its last token that of the turn's end unless it is long."""
        import torch

        ids = self.ids(text)
        written: list[int] = []
        with torch.inference_mode():
            while len(written) < MOST and self.asking.end not in written:
                written.append(int(model(torch.tensor([ids + written])).logits[0, -1].argmax()))
        return written


def exported(architecture: str, folder: Path) -> Exported:
    """A two-layer random model of an architecture, with all that other engines read."""
    template, name, extra = ARCHITECTURES[architecture]
    base, merged = folder / "base", folder / "merged"
    _write_tokenizer(base)
    _write_weights(base, name, extra)
    (base / "chat_template.jinja").write_text(ChatTemplate.named(template).source, "utf-8")
    merged.mkdir()
    for file in ("model.safetensors", "config.json"):
        shutil.copy(base / file, merged / file)
    spec = make_spec(
        folder, name="tiny", model=str(base), task={"kind": "generate", "instruction": "Say it.", "max_tokens": MOST}
    )
    found = resolve(spec.model, spec.folder)
    asking = asking_of(spec, found, MOST)
    complete(merged, spec, found, asking)
    return Exported(template, merged, found, asking)


def _write_tokenizer(folder: Path) -> None:
    """One token a byte, and every mark; with one merge, of letters that no text has, because llama.cpp wants one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "Āā"]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(known)}, [("Ā", "ā")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.add_special_tokens({"additional_special_tokens": _SPECIAL[2:]})
    fast.save_pretrained(folder)


def _write_weights(folder: Path, name: str, extra: dict[str, Any]) -> None:
    import torch
    import transformers

    size = len(transformers.PreTrainedTokenizerFast.from_pretrained(folder))
    settings = {
        "vocab_size": size,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**settings | extra)).float()
    for part, parameter in model.named_parameters():
        if "norm" in part:  # trained ones are no ones: none may be left out
            torch.nn.init.uniform_(parameter, 0.6, 1.6)
    model.save_pretrained(folder)


def plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": each.role, "content": each.content} for each in messages]

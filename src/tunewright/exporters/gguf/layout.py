"""The layout of a model's tensors and settings in llama.cpp: names, the order of rotated rows, and GGUF's keys.

Source: the `gguf` package's own tables of names and keys, and the expectations of llama.cpp's loader for each
architecture (ggml-org/llama.cpp as of llama-cpp-python 0.3.36, checked 2026-11-27).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.models.architectures import longest_exact, windows_of

Floats = npt.NDArray[np.float32]

ARCHITECTURES = {"llama": "LLAMA", "mistral": "LLAMA", "phi3": "PHI3", "qwen2": "QWEN2", "qwen3": "QWEN3"}
"""transformers' model type -> llama.cpp's architecture."""
_ROPE_KEPT = ("default", "llama3", "linear", "longrope")


@dataclass(frozen=True)
class Layout:
    """A model's layout for llama.cpp.

    Args:
        config: the content of config.json.
        where: the folder, for messages.

    Raises:
        UserError: llama.cpp, or this writer, does not know its architecture or its position encoding.
    """

    config: Mapping[str, Any]
    where: Path

    def __post_init__(self) -> None:
        kind = self.config.get("model_type")
        if kind not in ARCHITECTURES:
            raise UserError(
                f"Tunewright can't write GGUF for models of the type '{kind}'.",
                where=self.where,
                fix=f"Known: {', '.join(ARCHITECTURES)}. llama.cpp's convert_hf_to_gguf.py may know merged/ itself.",
            )
        if self._rope_type not in _ROPE_KEPT:
            raise UserError(
                f"Tunewright can't write GGUF with the position encoding '{self._rope_type}'.",
                where=self.where,
                fix="llama.cpp's convert_hf_to_gguf.py may know merged/ itself.",
            )

    @property
    def architecture(self) -> str:
        return ARCHITECTURES[self.config["model_type"]]

    @property
    def head_width(self) -> int:
        return int(self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"])

    @property
    def vocabulary(self) -> int:
        return int(self.config["vocab_size"])

    @property
    def context(self) -> int:
        """Tokens up to which llama.cpp computes what the model does.

        It has no sliding window for these architectures; Phi-3's is switched off (ggml-org/llama.cpp#13676). A context
        longer than LongRoPE's short factors are for gets the long ones, for short requests too."""
        limits = (self.config["max_position_embeddings"], longest_exact(self.config), *windows_of(self.config))
        return min(int(limit) for limit in limits if limit)

    @property
    def rope(self) -> Mapping[str, Any]:
        """Settings of the position encoding with the keys of transformers 5, whichever version wrote them."""
        older = self.config.get("rope_scaling") or {}
        newer = self.config.get("rope_parameters") or {}
        return {"rope_theta": self.config.get("rope_theta", 10000.0), **older, **newer}

    @property
    def _rope_type(self) -> str:
        kind = str(self.rope.get("rope_type") or self.rope.get("type") or "default")
        return "longrope" if kind == "su" else kind

    @property
    def rope_width(self) -> int:
        """The number of rotated values of a head."""
        share = self.rope.get("partial_rotary_factor") or self.config.get("partial_rotary_factor") or 1.0
        return int(self.head_width * share)

    def settings(self, writer: Any) -> None:
        """Write the architecture's keys with a `gguf.GGUFWriter`."""
        config = self.config
        writer.add_context_length(self.context)
        writer.add_embedding_length(config["hidden_size"])
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config.get("num_key_value_heads") or config["num_attention_heads"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        writer.add_rope_freq_base(float(self.rope["rope_theta"]))
        writer.add_rope_dimension_count(self.rope_width)
        writer.add_vocab_size(self.vocabulary)
        if self.architecture in ("QWEN3", "LLAMA"):
            writer.add_key_length(self.head_width)
            writer.add_value_length(self.head_width)
        if self.architecture == "PHI3":
            writer.add_sliding_window(config.get("sliding_window") or 0)
        if self._rope_type == "linear":
            import gguf

            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(self.rope["factor"]))
        if self.architecture == "PHI3":
            writer.add_rope_scaling_orig_ctx_len(self._trained_context)
            if self._rope_type == "longrope":
                writer.add_rope_scaling_attn_factors(self._attention_factor)

    def name(self, name: str) -> str | None:
        """The GGUF name of a tensor of transformers; None where llama.cpp does not need it.

        Raises:
            UserError: llama.cpp has no place for it.
        """
        import gguf

        if name == "lm_head.weight" and self.config.get("tie_word_embeddings"):
            return None
        if name.endswith("rotary_emb.inv_freq"):
            return None
        architecture = getattr(gguf.MODEL_ARCH, self.architecture)
        names = gguf.get_tensor_name_map(architecture, self.config["num_hidden_layers"])
        found: str | None = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise UserError(
                f"llama.cpp has no place for the tensor {name} in the architecture {self.architecture.lower()}.",
                where=self.where,
                fix="Export a model whose weights are those of its architecture.",
            )
        return found

    def order(self, name: str) -> npt.NDArray[np.intp] | None:
        """The order of a tensor's rows in the file; None: unchanged. llama.cpp rotates neighbouring values of Llama's
        heads, transformers the two halves of a head."""
        if self.architecture != "LLAMA":
            return None
        part = name.rsplit(".", 2)[-2]
        config = self.config
        heads = {
            "q_proj": config["num_attention_heads"],
            "k_proj": config.get("num_key_value_heads") or config["num_attention_heads"],
        }.get(part)
        if heads is None:
            return None
        rows = np.arange(heads * self.head_width).reshape(heads, 2, self.head_width // 2)
        return rows.swapaxes(1, 2).reshape(-1)

    def rope_tensors(self) -> dict[str, Floats]:
        """The divisors of the frequencies where the position encoding is stretched, by GGUF's names: one row for Llama
        3.1's kind, one for short and one for long texts for LongRoPE."""
        match self._rope_type:
            case "llama3":
                return {"rope_freqs.weight": self._llama3_factors()}
            case "longrope":
                return {
                    f"rope_factors_{length}.weight": np.array(self.rope[f"{length}_factor"], np.float32)
                    for length in ("long", "short")
                }
        return {}

    def _llama3_factors(self) -> Floats:
        rope = self.rope
        turns = 1.0 / float(rope["rope_theta"]) ** (np.arange(0, self.rope_width, 2) / self.rope_width)
        # How many waves fit into the context of the pre-training: slow waves are stretched, fast ones stay.
        fits = rope["original_max_position_embeddings"] * turns / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        kept = np.clip((fits - low) / (high - low), 0, 1)
        factors: Floats = (1 / ((1 - kept) / rope["factor"] + kept)).astype(np.float32)
        return factors

    @property
    def _trained_context(self) -> int:
        known = self.rope.get("original_max_position_embeddings")
        known = known or self.config.get("original_max_position_embeddings") or self.config["max_position_embeddings"]
        return int(known)

    @property
    def _attention_factor(self) -> float:
        """Source: LongRoPE, Ding et al. 2024; transformers' modelling of Phi-3."""
        if known := self.rope.get("attention_factor"):
            return float(known)
        scale = self.config["max_position_embeddings"] / self._trained_context
        return math.sqrt(1 + math.log(scale) / math.log(self._trained_context)) if scale > 1 else 1.0

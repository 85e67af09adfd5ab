"""Writes a `tokenizer.json` in llama.cpp's form: tokens, their kinds, merges or scores, and the pre-tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.exporters.other_engines import read_json, special_tokens
from tunewright.models.tokenizer_check import CUTS, parts_of

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class Vocabulary:
    """The tokenizer's part of a GGUF file.

    Args:
        folder: the Hugging Face folder with tokenizer.json.
        size: rows of the model's embedding.

    Raises:
        UserError: llama.cpp has no tokenizer of this kind.
    """

    def __init__(self, folder: Path, size: int):
        self._folder, self._size = folder, size
        self._data = read_json(folder / "tokenizer.json")
        model = self._data["model"]
        if model["type"] != "BPE":
            raise self._unknown(f"It is of the type {model['type']}.")
        self._ids: dict[str, int] = {
            **model["vocab"],
            **{each["content"]: each["id"] for each in self._data["added_tokens"]},
        }
        if max(self._ids.values()) >= size:
            raise self._unknown(f"It has the token {max(self._ids.values())}, and the model {size} tokens.")

    def write(self, writer: Any, end: int, template: str) -> None:
        """Write it with a `gguf.GGUFWriter`.

        llama.cpp must add no token before or behind a text, because the template writes the beginning of a prompt.

        Args:
            end: the token that ends a turn.
            template: the chat template in plain form.
        """
        model = self._data["model"]
        pieces = bool(model.get("byte_fallback"))
        texts = {number: text for text, number in self._ids.items()}
        writer.add_tokenizer_model("llama" if pieces else "gpt2")
        writer.add_tokenizer_pre("default" if pieces else self._pre_tokenizer())
        writer.add_token_list([texts.get(number, f"[PAD{number}]") for number in range(self._size)])
        writer.add_token_types(self._kinds(texts, pieces))
        merges = [each.split(" ") if isinstance(each, str) else each for each in model["merges"]]
        if pieces:
            # llama.cpp first merges the pair with the best score, and the merges are listed in that order.
            rank: dict[str, int] = {}
            for number, pair in enumerate(merges):
                rank.setdefault("".join(pair), number)
            writer.add_token_scores([-float(rank.get(texts.get(number, ""), 0)) for number in range(self._size)])
            writer.add_add_space_prefix(self._prefixed())
        else:
            writer.add_token_merges([" ".join(pair) for pair in merges])
        writer.add_add_bos_token(False)
        writer.add_add_eos_token(False)
        writer.add_eos_token_id(end)
        writer.add_eot_token_id(end)
        for key, text in special_tokens(self._folder).items():
            if key != "eos_token" and text in self._ids:
                getattr(writer, f"add_{key}_id")(self._ids[text])
        writer.add_chat_template(template)

    def _kinds(self, texts: Mapping[int, str], pieces: bool) -> list[Any]:
        """The `gguf.TokenType` of each token.

        Args:
            pieces: whether the tokenizer is of SentencePiece's kind.
        """
        import gguf

        kinds = gguf.TokenType
        added = {each["id"]: each["special"] for each in self._data["added_tokens"]}
        unknown = self._ids.get(self._data["model"].get("unk_token") or "")
        types = []
        for number in range(self._size):
            if pieces and number == unknown:
                types.append(kinds.UNKNOWN)
            elif number in added:
                types.append(kinds.CONTROL if added[number] else kinds.USER_DEFINED)
            elif number not in texts:
                types.append(kinds.UNUSED)
            else:
                types.append(kinds.BYTE if pieces and _BYTE.fullmatch(texts[number]) else kinds.NORMAL)
        return types

    @property
    def strips(self) -> bool:
        """Whether white space behind control tokens belongs to them, as in Phi-3."""
        return any(each["special"] and each["rstrip"] for each in self._data["added_tokens"])

    def _pre_tokenizer(self) -> str:
        """llama.cpp's name of the pre-tokenizer.

        Raises:
            UserError: llama.cpp has none like it.
        """
        nodes = list(parts_of(self._data.get("pre_tokenizer")))
        kinds = [node["type"] for node in nodes]
        if kinds == ["Digits", "ByteLevel"] and nodes[0]["individual_digits"]:
            return "smollm"
        if kinds == ["ByteLevel"] and nodes[0].get("use_regex", True):
            return "gpt-2"
        if kinds == ["Split", "ByteLevel"] and (name := CUTS.get(nodes[0]["pattern"].get("Regex", ""))):
            # Phi-4 has the same pattern, with merges for every token.
            whole = self._data["model"].get("ignore_merges")
            return "dbrx" if name == "llama-bpe" and not whole else name
        raise self._unknown(f"Its pre-tokenizer ({', '.join(kinds) or 'none'}) is unlike any that llama.cpp knows.")

    def _prefixed(self) -> bool:
        """Whether each text behind a control token begins with a space."""
        for node in parts_of(self._data.get("normalizer")):
            if node["type"] == "Prepend":
                return True
        for node in parts_of(self._data.get("pre_tokenizer")):
            if node["type"] == "Metaspace":
                return str(node.get("prepend_scheme", "always")) == "always"
        return False

    def _unknown(self, why: str) -> UserError:
        return UserError(
            "llama.cpp has no tokenizer like that of this model.",
            where=self._folder / "tokenizer.json",
            why=why,
            fix="Serve merged/ with vLLM or transformers, or the bundle with tunewright serve.",
        )

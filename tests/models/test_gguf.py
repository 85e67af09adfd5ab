"""The tokenizer that is made of a GGUF file cuts texts as the model's own did."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tunewright.models.gguf import gguf_to_folder, restore_pre_tokenizer
from tunewright.models.gguf_header import check_gguf
from tunewright.models.tokenizer import TextTokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
WIDTH, INNER = 8, 16


def gguf_file(path: Path, pre_tokenizer: str | None) -> Path:
    """A Llama with one random layer, whose vocabulary has the bytes and the number 12."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    if pre_tokenizer is not None:
        writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list([*ALPHABET, "12"])
    writer.add_token_types([1] * (len(ALPHABET) + 1))
    writer.add_token_merges(["1 2"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {
        "token_embd": (len(ALPHABET) + 1, WIDTH),
        "output_norm": (WIDTH,),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,),
        **{f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (INNER, WIDTH),
        "blk.0.ffn_up": (INNER, WIDTH),
        "blk.0.ffn_down": (WIDTH, INNER),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def as_transformers_reads_it() -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate([*ALPHABET, "12"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("1", "2")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@pytest.mark.parametrize(
    ("pre_tokenizer", "tokens"), [("smollm", ["1", "2"]), ("default", ["12"]), ("gpt-2", ["12"]), (None, ["12"])]
)
def test_a_number_is_cut_as_the_files_pre_tokenizer_says(
    pre_tokenizer: str | None, tokens: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = check_gguf(gguf_file(tmp_path / "model.gguf", pre_tokenizer))
    tokenizer = as_transformers_reads_it()
    restore_pre_tokenizer(tokenizer, found, "model.gguf")
    assert (found, tokenizer.encode("12").tokens) == (pre_tokenizer, tokens)
    assert "note" not in "".join(capsys.readouterr())


@pytest.mark.slow
def test_an_unknown_pre_tokenizer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    restore_pre_tokenizer(as_transformers_reads_it(), "llama-bpe", "model.gguf")
    assert "note" not in "".join(capsys.readouterr())
    restore_pre_tokenizer(as_transformers_reads_it(), "viking", "model.gguf")
    assert "model.gguf names the pre-tokenizer 'viking', which transformers does not know" in "".join(
        capsys.readouterr()
    )


@pytest.mark.slow
def test_a_users_own_file_keeps_its_digits(tmp_path: Path) -> None:
    folder = gguf_to_folder(gguf_file(tmp_path / "model.gguf", "smollm"), tmp_path / "folder")
    tokenizer = TextTokenizer(folder)
    assert [tokenizer.decode([token]) for token in tokenizer.encode_verbatim("a 12")] == ["a", " ", "1", "2"]


def test_a_folder_that_is_there_needs_no_cache_that_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    assert gguf_to_folder(tmp_path / "model.gguf", tmp_path / "made") == tmp_path / "made"
    assert not (tmp_path / "made.lock").exists()

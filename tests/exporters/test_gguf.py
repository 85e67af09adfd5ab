"""GGUF files, read back by the gguf package: names, order, types, memory, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.conftest import TOKENIZER, make_spec
from tests.exporters.outputs import with_outputs
from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.exporters.gguf import export as writing
from tunewright.exporters.gguf import llama
from tunewright.exporters.gguf.export import export_gguf, write_gguf
from tunewright.exporters.gguf.layout import Layout
from tunewright.exporters.gguf.vocabulary import Vocabulary
from tunewright.exporters.other_engines import Asking, asking_of, complete
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel
from tunewright.models.tensor_files import INDEX, TensorWriter

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "vocab_size": 300,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"},
    "tie_word_embeddings": False,
}
LAYER = "model.layers.0."
SHAPES = {
    "model.embed_tokens.weight": (300, 64),
    f"{LAYER}input_layernorm.weight": (64,),
    f"{LAYER}self_attn.q_proj.weight": (64, 64),
    f"{LAYER}self_attn.k_proj.weight": (32, 64),
    f"{LAYER}self_attn.v_proj.weight": (32, 64),
    f"{LAYER}self_attn.o_proj.weight": (64, 64),
    f"{LAYER}post_attention_layernorm.weight": (64,),
    f"{LAYER}mlp.gate_proj.weight": (96, 64),
    f"{LAYER}mlp.up_proj.weight": (96, 64),
    f"{LAYER}mlp.down_proj.weight": (64, 96),
    "model.norm.weight": (64,),
    "lm_head.weight": (300, 64),
}
Values = Mapping[str, np.ndarray]


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Numbers that bfloat16 holds exactly."""
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


@pytest.fixture
def values() -> Values:
    draw = np.random.default_rng(0)
    return {name: bfloat16(draw.normal(size=shape)) for name, shape in SHAPES.items()}


@pytest.fixture
def merged(tmp_path: Path, values: Values) -> Path:
    """A model of random weights in two bfloat16 shards, completed as an export's."""
    folder = tmp_path / "merged"
    folder.mkdir()
    names = list(values)
    placed = {}
    for number, part in enumerate((names[:5], names[5:]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        writer = TensorWriter(folder / file, len(part))
        for name in part:
            writer.write(name, (values[name].view(np.uint32) >> 16).astype(np.uint16), "BF16")
            placed[name] = file
        writer.close()
    write_json(folder / INDEX, {"weight_map": placed})
    write_json(folder / "config.json", CONFIG)
    spec = make_spec(tmp_path)
    base = LocalModel("tiny", TOKENIZER, ChatTemplate.named("chatml"))
    complete(folder, spec, base, asking_of(spec, base, 5))
    # llama.cpp knows no tokenizer without merges, and ours of one token a byte has none.
    data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    first, second = sorted(data["model"]["vocab"])[:2]
    data["model"]["vocab"][first + second] = 299
    data["model"]["merges"] = [[first, second]]
    write_json(folder / "tokenizer.json", data)
    return folder


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return asking_of(make_spec(tmp_path), LocalModel("tiny", TOKENIZER, ChatTemplate.named("chatml")), 5)


def tensors(file: Path) -> dict[str, tuple[str, np.ndarray]]:
    """(type, values in float32) of every tensor, by name."""
    return {
        each.name: (each.tensor_type.name, gguf.quants.dequantize(each.data, each.tensor_type))
        for each in gguf.GGUFReader(file).tensors
    }


def fields(file: Path) -> dict[str, Any]:
    return {key: each.contents() for key, each in gguf.GGUFReader(file).fields.items()}


def test_tensors_are_there_by_llamas_names_and_in_its_order(
    merged: Path, asking: Asking, values: Values, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_SLICE", 64 * 7)  # so that every matrix is written in several pieces
    f16, q8 = write_gguf(merged, tmp_path / "gguf", "job", ["f16", "q8_0"], asking, "x")
    result = tensors(f16.path)
    assert len(result) == len(SHAPES)
    assert result["blk.0.attn_norm.weight"][0] == "F32"
    assert result["output.weight"][0] == "F16"
    for name, ours in (
        ("token_embd", "model.embed_tokens"),
        ("blk.0.attn_v", f"{LAYER}self_attn.v_proj"),
        ("blk.0.ffn_down", f"{LAYER}mlp.down_proj"),
    ):
        assert np.array_equal(result[f"{name}.weight"][1], values[f"{ours}.weight"].astype(np.float16))
    # A head of 16: where transformers turns value 0 with value 8, llama.cpp turns 0 with 1.
    for name, heads in (("q", 4), ("k", 2)):
        theirs = result[f"blk.0.attn_{name}.weight"][1].reshape(heads, 8, 2, 64)
        mine = values[f"{LAYER}self_attn.{name}_proj.weight"].astype(np.float16).reshape(heads, 2, 8, 64)
        assert np.array_equal(theirs[:, :, 0], mine[:, 0])
        assert np.array_equal(theirs[:, :, 1], mine[:, 1])
    coarse = tensors(q8.path)
    assert coarse["blk.0.ffn_up.weight"][0] == "Q8_0"
    apart = np.abs(coarse["blk.0.ffn_up.weight"][1] - values[f"{LAYER}mlp.up_proj.weight"])
    assert 0 < apart.max() < 0.02


def test_settings_template_and_ends_are_in_the_file(merged: Path, asking: Asking, tmp_path: Path) -> None:
    (file,) = write_gguf(merged, tmp_path / "gguf", "job", ["q8_0"], asking, "x")
    result = fields(file.path)
    assert result["general.architecture"] == "llama"
    assert result["llama.context_length"] == 512
    assert result["llama.attention.head_count_kv"] == 2
    assert result["llama.rope.freq_base"] == 5e5
    assert result["tokenizer.chat_template"] == asking.template
    assert "generation %" not in result["tokenizer.chat_template"].replace("add_generation_prompt", "")
    tokens = result["tokenizer.ggml.tokens"]
    assert len(tokens) == 300
    assert tokens[result["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"
    assert result["tokenizer.ggml.eot_token_id"] == result["tokenizer.ggml.eos_token_id"] == asking.end
    assert result["tokenizer.ggml.token_type"][asking.end] == gguf.TokenType.CONTROL
    assert result["tokenizer.ggml.add_bos_token"] is False


def test_complete_files_are_kept_and_partial_ones_deleted(merged: Path, asking: Asking, tmp_path: Path) -> None:
    folder = tmp_path / "gguf"
    (file,) = write_gguf(merged, folder, "job", ["q8_0"], asking, "x")
    made = file.path.stat().st_mtime_ns
    (folder / ".job-F16.gguf.partial").write_bytes(b"killed")
    (folder / "job-F16.gguf").write_bytes(b"renamed, and killed before it was noted")
    again = write_gguf(merged, folder, "job", ["q8_0"], asking, "x")
    assert again == [file]
    assert file.path.stat().st_mtime_ns == made
    assert {each.name for each in folder.iterdir()} == {"job-Q8_0.gguf", "gguf.json"}
    file.path.write_bytes(file.path.read_bytes()[:-100])
    write_gguf(merged, folder, "job", ["q8_0"], asking, "x")
    assert len(tensors(file.path)) == len(SHAPES)
    write_gguf(merged, folder, "job", ["f16"], asking, "another export")
    assert {each.name for each in folder.iterdir()} == {"job-F16.gguf", "gguf.json"}


def test_a_fault_in_the_middle_leaves_no_file(
    merged: Path, asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = gguf.quantize, []

    def broken(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 6:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(gguf, "quantize", broken)
    with pytest.raises(OSError, match="No space"):
        write_gguf(merged, tmp_path / "gguf", "job", ["q8_0"], asking, "x")
    assert not list((tmp_path / "gguf").iterdir())


def test_weights_that_float16_cannot_hold_are_reported(
    values: Values, merged: Path, asking: Asking, tmp_path: Path
) -> None:
    shard = merged / "model-00002-of-00002.safetensors"
    names = list(values)[5:]
    shard.unlink()
    writer = TensorWriter(shard, len(names))
    for name in names:
        large = values[name] * (1e6 if name == "lm_head.weight" else 1)
        writer.write(name, (large.view(np.uint32) >> 16).astype(np.uint16), "BF16")
    writer.close()
    with pytest.raises(UserError, match=r"output\.weight are too large"):
        write_gguf(merged, tmp_path / "gguf", "job", ["f16"], asking, "x")
    assert not list((tmp_path / "gguf").iterdir())
    write_gguf(merged, tmp_path / "gguf", "job", ["q8_0"], asking, "x")


def test_a_small_disk_is_reported_before_anything_is_written(
    merged: Path, asking: Asking, small_disk: Callable[[str], Path]
) -> None:
    folder = small_disk("20m")
    with pytest.raises(UserError, match=r"need 0\.1 GB, and 0\.0 GB are free"):
        write_gguf(merged, folder, "job", ["f16"], asking, "x")
    assert not list(folder.iterdir())


def test_without_llama_cpp_q4_is_refused_before_anything_is_written(
    merged: Path, asking: Asking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(llama.PYTHON, raising=False)
    monkeypatch.setattr(llama, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"llama\.cpp is not installed"):
        write_gguf(merged, tmp_path / "gguf", "job", ["f16", "q4_k_m"], asking, "x")
    assert not list((tmp_path / "gguf").iterdir())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "gemma3_text"}, "of the type 'gemma3_text'"),
        ({"rope_parameters": {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 2}}, "position encoding 'dynamic'"),
    ],
)
def test_an_unknown_architecture_or_encoding_is_refused(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        Layout(CONFIG | changes, tmp_path)


LONG_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
PHI = {"model_type": "phi3", "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("changes", "context"),
    [
        (PHI | {"max_position_embeddings": 131072, "sliding_window": 262144, "rope_parameters": LONG_ROPE}, 4096),
        (PHI | {"max_position_embeddings": 131072, "rope_parameters": None, "rope_scaling": LONG_ROPE}, 4096),
        (PHI | {"max_position_embeddings": 4096, "sliding_window": 2047}, 2047),
        ({"model_type": "mistral", "sliding_window": 128}, 128),
        ({"model_type": "mistral", "sliding_window": None}, 512),
        ({"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": False}, 512),
        ({"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": True}, 128),
    ],
)
def test_the_context_ends_where_llama_cpp_would_compute_otherwise(
    changes: dict[str, Any], context: int, tmp_path: Path
) -> None:
    keys = Keys()
    Layout(CONFIG | changes, tmp_path).settings(keys)
    assert keys.told["context_length"] == context


@pytest.mark.parametrize(("positions", "context"), [(512, 512), (4096, 1029)])
def test_modelfile_and_card_ask_for_a_context_that_the_file_has(
    positions: int, context: int, merged: Path, tmp_path: Path
) -> None:
    write_json(merged / "config.json", CONFIG | {"max_position_embeddings": positions})
    spec = with_outputs(make_spec(tmp_path))
    exported = spec.folder / "runs" / "latest" / "export"
    shutil.rmtree(exported / "merged")
    merged.rename(exported / "merged")
    (file,) = export_gguf(spec, exported, "x", tmp_path / "gguf", ["q8_0"])
    assert fields(file.path)["llama.context_length"] == positions
    assert f"PARAMETER num_ctx {context}\n" in (tmp_path / "gguf" / "Modelfile").read_text("utf-8")
    assert f" -c {context} --parallel 1 -m FILE.gguf`" in (tmp_path / "gguf" / "README.md").read_text("utf-8")


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    layout = Layout(CONFIG, tmp_path)
    with pytest.raises(UserError, match="no place for the tensor"):
        layout.name(f"{LAYER}self_attn.q_norm.weight")
    assert Layout(CONFIG | {"tie_word_embeddings": True}, tmp_path).name("lm_head.weight") is None


def tokenizer(folder: Path, **changes: Any) -> Path:
    """A tokenizer.json of three tokens, as its file has it."""
    vocabulary = {"<s>": 0, "a": 1, "b": 2, "ab": 3, "<0x0A>": 4, "<unk>": 5}
    data = {
        "added_tokens": [{"id": 0, "content": "<s>", "special": True, "rstrip": False}],
        "normalizer": None,
        "pre_tokenizer": None,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["a b"], "unk_token": "<unk>"},
    }
    write_json(folder / "tokenizer.json", data | changes)
    return folder


class Keys:
    """Keeps what a writer is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        return lambda value: self.told.update({name.removeprefix("add_"): value})


def split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
            {"type": "ByteLevel"},
        ],
    }


LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # noqa: E501
PHI4_MINI = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # noqa: E501


@pytest.mark.parametrize(
    ("node", "ignore_merges", "name"),
    [
        (split(LLAMA3), True, "llama-bpe"),
        (split(LLAMA3), False, "dbrx"),
        (split(LLAMA3.replace("{1,3}", "")), False, "qwen2"),
        (split(PHI4_MINI), False, "gpt-4o"),
        (
            {
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}],
            },
            False,
            "smollm",
        ),
        ({"type": "ByteLevel"}, False, "gpt-2"),
    ],
)
def test_the_pre_tokenizer_is_known_by_its_file(
    node: dict[str, Any], ignore_merges: bool, name: str, tmp_path: Path
) -> None:
    model = {"type": "BPE", "vocab": {"a": 0}, "merges": [], "ignore_merges": ignore_merges}
    keys = Keys()
    Vocabulary(tokenizer(tmp_path, pre_tokenizer=node, model=model), 2).write(keys, 0, "")
    assert keys.told["tokenizer_pre"] == name
    assert keys.told["token_list"] == ["<s>", "[PAD1]"]


def test_a_tokenizer_of_pieces_has_scores_in_the_order_of_its_merges(tmp_path: Path) -> None:
    vocabulary = {"<s>": 0, "a": 1, "b": 2, "ab": 3, "<0x0A>": 4, "<unk>": 5, "aba": 6}
    model = {
        "type": "BPE",
        "vocab": vocabulary,
        "merges": ["a b", "ab a", "a ba"],
        "unk_token": "<unk>",
        "byte_fallback": True,
    }
    keys = Keys()
    normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace"}]}
    Vocabulary(tokenizer(tmp_path, model=model, normalizer=normalizer), 7).write(keys, 0, "")
    kinds, scores = keys.told["token_types"], keys.told["token_scores"]
    assert [kinds[number] for number in (0, 1, 4, 5)] == [
        gguf.TokenType.CONTROL,
        gguf.TokenType.NORMAL,
        gguf.TokenType.BYTE,
        gguf.TokenType.UNKNOWN,
    ]
    assert scores[3] > scores[6]
    assert keys.told["add_space_prefix"] is True
    assert keys.told["tokenizer_model"] == "llama"


def test_a_tokenizer_that_llama_cpp_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer like that"):
        Vocabulary(tokenizer(tmp_path, pre_tokenizer=split(r"\w+|\W+")), 9).write(Keys(), 0, "")
    with pytest.raises(UserError, match="of the type Unigram"):
        Vocabulary(tokenizer(tmp_path, model={"type": "Unigram", "vocab": {}}), 9)
    with pytest.raises(UserError, match="has the token 5"):
        Vocabulary(tokenizer(tmp_path), 4)

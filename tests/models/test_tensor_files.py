"""Mapped weights: files of safetensors are read, cut or wrong ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.errors import UserError
from tunewright.models.tensor_files import INDEX, TensorFile, TensorWriter, Weights


def test_both_ways_with_the_library_of_the_format(tmp_path: Path) -> None:
    """bfloat16 among them, which numpy does not know; a scalar, an empty one, one without a multiple of eight bytes."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    tensors = {
        "bf16": torch.randn(7, 5).bfloat16(),
        "f16": torch.randn(3).half(),
        "f32": torch.randn(2, 3, 4),
        "u8": torch.arange(7, dtype=torch.uint8),
        "scalar": torch.tensor(3.5),
        "none": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "theirs.safetensors")
    theirs = TensorFile(tmp_path / "theirs.safetensors")
    assert set(theirs) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(theirs[name].float32(), tensor.float().numpy())
    np.testing.assert_array_equal(theirs["bf16"].float32(slice(2, 4)), tensors["bf16"][2:4].float().numpy())
    writer = TensorWriter(tmp_path / "ours.safetensors", len(tensors))
    for name, found in theirs.items():
        parts: Any = iter(np.array_split(found.raw, 3)) if found.raw.ndim and found.raw.size else found.raw
        writer.write(name, parts, found.kind)
    writer.close()
    for name, tensor in load_file(tmp_path / "ours.safetensors").items():
        assert tensor.dtype == tensors[name].dtype and torch.equal(tensor, tensors[name])


def _saved(path: Path) -> Path:
    writer = TensorWriter(path, 2)
    writer.write("a", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.write("b", np.ones(5, np.float16))
    writer.close()
    return path


def test_a_file_that_was_not_closed_is_none(tmp_path: Path) -> None:
    writer = TensorWriter(tmp_path / "half.safetensors", 1)
    writer.write("a", np.ones((100_000, 10), np.float32))
    writer._stream.flush()  # as a kill leaves it
    with pytest.raises(UserError, match="not a complete safetensors file"):
        TensorFile(tmp_path / "half.safetensors")


@given(length=st.integers(0, 10_000))
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = _saved(tmp_path_factory.mktemp("cut") / "model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[: length % len(whole)])
    with pytest.raises(UserError, match="Copy the model again"):
        TensorFile(path)


@given(noise=st.binary(max_size=60), place=st.integers(0, 1_300))
def test_a_file_with_other_bytes_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
) -> None:
    """Never a trace, never a view beyond the file."""
    path = _saved(tmp_path_factory.mktemp("noise") / "model.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    try:
        file = TensorFile(path)
    except UserError:
        return
    for name in file:
        file[name].float32()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "1 of the model's 2 files of weights are missing: two.safetensors"),
        ("cut", "A file of weights is cut"),
        ("lies", "disagree"),
        ("elsewhere", "index can't be read"),
        ("broken", r"index\.json can't be read"),
        ("none", "no safetensors weights"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(tmp_path: Path, what: str, message: str) -> None:
    placed = {"a": "one.safetensors", "b": "two.safetensors"}
    for name, file in placed.items():
        writer = TensorWriter(tmp_path / file, 1)
        writer.write(name, np.ones(1000, np.float32))
        writer.close()
    index = tmp_path / INDEX
    index.write_text(json.dumps({"weight_map": placed}), "utf-8")
    assert set(Weights(tmp_path)) == {"a", "b"}
    second = tmp_path / "two.safetensors"
    match what:
        case "missing":
            second.unlink()
        case "cut":
            second.write_bytes(second.read_bytes()[:-1])
        case "lies":
            index.write_text(json.dumps({"weight_map": {"a": "two.safetensors", "b": "one.safetensors"}}), "utf-8")
        case "elsewhere":
            index.write_text(json.dumps({"weight_map": {"a": "../one.safetensors"}}), "utf-8")
        case "broken":
            index.write_text(index.read_text("utf-8")[:-5], "utf-8")
        case "none":
            for file in (index, second, tmp_path / "one.safetensors"):
                file.unlink()
    with pytest.raises(UserError, match=message):
        Weights(tmp_path)

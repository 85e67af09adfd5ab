"""Files of models that are damaged or hostile load, or are refused in one paragraph; none hangs or leaves a trace.

Hundreds of files that are nearly right are tried in processes with limits on memory and time.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TOKENIZER, make_spec
from tests.models.test_whole import made
from tunewright.core.errors import UserError
from tunewright.data.curve.classical import fit_linear
from tunewright.exporters.bundle import write_linear_bundle
from tunewright.inference.bundle import load_bundle
from tunewright.inference.checksums import Verification
from tunewright.inference.runtimes.openvino.adapter import ADAPTER, Adapter, load_adapter, save_adapter
from tunewright.models import tokenizer_check
from tunewright.models.encoders import read_encoder
from tunewright.models.files import loading
from tunewright.models.gguf_header import check_gguf
from tunewright.models.linear_model import LINEAR, LinearModel
from tunewright.models.resolve import folder_of
from tunewright.models.template_choice import template_of
from tunewright.models.tensor_files import Weights
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.whole import check_whole

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**63,
    -(2**63),
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 1000,
    "\ud800",
    [],
    {},
    [[]],
    [1, 2],
    [2**62, 2**62],
    {"a": None},
    "../../x",
    "\0",
]


def mutated(content: Any, rng: random.Random) -> Any:
    """A JSON value with one part replaced, left out or added."""
    content = json.loads(json.dumps(content))
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in list(keys)[:200]:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(content)
    if not places:
        return rng.choice(VALUES)
    node, key = rng.choice(places)
    if rng.random() < 0.2:
        del node[key]
    elif rng.random() < 0.1 and isinstance(node, dict):
        node["more"] = rng.choice(VALUES)
    else:
        node[key] = rng.choice(VALUES)
    return content


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes of which some are changed, left out or put in."""
    match rng.randrange(4):
        case 0:
            return content[: rng.randrange(len(content))]
        case 1:
            at = rng.randrange(min(len(content), 400))
            return content[:at] + rng.randbytes(8) + content[at + 8 :]
        case 2:
            at = rng.randrange(min(len(content), 400))
            return (
                content[:at] + struct.pack("<Q", rng.choice((0, 1, 2**31, 2**62, 2**63, 2**64 - 1))) + content[at + 8 :]
            )
        case _:
            at = rng.randrange(len(content))
            return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]


def variants(path: Path, count: int, seed: int = 0) -> Iterator[str]:
    """Puts damaged files in a file's place, and tells each apart; the file is a JSON object, or binary."""
    whole, rng = path.read_bytes(), random.Random(seed)
    for number in range(count):
        if path.suffix == ".json" and number % 3:
            path.write_text(json.dumps(mutated(json.loads(whole), rng)), "utf-8", "surrogatepass")
        else:
            path.write_bytes(damaged(whole, rng))
        yield f"{path.name} {number}"
    for name, hostile in {
        "deep": b"[" * 200_000,
        "deeper": b'{"a":' * 200_000,
        "empty": b"",
        "no text": b"\xff\xfe",
    }.items():
        path.write_bytes(hostile)
        yield f"{path.name} {name}"
    path.write_bytes(whole)


def offences(files: list[Path], load: Callable[[], Any], count: int) -> list[str]:
    """What a loader does with damaged files beside loading them or refusing them."""
    found = []
    for file in files:
        for name in variants(file, count):
            try:
                load()
            except UserError as error:
                if "\n" in error.paragraph() or len(error.paragraph()) > 1500:
                    found.append(f"{name}: {error.paragraph()[:300]}")
            except BaseException as error:  # noqa: BLE001 (any of them)
                found.append(f"{name}: {type(error).__name__} {str(error)[:200]}")
    return found


def model_folder(folder: Path) -> list[str]:
    made(folder, model_type="llama")
    shutil.copy(TOKENIZER / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}}))
    index = {"weight_map": dict.fromkeys(Weights(folder), "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    def load() -> None:
        for tensor in Weights(folder).values():
            tensor.float32() if tensor.kind in ("F16", "F32", "BF16", "F64") else tensor.raw
        check_whole(folder)
        folder_of(str(folder), folder)

    names = ("model.safetensors", "config.json", "model.safetensors.index.json")
    found = offences([folder / name for name in names], load, 250)
    return found + offences([folder / "tokenizer_config.json"], lambda: template_of(folder), 50)


def encoder_folder(folder: Path) -> list[str]:
    config = {"model_type": "bert", "vocab_size": 2000, "pad_token_id": 0, "max_position_embeddings": 64}
    tokenizer = json.loads((TOKENIZER / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    return offences(
        [folder / "config.json", folder / "1_Pooling" / "config.json"], lambda: read_encoder("x", folder), 150
    )


def tokenizer_folder(folder: Path) -> list[str]:
    shutil.copy(TOKENIZER / "tokenizer.json", folder)
    tokenizer_check._tried = lambda *_: ""  # what is unusual is tried in tests/models/test_tokenizer_check.py

    def load() -> None:
        tokenizer = TextTokenizer(folder)
        with loading(folder):
            tokenizer.decode(tokenizer.encode_verbatim("Where is my parcel? 1234 é中"))

    return offences([folder / "tokenizer.json"], load, 300)


def adapter_folder(folder: Path) -> list[str]:
    save_adapter(Adapter({"q": np.ones((4, 2), np.float32)}, {"q": np.ones((2, 4), np.float32)}), folder / "a")
    return offences([folder / "a" / ADAPTER], lambda: load_adapter(folder / "a"), 500)


def bundle_folder(folder: Path) -> list[str]:
    spec = make_spec(model="linear")
    labels = list(spec.task.labels)
    fit_linear(["my invoice is wrong", "it does not arrive", "it crashes"] * 3, labels * 3, labels).save(
        folder / LINEAR
    )
    write_linear_bundle(spec, folder)
    (folder / "calibration.json").write_text('{"temperature": 1.0}')

    def load() -> None:
        bundle = load_bundle(folder, verification=Verification(on=False))
        bundle.load()
        LinearModel.load(folder / LINEAR)

    names = ("bundle.json", "calibration.json", f"{LINEAR}/ngrams.json", f"{LINEAR}/weights.safetensors")
    return offences([folder / name for name in names], load, 150)


def gguf_file(path: Path) -> None:
    """A GGUF file of a model with two layers, as far as its header is looked at."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_token_list(["a", "b", "c"])
    writer.add_token_types([1, 1, 1])
    writer.add_tensor("token_embd.weight", np.zeros((3, 8), np.float32))
    for layer in range(2):
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", np.zeros((8, 16), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_folder(folder: Path) -> list[str]:
    import gguf

    path = folder / "model.gguf"
    gguf_file(path)
    check_gguf(path)
    taken = []

    def load() -> None:
        check_gguf(path)
        with loading(path):
            taken.append(len(gguf.GGUFReader(str(path)).tensors))

    found = offences([path], load, 600)
    assert taken, "some damage is harmless"
    return found


CASES = {
    each.__name__: each
    for each in (
        model_folder,
        encoder_folder,
        tokenizer_folder,
        adapter_folder,
        bundle_folder,
        gguf_folder,
    )
}
_TRIED = """
import resource, sys, tempfile
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30)); resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
from tests.models.test_malformed import CASES
with tempfile.TemporaryDirectory() as folder:
    print(*CASES[sys.argv[1]](Path(folder)), "done", sep="\\n")
"""


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_loads_or_is_refused(case: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _TRIED, case], capture_output=True, text=True, check=False, timeout=900
    )
    assert ended.stdout.strip().splitlines() == ["done"], f"{ended.stdout[-3000:]}\n{ended.stderr[-1500:]}"

"""llama.cpp reads the GGUF files as torch reads the merged weights: the same tokens, the same answers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.conftest import make_spec
from tests.fixtures.exported import ARCHITECTURES, TEXTS, exported
from tunewright.core.errors import UserError
from tunewright.exporters.gguf.export import PRECISIONS, write_gguf
from tunewright.exporters.gguf.llama import llama_model, quantise_q4_k_m, require_llama
from tunewright.exporters.other_engines import asking_of, complete
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Message


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_computes_as_in_torch(architecture: str, tmp_path: Path) -> None:
    """The same tokens of a chat, and the same logits behind them: names, order, positions and scales are right."""
    import torch

    model = exported(architecture, tmp_path / "model")
    (file,) = write_gguf(model.merged, tmp_path / "gguf", "tiny", ["f16"], model.asking, "x")
    with llama_model(file.path, 500, 1) as llama:
        for text in TEXTS:
            assert llama.answer(model.messages(text), 1)[1] == model.ids(text)
    sequences = [model.ids(text) for text in TEXTS] + [[2 + n % 150 for n in range(400)]]
    found = logits(file.path, sequences)
    torch_model = load_torch_model(model.merged)
    for ids, theirs in zip(sequences, found, strict=True):
        with torch.inference_mode():
            ours = torch_model(torch.tensor([ids])).logits[0, -1].numpy()
        assert np.abs(theirs - ours).max() < 0.01 * ours.std()


def logits(file: Path, sequences: list[list[int]]) -> list[np.ndarray]:
    """llama.cpp's logits behind each sequence."""
    asked = json.dumps({"file": str(file), "sequences": sequences})
    child = Path(__file__).with_name("logits_child.py")
    done = subprocess.run([require_llama(), str(child)], input=asked, capture_output=True, text=True, check=True)
    return [np.array(each) for each in json.loads(done.stdout)]


REQUESTS = (
    "I want my money back for the lamp.",
    "Where is my parcel 12345? It was due on Monday.",
    "???",
    "\nA new line, I've 2.",
    "Mein Paket ist nicht da: 3 Kisten.",
    "Thank you, great service! 🦙 é",
)


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real SmolLM2-135M as an export would leave it, with its GGUF files below gguf/."""
    folder = tmp_path_factory.mktemp("smollm2")
    spec = make_spec(model="smollm2-135m", task={"kind": "generate", "instruction": "Answer in one sentence."})
    base = resolve(spec.model, spec.folder)
    merged = folder / "merged"
    merged.mkdir()
    for name in ("model.safetensors", "config.json"):
        shutil.copy(base.folder / name, merged / name)
    asking = asking_of(spec, base, 20)
    complete(merged, spec, base, asking)
    write_gguf(merged, folder / "gguf", "job", PRECISIONS, asking, "x")
    return folder


def test_the_real_model_answers_as_in_torch(smollm2: Path) -> None:
    torch_model = TorchNextToken(load_torch_model(smollm2 / "merged"))
    tokenizer = TextTokenizer(smollm2 / "merged")
    template = resolve("smollm2-135m", Path()).template
    with llama_model(smollm2 / "gguf" / "job-F16.gguf", 500, 1) as llama:
        for text in REQUESTS:
            messages = [Message(role="system", content="Answer in one sentence."), Message(role="user", content=text)]
            ids = template.encode_prompt(messages, tokenizer)
            found, prompt = llama.answer(messages, 20)
            assert prompt == ids
            written: list[int] = []
            while len(written) < 20 and (token := int(torch_model([*ids, *written]).argmax())) != 2:
                written.append(token)
            assert found.strip() == tokenizer.decode(written).strip()


def test_coarser_files_are_smaller_and_still_answer(smollm2: Path) -> None:
    files = {name: smollm2 / "gguf" / f"job-{name}.gguf" for name in ("F16", "Q8_0", "Q4_K_M")}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    assert sizes["Q4_K_M"] < 0.75 * sizes["Q8_0"] < 0.45 * sizes["F16"]
    kinds = {each.tensor_type.name for each in gguf.GGUFReader(files["Q4_K_M"]).tensors}
    assert "F32" in kinds
    assert len(kinds) > 2, "llama.cpp keeps some layers finer than others"
    asked = [Message(role="user", content="What is the capital of France?")]
    for name in ("Q8_0", "Q4_K_M"):
        with llama_model(files[name], 200, 1) as llama:
            assert "Paris" in llama.answer(asked, 20)[0]


def test_an_answer_is_confined_by_a_grammar(smollm2: Path) -> None:
    with llama_model(smollm2 / "gguf" / "job-Q8_0.gguf", 200, 1) as llama:
        asked = [Message(role="user", content="What is the capital of France?")]
        assert llama.answer(asked, 20, 'root ::= " Rome" | " Berlin"\n')[0].strip() in ("Rome", "Berlin")


def test_a_file_that_is_cut_is_an_error_and_not_an_answer(smollm2: Path, tmp_path: Path) -> None:
    whole = (smollm2 / "gguf" / "job-Q8_0.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    with llama_model(tmp_path / "cut.gguf", 200, 1) as llama, pytest.raises(UserError, match=r"cut\.gguf"):
        llama.answer([Message(role="user", content="x")], 2)
    with pytest.raises(UserError, match="could not quantise"):
        quantise_q4_k_m(tmp_path / "cut.gguf", tmp_path / "out.gguf")

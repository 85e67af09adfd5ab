"""What a folder of an encoder says, which are refused, and fetching one from a wheel."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_spec
from tests.fixtures.encoders import FAMILIES, WINDOW, with_pooling, write_encoder, write_tokenizer
from tests.models.test_resolve import CHATML, hub_snapshot
from tunewright.config.sections import ExtractSpec, GenerateSpec
from tunewright.core.errors import UserError
from tunewright.models import resolve as resolving
from tunewright.models.catalogue import catalogue
from tunewright.models.encoders import ENCODERS, LocalEncoder, read_encoder, window_of
from tunewright.models.fetch import _extract_folder
from tunewright.models.naming import known_kind
from tunewright.models.resolve import encoder_window, is_encoder, locate, resolve, resolve_encoder, resolve_tokenizer
from tunewright.models.tensor_files import TensorWriter
from tunewright.training.capabilities import require_able


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def folder_of(folder: Path, **config: Any) -> Path:
    """A folder of a BERT whose config is changed, with a single weight."""
    known = write_tokenizer(folder, FAMILIES["bert"].special)
    said = {"model_type": "bert", "vocab_size": known, "pad_token_id": 0, "max_position_embeddings": 64, **config}
    (folder / "config.json").write_text(json.dumps(said), "utf-8")
    writer = TensorWriter(folder / "model.safetensors", 1)
    writer.write("a", np.zeros(3, np.float16))
    writer.close()
    return folder


def paragraph(function: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    return caught.value.paragraph()


def test_every_known_architecture_is_tried_on_a_tiny_model() -> None:
    assert set(FAMILIES) == ENCODERS


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_a_folder_as_transformers_writes_it_is_read(family: str, tmp_path: Path) -> None:
    folder = write_encoder(family, tmp_path / "mine")
    found = resolve_encoder("mine", tmp_path)
    assert (found.name, found.folder, found.window, found.pooling) == ("mine", folder, WINDOW, "mean")
    assert is_encoder("mine", tmp_path)
    assert encoder_window("mine", tmp_path) == (folder, WINDOW)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", vocab_size=200)
    for ask in (resolve_encoder, encoder_window):
        said = paragraph(ask, "mine", tmp_path)
        assert said.startswith(f"{folder / 'tokenizer.json'}: The tokenizer is another model's.")
        assert "It has 261 tokens, the model 200." in said
        assert "Copy the model again, with its own tokenizer.json." in said


def test_a_tokenizer_with_fewer_tokens_than_the_model_is_taken(tmp_path: Path) -> None:
    """As of DeBERTa-v3, whose matrix has rows that no token uses."""
    folder_of(tmp_path / "mine", vocab_size=384)
    assert resolve_encoder("mine", tmp_path).window == 64


def test_a_tokenizer_whose_padding_is_another_word_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "mine", pad_token_id=1)
    assert "The model pads with token 1, which is '[UNK]' here." in paragraph(resolve_encoder, "mine", tmp_path)


def test_a_tokenizer_that_puts_nothing_around_a_text_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine")
    content = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(content | {"post_processor": None}), "utf-8")
    assert "It puts no frame, such as [CLS] and [SEP], around a text" in paragraph(resolve_encoder, "mine", tmp_path)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 512),
        ({"model_type": "camembert", "max_position_embeddings": 514}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514}, 512),
        ({"model_type": "modernbert", "max_position_embeddings": 8192}, 8192),
        ({"model_type": "deberta-v2"}, 512),
    ],
)
def test_the_window_leaves_out_padding_positions(config: dict[str, Any], window: int) -> None:
    assert window_of(config) == window


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_encoder_reads_its_window_and_no_token_more(family: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    folder = write_encoder(family, tmp_path / family)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    window = read_encoder(family, folder).window
    with torch.no_grad():
        assert model(torch.full((1, window), 9)).last_hidden_state.isfinite().all()
        if family not in ("deberta-v2", "modernbert"):  # they count positions from each token
            with pytest.raises((IndexError, RuntimeError)):
                model(torch.full((1, window + 1), 9))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_pooling_is_read_from_sentence_transformers(pooling: str, tmp_path: Path) -> None:
    with_pooling(folder_of(tmp_path / "mine"), pooling)
    assert resolve_encoder("mine", tmp_path).pooling == pooling


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"pooling_mode": "cls", "embedding_dimension": 8}, "cls"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode": "mean", "pooling_mode_cls_token": True}, "mean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
        ({"word_embedding_dimension": 8}, "mean"),
    ],
)
def test_the_pooling_is_read_in_every_form_of_sentence_transformers(
    said: dict[str, Any], pooling: str, tmp_path: Path
) -> None:
    with_pooling(folder_of(tmp_path / "mine"), "cls").joinpath("1_Pooling/config.json").write_text(json.dumps(said))
    assert resolve_encoder("mine", tmp_path).pooling == pooling


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ({"pooling_mode": "lasttoken"}, "by lasttoken, and"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "by cls and mean, and"),
        ({"pooling_mode": ["mean", "max"]}, "by mean and max, and"),
        ({"pooling_mode": 7}, "by 7, and"),
    ],
)
def test_a_pooling_that_is_not_ours_is_refused(said: dict[str, Any], named: str, tmp_path: Path) -> None:
    file = with_pooling(folder_of(tmp_path / "mine"), "cls") / "1_Pooling" / "config.json"
    file.write_text(json.dumps(said))
    found = paragraph(resolve_encoder, "mine", tmp_path)
    assert found.startswith(f"{file}: This encoder pools {named} Tunewright by the mean or the first token.")
    assert "delete this file" in found
    file.unlink()
    assert resolve_encoder("mine", tmp_path).pooling == "mean"


def test_a_known_encoder_pools_alike_whoever_filled_the_hubs_cache(tmp_path: Path) -> None:
    """transformers' own `from_pretrained` does not fetch the file that says how to pool."""
    folder = folder_of(hub_snapshot(tmp_path / "hub", "BAAI", "bge-small-en-v1.5"))
    for name in ("bge-small", "BAAI/bge-small-en-v1.5"):
        assert resolve_encoder(name, tmp_path).pooling == "cls"
    with_pooling(folder, "cls")
    assert resolve_encoder("bge-small", tmp_path).pooling == "cls"
    with_pooling(folder, "mean")
    said = paragraph(resolve_encoder, "bge-small", tmp_path)
    assert "config.json: This folder pools by mean, and the encoder of this name by cls." in said
    assert resolve_encoder(str(folder), tmp_path).pooling == "mean", "another encoder's folder speaks for itself"


@pytest.mark.slow
def test_a_trained_encoder_says_how_it_pools_where_its_base_did_not(tmp_path: Path) -> None:
    from tunewright.training.encoders.network import copy_beside

    base, target = folder_of(tmp_path / "base"), tmp_path / "trained"
    target.mkdir()
    shutil.copy(base / "config.json", target)
    copy_beside(LocalEncoder("bge-small", base, 64, "cls"), target)
    assert read_encoder("bge-small", target).pooling == "cls"


def test_a_model_that_must_write_can_be_no_encoder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine")
    said = paragraph(resolve, "mine", tmp_path)
    assert said.startswith(f"{folder}: mine is an encoder, which can't write text.")
    assert "Choose a model that writes: tunewright models ls" in said


def test_a_decoder_is_no_encoder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine", model_type="llama")
    (folder / "tokenizer.json").write_text(CHATML, "utf-8")
    assert not is_encoder("mine", tmp_path)
    assert resolve("mine", tmp_path).template.name == "chatml.jinja"
    said = paragraph(resolve_encoder, "mine", tmp_path)
    assert "mine is not an encoder that Tunewright supports." in said
    assert "model_type = llama; supported are bert, camembert" in said


def test_the_kind_of_a_catalogue_name_needs_no_hub(tmp_path: Path) -> None:
    kinds = {name: is_encoder(name, tmp_path) for name in catalogue()}
    assert kinds["all-minilm"]
    assert not kinds["smollm2-135m"]
    assert kinds == {name: entry.kind == "encoder" for name, entry in catalogue().items()}
    assert not (tmp_path / "cache").exists()


def test_the_kind_of_a_hub_name_needs_only_its_config(tmp_path: Path) -> None:
    folder = folder_of(hub_snapshot(tmp_path / "hub", "owner", "name"))
    (folder / "model.safetensors").unlink()
    assert is_encoder("owner/name", tmp_path)
    assert encoder_window("owner/name", tmp_path) == (folder, 64)
    assert "HF_HUB_OFFLINE forbids fetching" in paragraph(resolve_encoder, "owner/name", tmp_path)


def test_a_fetched_config_gives_the_kind_without_the_hub(tmp_path: Path) -> None:
    assert known_kind("owner/name", tmp_path) == "decoder"
    folder_of(hub_snapshot(tmp_path / "hub", "owner", "name"))
    assert known_kind("owner/name", tmp_path) == "encoder"


@pytest.mark.parametrize("function", [encoder_window, resolve_tokenizer])
def test_a_hub_folder_without_a_fast_tokenizer_says_so(
    function: Callable[[str, Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "fetched", model_type="deberta-v2")
    (folder / "tokenizer.json").unlink()
    monkeypatch.setattr(resolving, "_snapshot", lambda *_: folder)
    said = paragraph(function, "owner/name", tmp_path)
    assert said.startswith(f"{folder}: This folder has no tokenizer.json.")
    assert "save_pretrained(folder)" in said


def test_an_encoder_fits_tasks_without_writing(tmp_path: Path) -> None:
    folder_of(tmp_path / "mine")
    folder_of(tmp_path / "decoder", model_type="llama")
    record = {"type": "object", "properties": {"total": {"type": "string"}}}
    listed = {"type": "object", "properties": {"lines": {"type": "array", "items": record}}}
    tasks = [
        make_spec().task,
        ExtractSpec(kind="extract", instruction="Read.", schema=record),
        ExtractSpec(kind="extract", instruction="Read.", schema=listed),
        GenerateSpec(kind="generate", instruction="Write."),
    ]
    for task in tasks:
        for model in ("mine", "all-minilm", "decoder", "smollm2-135m", "owner/name"):
            spec = make_spec(model=model).model_copy(update={"task": task}).anchored(tmp_path)
            if model in ("mine", "all-minilm") and task.kind == "generate":
                said = paragraph(require_able, spec)
                assert said.startswith(f"model: {model} is an encoder, and this task is generate")
            elif model in ("mine", "all-minilm") and task is tasks[2]:
                said = paragraph(require_able, spec)
                assert said.startswith("task.schema: An encoder can't fill in the field lines: it is a list of objects")
            else:
                require_able(spec)


def test_an_encoder_with_pickled_weights_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no safetensors weights" in paragraph(resolve_encoder, "mine", tmp_path)


def wheel_of(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def test_a_folder_of_a_wheel_is_extracted_whole(tmp_path: Path) -> None:
    inside = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 9000, "1_Pooling/config.json": b"{1}"}
    beside = {"package/__init__.py": b"", "package/model2/config.json": b"other", "package/model/empty/": b""}
    wheel = wheel_of(tmp_path / "a.whl", {**{f"package/model/{name}": c for name, c in inside.items()}, **beside})
    _extract_folder(wheel, "package/model/", tmp_path / "found")
    files = {str(f.relative_to(tmp_path / "found")): f.read_bytes() for f in (tmp_path / "found").rglob("*.*")}
    assert {name: content for name, content in files.items() if name != "1_Pooling"} == inside
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.whl", "found"]


def test_nothing_of_a_wheel_is_written_outside_its_folder(tmp_path: Path) -> None:
    members = {
        "m/config.json": b"{}",
        "m/../../above": b"bad",
        "m/x/../../above": b"bad",
        f"m/{tmp_path}/absolute": b"bad",
    }
    wheel = wheel_of(tmp_path / "a.whl", members)
    (tmp_path / "inside").mkdir()
    _extract_folder(wheel, "m/", tmp_path / "inside" / "found")
    outside = [path.name for path in tmp_path.rglob("*") if path.is_file() and "found" not in path.parts]
    assert outside == ["a.whl"]
    assert (tmp_path / "inside" / "found" / "config.json").read_bytes() == b"{}"


def test_the_remains_of_an_interrupted_extraction_are_not_used(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path / "a.whl", {"m/config.json": b"{}"})
    left = tmp_path / ".found.tmp"
    left.mkdir()
    (left / "half").write_bytes(b"x")
    _extract_folder(wheel, "m/", tmp_path / "found")
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["config.json"]


def test_the_catalogues_wheel_is_found_in_the_cache(tmp_path: Path) -> None:
    wheel = catalogue()["all-minilm"].wheel
    assert wheel and wheel.is_folder
    folder = tmp_path / "cache" / "models" / f"{wheel.package}-{wheel.version}-{wheel.sha256[:12]}"
    shutil.copytree(folder_of(tmp_path / "made"), folder)
    found = resolve_encoder("all-minilm", tmp_path)
    assert (found.name, found.folder) == ("all-minilm", folder)
    assert "package index" in locate("all-minilm", tmp_path)
    assert "is an encoder" in paragraph(resolve, "all-minilm", tmp_path)


@pytest.mark.slow
def test_two_that_want_an_encoder_at_once_fetch_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second found the folder of the first, and could not put its own there."""
    waiting = threading.Barrier(2)
    fetched = []

    def fetch(_: object) -> Path:
        with contextlib.suppress(threading.BrokenBarrierError):
            waiting.wait(0.5)  # both are here at once, if they can be
        fetched.append(threading.get_ident())
        return folder_of(tmp_path / f"member-{len(fetched)}")

    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tunewright.models.resolve.fetch_wheel_member", fetch)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: resolve_encoder("all-minilm", tmp_path), range(2))
    assert first.folder == second.folder
    assert len(fetched) == 1

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.made import encoder_folder
from tunewright.core.artifacts import sha256_json
from tunewright.core.errors import UserError
from tunewright.models.catalogue import catalogue
from tunewright.models.encoders import write_pooling
from tunewright.models.naming import _ends, cached_folder, identity
from tunewright.models.resolve import locate, resolve
from tunewright.models.tensor_files import TensorWriter


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def refusal(model: str, anchor: Path) -> str:
    with pytest.raises(UserError) as caught:
        resolve(model, anchor)
    return caught.value.paragraph()


def tokenizer_with(*controls: str) -> str:
    """A tokenizer.json with control tokens and nothing else."""
    return json.dumps({"added_tokens": [{"content": token, "special": True} for token in controls]})


CHATML = tokenizer_with("<|im_start|>", "<|im_end|>")


def model_folder(folder: Path, *, model_type: str = "llama", weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "tokenizer.json").write_text(CHATML)
    if weights.endswith(".safetensors"):
        writer = TensorWriter(folder / weights, 1)
        writer.write("a", np.zeros(3, np.float16))
        writer.close()
    else:
        (folder / weights).write_bytes(b"weights")
    return folder


def hub_snapshot(hub: Path, owner: str, name: str) -> Path:
    """The folder of a snapshot in a hub cache."""
    repository = hub / f"models--{owner}--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    return repository / "snapshots" / "abc"


def test_a_folder_beside_the_spec_is_found(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    found = resolve("mine", tmp_path)
    assert (found.folder, found.template.name) == (folder, "chatml.jinja")


def test_a_catalogue_name_wins_over_a_folder_of_that_name(tmp_path: Path) -> None:
    model_folder(tmp_path / "phi-3-small")
    assert "running code" in refusal("phi-3-small", tmp_path)


def test_a_folder_wins_over_a_hub_id(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "owner" / "name")
    model_folder(hub_snapshot(tmp_path / "hub", "owner", "name"))
    assert resolve("owner/name", tmp_path).folder == folder


def test_the_hubs_local_cache_is_used_offline(tmp_path: Path) -> None:
    snapshot = model_folder(hub_snapshot(tmp_path / "hub", "owner", "name"))
    assert resolve("owner/name", tmp_path).folder == snapshot


def test_a_catalogue_model_is_found_in_the_hubs_local_cache(tmp_path: Path) -> None:
    snapshot = model_folder(hub_snapshot(tmp_path / "hub", "microsoft", "Phi-3-mini-4k-instruct"), model_type="phi3")
    found = resolve("phi-3-mini", tmp_path)
    assert (found.folder, found.template.name) == (snapshot, "phi3.jinja")


def test_the_default_model_is_found_in_the_cache(tmp_path: Path) -> None:
    wheel = catalogue()["smollm2-135m"].wheel
    assert wheel
    assert cached_folder("smollm2-135m") is None
    folder = tmp_path / "cache" / "models" / f"{wheel.package}-{wheel.version}-{wheel.sha256[:12]}"
    model_folder(folder)
    assert cached_folder("smollm2-135m") == folder == resolve("smollm2-135m", tmp_path).folder


def test_the_error_for_a_missing_hub_id_offline_lists_the_tries(tmp_path: Path) -> None:
    message = refusal("owner/name", tmp_path)
    assert "HF_HUB_OFFLINE forbids fetching" in message
    assert "Tried in order: the catalogue, a local folder, the hub's local cache" in message


def test_a_broken_config_is_a_user_error(tmp_path: Path) -> None:
    (model_folder(tmp_path / "model") / "config.json").write_text('{"model_type": ')
    assert "config.json can't be read" in refusal("model", tmp_path)


def test_a_half_fetched_snapshot_counts_as_absent(tmp_path: Path) -> None:
    snapshot = model_folder(hub_snapshot(tmp_path / "hub", "owner", "name"))
    (snapshot / "model.safetensors").unlink()
    assert "HF_HUB_OFFLINE forbids fetching" in refusal("owner/name", tmp_path)


def test_a_snapshot_without_one_of_its_shards_counts_as_absent(tmp_path: Path) -> None:
    snapshot = model_folder(hub_snapshot(tmp_path / "hub", "owner", "name"))
    shards = {"a": "model.safetensors", "b": "model-2.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert "HF_HUB_OFFLINE forbids fetching" in refusal("owner/name", tmp_path)


@pytest.mark.parametrize("model", ["data/my model", "models/a--b", "a/b:c"])
def test_a_path_that_can_be_no_hub_id_is_a_user_error(model: str, tmp_path: Path) -> None:
    assert model in refusal(model, tmp_path)


@pytest.mark.parametrize("model", ["smollm", "./absent", "/absent/model", "a/b/c"])
def test_the_error_for_an_unknown_name_lists_the_tries_in_order(model: str, tmp_path: Path) -> None:
    message = refusal(model, tmp_path)
    assert f"No base model '{model}'" in message
    assert message.index("the catalogue") < message.index("the folder or file") < message.index("a hub id")


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused(weights: str, tmp_path: Path) -> None:
    model_folder(tmp_path / "mine", weights=weights)
    message = refusal("mine", tmp_path)
    assert "no safetensors weights" in message
    assert "can run code" in message


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_a_folder_without_a_needed_file_says_which(missing: str, tmp_path: Path) -> None:
    (model_folder(tmp_path / "mine") / missing).unlink()
    assert missing in refusal("mine", tmp_path)


def test_an_absent_gguf_file_is_refused_with_its_path(tmp_path: Path) -> None:
    assert f"{tmp_path / 'absent.gguf'}: There is no such GGUF file" in refusal("absent.gguf", tmp_path)


def test_a_folders_own_template_with_marks_is_used(tmp_path: Path) -> None:
    source = "{% generation %}{{ messages[-1].content }}{% endgeneration %}"
    (model_folder(tmp_path / "mine") / "chat_template.jinja").write_text(source)
    assert resolve("mine", tmp_path).template.source == source


@pytest.mark.slow
def test_a_folders_own_template_without_marks_gives_way_to_the_familys(tmp_path: Path) -> None:
    (model_folder(tmp_path / "mine") / "chat_template.jinja").write_text("{{ messages }}")
    assert resolve("mine", tmp_path).template.name == "chatml.jinja"


def test_llama_3_is_recognised_by_its_vocabulary(tmp_path: Path) -> None:
    marks = "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
    (model_folder(tmp_path / "mine") / "tokenizer.json").write_text(tokenizer_with(*marks))
    assert resolve("mine", tmp_path).template.name == "llama3.jinja"


def test_an_unknown_architecture_needs_its_own_template(tmp_path: Path) -> None:
    (model_folder(tmp_path / "mine", model_type="gpt_neox") / "tokenizer.json").write_text("{}")
    assert "Put a chat_template.jinja" in refusal("mine", tmp_path)


def test_the_identity_changes_when_the_weights_do(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    before = identity("mine", tmp_path)
    assert identity("mine", tmp_path) == before
    (folder / "model.safetensors").write_bytes(b"other weights")
    assert identity("mine", tmp_path) != before


def test_the_identity_changes_with_the_pooling(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "mine")
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text("{}", "utf-8")
    seen = [identity("mine", tmp_path)]
    write_pooling("mean", folder)
    seen.append(identity("mine", tmp_path))
    write_pooling("cls", folder)
    seen.append(identity("mine", tmp_path))
    assert len(set(seen)) == 3
    shutil.rmtree(folder / "1_Pooling")
    files = [(file.name, file.stat().st_size, _ends(file)) for file in sorted(folder.glob("*")) if file.is_file()]
    assert identity("mine", tmp_path) == seen[0] == sha256_json(files), "outputs of folders without it stay valid"


def test_catalogue_models_have_different_identities(tmp_path: Path) -> None:
    assert len({identity(name, tmp_path) for name in catalogue()}) == len(catalogue())


def test_a_folder_with_a_cut_file_of_weights_is_refused_before_work_begins(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine")
    assert locate("mine", tmp_path) == f"the folder {folder}"
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    for find in (locate, resolve):
        with pytest.raises(UserError, match="A file of weights is cut"):
            find("mine", tmp_path)

"""What goes to the hub, what does not, and what it says when the hub refuses; asked by the hub's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import make_spec, spec_data
from tests.exporters.hub import TOKEN, Fault, Hub, Repository, running_hub
from tests.exporters.outputs import SECRET, WEIGHTS, with_outputs
from tests.pipeline.made import encoder_folder
from tunewright import api
from tunewright.config import Spec
from tunewright.core.artifacts import atomic_folder, write_json
from tunewright.core.errors import UserError
from tunewright.core.processes import free_port
from tunewright.data.curve.classical import fit_linear
from tunewright.exporters import hub as hub_module
from tunewright.exporters.artifact import Form
from tunewright.exporters.bundle import write_linear_bundle
from tunewright.exporters.hub import FILE_LIST, HubChanges, changes_on_hub, push_to_hub
from tunewright.exporters.other_engines import CHOICES, SYSTEM_PROMPT
from tunewright.inference.bundle import load_bundle
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import seal
from tunewright.models.linear_model import LINEAR
from tunewright.serving.engine import Engine

NAME = "acme/tickets"


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return with_outputs(make_spec(tmp_path))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with running_hub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(hub_module.time, "sleep", lambda _: None)
        yield running


def test_a_merged_model_goes_up_whole_private_and_without_data(spec: Spec, hub: Hub) -> None:
    done = push_to_hub(api.parcel(spec, "merged", f"hub:{NAME}"), NAME)
    there = hub.repositories[NAME]
    assert there.private
    assert done.address == f"{hub.url}/{NAME}"
    assert len(there.commits) == 1
    assert set(there.files) == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        SYSTEM_PROMPT,
        CHOICES,
        "README.md",
        FILE_LIST,
    }
    assert there.files["model.safetensors"] == WEIGHTS
    assert not any(SECRET.encode() in content for content in there.files.values())
    card = there.files["README.md"].decode()
    assert card.startswith("---\n")
    assert "Route the ticket:\n- billing" in card


def test_an_adapter_goes_with_what_asks_it(spec: Spec, hub: Hub) -> None:
    push_to_hub(api.parcel(spec, "adapter", f"hub:{NAME}"), NAME)
    assert set(hub.repositories[NAME].files) == {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        SYSTEM_PROMPT,
        CHOICES,
        "README.md",
        FILE_LIST,
    }
    assert not any(SECRET.encode() in content for content in hub.repositories[NAME].files.values())


def test_an_adapter_does_not_go_with_an_earlier_ones_prompt(spec: Spec) -> None:
    runs = spec.folder / "runs"
    with atomic_folder(
        runs / "train-2", kind="train", fingerprint="g", spec_sha256="t", inputs={}, seed=0, code_version="c"
    ) as output:
        (output.path / "adapter").mkdir()
        (output.path / "adapter" / "adapter_model.safetensors").write_bytes(WEIGHTS[:200])
    (runs / "latest" / "train").unlink()
    (runs / "latest" / "train").symlink_to(runs / "train-2")
    with pytest.raises(UserError, match=r"belongs to an earlier training.*tunewright export"):
        api.parcel(spec, "adapter", f"hub:{NAME}")
    assert api.parcel(spec, "merged", f"hub:{NAME}").files, "the export is whole in itself"


def test_old_files_of_ours_are_deleted_and_files_of_others_stay(spec: Spec, hub: Hub) -> None:
    """Ours are those that an earlier push wrote, whatever the others are called."""
    shard = "model-00001-of-00002.safetensors"
    theirs = {"LICENSE": b"a", "theirs.safetensors": b"b", "model.gguf": b"c"}
    parcel = api.parcel(spec, "merged", f"hub:{NAME}")
    assert changes_on_hub(parcel, NAME) == HubChanges((), (), ()), "there is no repository yet"
    hub.repositories[NAME] = Repository(True, dict(theirs))
    push_to_hub(replace(parcel, files={**parcel.files, shard: b"old"}), NAME)
    there = hub.repositories[NAME].files
    assert (there[shard], theirs.items() <= there.items()) == (b"old", True)
    changes = changes_on_hub(parcel, NAME)
    assert changes == HubChanges((shard,), (), ("theirs.safetensors",))
    assert [line.split(maxsplit=1)[0] for line in changes.lines()] == ["deleted", "kept"]
    push_to_hub(parcel, NAME)
    there = hub.repositories[NAME].files
    assert (shard in there, theirs.items() <= there.items()) == (False, True)


def test_the_files_of_one_form_stay_beside_those_of_another(spec: Spec, hub: Hub) -> None:
    merged, adapter = (api.parcel(spec, form, f"hub:{NAME}") for form in ("merged", "adapter"))
    for parcel in (merged, adapter, replace(merged, files={"model.safetensors": b"new"})):
        push_to_hub(parcel, NAME)
    there = hub.repositories[NAME].files
    assert {"adapter_model.safetensors", "tokenizer.json"} <= there.keys(), "the adapter has them"
    assert "generation_config.json" not in there


def test_files_of_others_are_not_replaced_without_a_word(spec: Spec, hub: Hub) -> None:
    hub.repositories[NAME] = Repository(True, {"README.md": b"theirs"})
    parcel = api.parcel(spec, "merged", f"hub:{NAME}")
    changes = changes_on_hub(parcel, NAME)
    assert changes == HubChanges((), ("README.md",), ())
    assert next(changes.lines()).split()[:2] == ["replaced", "README.md,"]
    push_to_hub(parcel, NAME)
    assert changes_on_hub(parcel, NAME) == HubChanges((), (), ())


def test_a_list_of_files_that_is_none_is_refused(spec: Spec, hub: Hub) -> None:
    hub.repositories[NAME] = Repository(True, {FILE_LIST: b"[]", "model.safetensors": b"theirs"})
    with pytest.raises(UserError, match=rf"{FILE_LIST} .*can't be read"):
        push_to_hub(api.parcel(spec, "merged", f"hub:{NAME}"), NAME)
    assert hub.repositories[NAME].files["model.safetensors"] == b"theirs"


def test_a_public_repository_is_not_taken_by_chance(spec: Spec, hub: Hub) -> None:
    hub.repositories[NAME] = Repository(False)
    parcel = api.parcel(spec, "merged", f"hub:{NAME}")
    with pytest.raises(UserError, match="is public"):
        push_to_hub(parcel, NAME)
    assert not hub.repositories[NAME].files
    push_to_hub(parcel, NAME, public=True)
    assert hub.repositories[NAME].files


def test_a_private_repository_is_not_taken_for_public(spec: Spec, hub: Hub) -> None:
    hub.repositories[NAME] = Repository(True)
    parcel = api.parcel(spec, "merged", f"hub:{NAME}")
    with pytest.raises(UserError, match=r"is private.*--public"):
        push_to_hub(parcel, NAME, public=True)
    assert not hub.repositories[NAME].files
    push_to_hub(parcel, "acme/new", public=True)
    assert not hub.repositories["acme/new"].private


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("repos/create", 401, message="Invalid credentials"), "hf auth login"),
        (Fault("repos/create", 403, message="You don't have the rights"), "role write"),
        (Fault("commit", 403, message="Access to this repo is gated"), "role write"),
        (Fault("preupload", 400, message="bad file"), "Fix that"),
        (Fault("commit", 429, 9), "slow down"),
        (Fault("commit", 500, 9), "hub is at fault"),
        (Fault("PUT /lfs", 403, 9), "role write"),
    ],
)
def test_a_refusal_says_what_to_do_and_leaves_nothing(
    spec: Spec, hub: Hub, fault: Fault, expected: str, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.faults.append(fault)
    with pytest.raises(UserError, match=expected) as caught:
        push_to_hub(api.parcel(spec, "merged", f"hub:{NAME}"), NAME)
    assert not any(known.files for known in hub.repositories.values())
    assert TOKEN not in str(caught.value) + "".join(capfd.readouterr())


def test_a_hub_that_stumbles_is_asked_again(spec: Spec, hub: Hub) -> None:
    hub.faults += [Fault("repos/create", 503), Fault("commit", 429, 2, {"Retry-After": "3"})]
    push_to_hub(api.parcel(spec, "merged", f"hub:{NAME}"), NAME)
    assert hub.repositories[NAME].files["model.safetensors"] == WEIGHTS


@pytest.mark.usefixtures("hub")
def test_a_hub_that_is_away(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(UserError, match="could not be reached"):
        push_to_hub(api.parcel(spec, "merged", f"hub:{NAME}"), NAME)


def test_nobody_signed_in(spec: Spec, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match="hf auth login"):
        push_to_hub(api.parcel(spec, "merged", f"hub:{NAME}"), NAME)
    assert not hub.calls


@pytest.mark.parametrize("to", ["hub:", "hub:tickets", "hub:a/../b", "s3:bucket/x", "azureml:", "azureml:a/b", "hub"])
def test_a_place_that_is_none(spec: Spec, to: str) -> None:
    with pytest.raises(UserError, match="--to"):
        api.parcel(spec, "merged", to)


def test_an_output_that_is_not_whole_stays_here(spec: Spec) -> None:
    (spec.folder / "runs" / "export-1" / "merged" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match="no whole merged"):
        api.parcel(spec, "merged", f"hub:{NAME}")


def test_gguf_files_go_up_once_they_are_whole_and_of_the_last_export(spec: Spec) -> None:
    runs = spec.folder / "runs"
    with pytest.raises(UserError, match="no whole gguf"):
        api.parcel(spec, "gguf", f"hub:{NAME}")
    content = api.parcel(spec, "merged", f"hub:{NAME}").content
    folder = runs / f"gguf-{content[:12]}"
    folder.mkdir()
    (runs / "latest" / "gguf").symlink_to(folder)
    for name in ("a-Q8_0.gguf", "a-F16.gguf", "Modelfile", "README.md", SYSTEM_PROMPT, ".a.gguf.partial"):
        (folder / name).write_text(name, "utf-8")
    write_json(folder / "gguf.json", {"source": "x", "files": {"a-Q8_0.gguf": {}}})
    result = api.parcel(spec, "gguf", f"hub:{NAME}")
    assert set(result.files) == {"a-Q8_0.gguf", "Modelfile", "README.md", SYSTEM_PROMPT}
    folder.rename(runs / "gguf-older")
    (runs / "latest" / "gguf").unlink()
    (runs / "latest" / "gguf").symlink_to(runs / "gguf-older")
    with pytest.raises(UserError, match="an earlier export"):
        api.parcel(spec, "gguf", f"hub:{NAME}")


@pytest.mark.slow
def test_the_command_shows_what_would_go_and_asks(spec: Spec, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from tunewright.cli.app import command_line

    app = command_line()
    (spec.folder / "tunewright.yaml").write_text(json.dumps(spec_data()), "utf-8")
    command = ["push", str(spec.folder), "--to", f"hub:{NAME}"]
    shown = CliRunner().invoke(app, [*command, "--dry-run"])
    assert shown.exit_code == 0
    assert "model.safetensors" in shown.output
    assert f"to hub:{NAME}, private" in shown.output
    assert CliRunner().invoke(app, command, input="n\n").exit_code == 0
    assert not hub.repositories
    done = CliRunner().invoke(app, [*command, "--yes", "--json"])
    assert json.loads(done.stdout)["address"] == f"{hub.url}/{NAME}"
    assert hub.repositories[NAME].private
    push_to_hub(replace(api.parcel(spec, "merged", f"hub:{NAME}"), files={"config.json": b"", "x.txt": b""}), NAME)
    asked = CliRunner().invoke(app, command, input="n\n")
    assert asked.output.index("deleted  x.txt") < asked.output.index("Upload it?")
    shown = CliRunner().invoke(app, [*command, "--dry-run", "--public", "--json"])
    plan, parcel = json.loads(shown.stdout), api.parcel(spec, "merged", f"hub:{NAME}")
    assert plan == {
        "to": f"hub:{NAME}",
        "public": True,
        "form": "merged",
        "version": parcel.version,
        "bytes": parcel.size,
        "files": parcel.sizes,
        "deleted": ["x.txt"],
        "replaced": [],
    }
    assert plan["files"]["model.safetensors"] == len(WEIGHTS)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    unseen = CliRunner().invoke(app, [*command, "--dry-run"])
    assert unseen.exit_code == 0
    assert "was not looked at: Nobody is signed in" in unseen.output
    assert CliRunner().invoke(app, command, input="y\n").exit_code != 0
    refused = CliRunner().invoke(app, ["export", str(spec.folder), "--quantization", "f16"])
    assert "--to gguf" in str(refused.exception)


@pytest.mark.parametrize("form", ["merged", "adapter", "gguf"])
def test_an_encoder_has_none_of_a_language_models_forms(form: Form, spec: Spec) -> None:
    bundle = spec.folder / "runs" / "latest" / "export" / "bundle"
    (bundle / "onnx").rename(bundle / "openvino-encoder")
    with pytest.raises(UserError, match=rf"is no language model, and has no form {form}.*--form bundle"):
        api.parcel(spec, form, f"hub:{NAME}")


def test_a_bundle_goes_up_as_it_is_served(tmp_path: Path, hub: Hub) -> None:
    spec = make_spec(tmp_path / "job", model="linear")
    runs = spec.folder / "runs"
    (runs / "latest").mkdir(parents=True)
    about = {"fingerprint": "f", "spec_sha256": "s", "inputs": {}, "seed": 0, "code_version": "c"}
    with atomic_folder(runs / "bundle-1", kind="bundle", **about) as output:
        labels = list(spec.task.labels)
        fit_linear(["my invoice is wrong", "it does not arrive", "it crashes"] * 3, labels * 3, labels).save(
            output.path / LINEAR
        )
        write_linear_bundle(spec, output.path)
        save_calibration(UNCALIBRATED, output.path)
        seal(output.path)
        (output.path / "notes.txt").write_text(SECRET, "utf-8")
    (runs / "latest" / "bundle").symlink_to(runs / "bundle-1")
    with atomic_folder(runs / "export-1", kind="export", **about) as output:
        (output.path / "bundle" / LINEAR).mkdir(parents=True)
    (runs / "latest" / "export").symlink_to(runs / "export-1")
    hub.repositories[NAME] = Repository(True, {"openvino.md": b"theirs"})
    parcel = api.parcel(spec, None, f"hub:{NAME}")
    assert any("all words of the training texts" in line for line in parcel.lines())
    push_to_hub(parcel, NAME)
    there = hub.repositories[NAME].files
    assert set(there) == {
        "bundle.json",
        "calibration.json",
        "checksums.json",
        "README.md",
        "linear/ngrams.json",
        "linear/weights.safetensors",
        "openvino.md",
        FILE_LIST,
    }
    fetched = tmp_path / "fetched"
    for name, content in there.items():
        (fetched / name).parent.mkdir(parents=True, exist_ok=True)
        (fetched / name).write_bytes(content)
    engine = Engine.load(load_bundle(fetched))
    assert engine.answer("it does not arrive").text == labels[1]
    (fetched / "linear" / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="not the one that the bundle was made with"):
        load_bundle(fetched)


def test_there_is_no_gguf_of_an_encoder(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, model=str(encoder_folder(tmp_path / "bert")))
    with pytest.raises(UserError, match="bert is not a language model, so it has no GGUF file"):
        api.export_gguf(spec)

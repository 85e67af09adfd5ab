"""Many models of one server: each answers as it does alone, the base as if there were none, whatever is asked."""

from __future__ import annotations

import gc
import random
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.conftest import make_spec, tunewright
from tests.fixtures.encoders import local, write_encoder
from tests.fixtures.tiny import FAMILIES, NEWER
from tunewright.core.errors import UserError
from tunewright.data.curve.classical import fit_linear
from tunewright.exporters.bundle import write_bundle, write_encoder_bundle, write_linear_bundle
from tunewright.exporters.encoders import build_encoder
from tunewright.exporters.openvino import build_openvino, export_adapter
from tunewright.inference.bundle import load_bundle, read_info, write_info
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import SECOND, Verification, seal
from tunewright.inference.runtimes.openvino.adapter import Adapter, load_adapter
from tunewright.inference.runtimes.openvino.model import PagedNextToken
from tunewright.inference.runtimes.torch_model import TorchNextToken
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import resolve
from tunewright.project import Traffic
from tunewright.serving.adapters import AdapterStore, add_adapter
from tunewright.serving.child import running_server
from tunewright.serving.engine import Engine
from tunewright.serving.hosts import ManyModels, UnknownModel
from tunewright.serving.server import EarlyLoad, Limits, serve
from tunewright.tasks.spans.habits import NONE_KNOWN
from tunewright.training.encoders.network import Network

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

MakeTinyModel = Callable[[str], tuple[str, Path]]
PROMPT = [2 + n % 150 for n in range(90)]


def peft_adapter(base: Path, seed: int, rank: int, folder: Path, scale: float = 0.05, **settings: Any) -> Any:
    """A random adapter that does something, saved as peft saves it; returns the peft model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    lora = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    adapted = get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=scale)
    adapted.save_pretrained(folder)
    return adapted.eval()


def loaded(base: Path, seed: int, rank: int, folder: Path) -> Adapter:
    peft_adapter(base, seed, rank, folder / f"peft-{seed}")
    export_adapter(folder / f"peft-{seed}", base, folder / f"adapter-{seed}", "int8")
    return load_adapter(folder / f"adapter-{seed}")


BESIDE = [(family, "fp32", 2e-3) for family in (*FAMILIES, *NEWER) if family != "gemma4"]
BESIDE += [(family, "int8", 0.1) for family in ("phi3", "qwen3", "gemma3")]
"""Adapters are kept in float16. In int8 the base is turned, and so is what is added to it."""


@pytest.mark.parametrize(("family", "precision", "close"), BESIDE)
def test_an_adapter_beside_its_base_answers_like_peft(
    make_tiny_model: MakeTinyModel, tmp_path: Path, family: str, precision: str, close: float
) -> None:
    _, base = make_tiny_model(family)
    wanted = TorchNextToken(peft_adapter(base, 1, 6, tmp_path / "peft"))
    export_adapter(tmp_path / "peft", base, tmp_path / "adapter", precision)
    build_openvino(base, tmp_path / "weights", precision)
    plain = PagedNextToken(tmp_path / "weights", context=256, adapters=1)
    adapter = load_adapter(tmp_path / "adapter")
    in_the_graph = PagedNextToken(tmp_path / "weights", context=256, adapter=adapter)
    for ids in (PROMPT, PROMPT[:7]):
        logits = wanted(ids)
        for adapted in (plain.with_adapter(adapter), in_the_graph):
            assert np.sqrt(np.mean((adapted(ids) - logits) ** 2)) / logits.std() < close
        assert np.sqrt(np.mean((plain(ids) - logits) ** 2)) / logits.std() > 3 * close, "the adapter does something"


def test_nobody_is_answered_with_anothers_adapter(tiny_model: tuple[str, Path], tmp_path: Path) -> None:
    """Seven adapters of several ranks and the base, to the last bit as alone, whoever is in the same pass."""
    _, base = tiny_model
    build_openvino(base, tmp_path / "weights", "int8")
    without = PagedNextToken(tmp_path / "weights", context=256)
    model = PagedNextToken(tmp_path / "weights", context=256, adapters=4)
    adapters = [None, *(loaded(base, seed, 2 + 3 * seed, tmp_path) for seed in range(7))]
    rng = random.Random(0)
    asked = [(PROMPT[: rng.randint(20, 90)] + [rng.randint(2, 150)] * 3, n % 8) for n in range(48)]
    alone = []
    for ids, number in asked:
        fresh = without if number == 0 else model.with_adapter(adapters[number])
        alone.append(fresh(ids))
    rng.shuffle(order := list(range(48)))
    with ThreadPoolExecutor(24) as clients:
        found = dict(zip(order, clients.map(lambda n: model(asked[n][0], adapters[asked[n][1]]), order), strict=True))
    assert all((found[n] == alone[n]).all() for n in order)
    assert len({logits.tobytes() for logits in alone}) > 40


LABELS = ["refund", "reform", "delivery", "defect"]


@pytest.fixture(scope="module")
def base(make_tiny_model: MakeTinyModel) -> Path:
    return make_tiny_model("llama3")[1]


@pytest.fixture(scope="module")
def make_bundle(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(name, seed) -> a bundle with a random adapter, and a task of its own labels."""
    home = tmp_path_factory.mktemp("bundles")
    build_openvino(base, home / "weights", "int8")

    def make(name: str, seed: int, weights: Path = home / "weights") -> Path:
        folder = home / f"{name}-{seed}"
        folder.mkdir()
        labels = [f"{label} {name}" for label in LABELS]
        spec = make_spec(
            name=name,
            model=str(base),
            train={"max_length": 512},
            export={"runtime": "openvino-lora"},
            task={"kind": "classify", "instruction": f"{name}: {{labels}}", "labels": labels},
        )
        (folder / "openvino").symlink_to(weights, target_is_directory=True)
        peft_adapter(base, seed, 4, home / f"peft-{name}-{seed}")
        export_adapter(home / f"peft-{name}-{seed}", base, folder / "adapter", "int8")
        write_bundle(spec, resolve(spec.model, spec.folder), folder, 12)
        save_calibration(UNCALIBRATED, folder)
        return folder

    return cache(make)


@pytest.fixture
def store(make_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    folder = tmp_path / "adapters"
    for number, name in enumerate(("shop", "bank", "post")):
        add_adapter(folder, make_bundle(name, number))
    return folder


def asked(address: str, model: str, text: str) -> dict[str, Any]:
    reply = httpx.post(f"{address}/v1/classify", json={"model": model, "text": text}, timeout=60)
    assert reply.status_code == 200, reply.text
    return {name: value for name, value in reply.json().items() if name != "id"}


def base_says(address: str) -> Any:
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    (name, *_) = [model.id for model in client.models.list()]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Who?"},
    ]
    said = client.chat.completions.create(model=name, messages=messages, max_tokens=6, logprobs=True)
    return said.choices[0].message.content, [token.logprob for token in said.choices[0].logprobs.content]


@pytest.fixture
def address(store: Path) -> Iterator[str]:
    with running_server(store) as address:
        yield address


def test_a_server_has_the_base_and_all_adapters(address: str) -> None:
    listed = [model["id"] for model in httpx.get(f"{address}/v1/models").json()["data"]]
    assert listed[1:] == ["bank", "post", "shop"]
    texts = [f"where is parcel {n}?" + " and why?" * n for n in range(12)]
    models = [("shop", "bank", "post")[n % 3] for n in range(12)]
    alone = [asked(address, model, text) for model, text in zip(models, texts, strict=True)]
    assert all(reply["label"].endswith(model) for model, reply in zip(models, alone, strict=True))
    base_alone = base_says(address)
    with ThreadPoolExecutor(16) as clients:
        bases = [clients.submit(base_says, address) for _ in range(3)]
        together = list(clients.map(asked, [address] * 12, models, texts))
    assert together == alone
    assert {repr(each.result()) for each in bases} == {repr(base_alone)}
    for model in ("nobody", "../shop", "base", ""):
        reply = httpx.post(f"{address}/v1/classify", json={"model": model, "text": "x"})
        assert reply.status_code == 404, model
        assert reply.json()["error"]["code"] == "model_not_found"


def test_an_adapter_is_replaced_and_rolled_back_without_a_dropped_request(
    address: str, store: Path, make_bundle: Callable[..., Path]
) -> None:
    old, steady = asked(address, "shop", "which?"), asked(address, "bank", "which?")
    other = make_bundle("shop", 9)
    found: list[dict[str, Any]] = []
    stop = threading.Event()

    def ask_on() -> None:
        while not stop.is_set():
            found.append(asked(address, "shop", "which?"))
            assert asked(address, "bank", "which?") == steady

    with ThreadPoolExecutor(4) as clients:
        running = [clients.submit(ask_on) for _ in range(4)]
        assert add_adapter(store, other).number == 2
        new = asked(address, "shop", "which?")
        assert AdapterStore(store).roll_back("shop").number == 1
        assert asked(address, "shop", "which?") == old
        stop.set()
        for each in running:
            each.result(60)
    assert new != old
    assert all(reply in (old, new) for reply in found)
    AdapterStore(store).remove("shop")
    assert httpx.post(f"{address}/v1/classify", json={"model": "shop", "text": "x"}).status_code == 404


def test_what_is_loaded_is_bounded(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred adapters on disk, and room for three."""
    from tunewright.serving import hosts

    for number in range(100):
        home = store / f"copy{number}"
        home.mkdir()
        (home / "1").symlink_to(store / "shop" / "1", target_is_directory=True)
        (home / "current").write_text("1", "utf-8")
    models = ManyModels(AdapterStore(store))
    expected = models.engine("shop").answer("which?")
    size = load_adapter(store / "shop" / "1" / "adapter").nbytes
    monkeypatch.setattr(hosts, "_MEMORY", 3 * size)
    assert len(models.names()) == 104
    with ThreadPoolExecutor(8) as clients:
        answers = clients.map(lambda n: models.engine(f"copy{n % 100}").answer("which?"), range(120))
        assert all(answer == expected for answer in answers)
    assert len(models._loaded) <= 3


def test_the_commands(store: Path, make_bundle: Callable[..., Path], tmp_path: Path) -> None:
    added = tunewright("adapters", "add", str(store), str(make_bundle("shop", 9)), "--name", "store")
    assert (added.returncode, added.stdout) == (0, "store is served in version 1.\n")
    listed = tunewright("adapters", "ls", str(store)).stdout.splitlines()
    assert listed[1:] == [f"{name}  version 1 of 1" for name in ("bank", "post", "shop", "store")]
    back = tunewright("adapters", "rollback", str(store), "store")
    assert (back.returncode, "before 1" in back.stderr) == (2, True)
    assert tunewright("adapters", "rm", str(store), "store").returncode == 0
    nothing = tunewright("adapters", "ls", str(tmp_path))
    assert (nothing.returncode, "adapters add" in nothing.stderr) == (2, True)
    no_bundle = tunewright("adapters", "add", str(store), str(tmp_path))
    assert (no_bundle.returncode, "This folder is not a bundle" in no_bundle.stderr) == (2, True)


def test_another_base_is_refused(store: Path, make_bundle: Callable[..., Path], base: Path, tmp_path: Path) -> None:
    build_openvino(base, tmp_path / "weights", "fp32")
    other = make_bundle("else", 3, tmp_path / "weights")
    with pytest.raises(UserError, match=r"they differ in .*the weights"):
        add_adapter(store, other)
    assert "else" not in AdapterStore(store).names()
    for name in ("base", AdapterStore(store).base.name, "../up", ""):
        with pytest.raises(UserError):
            add_adapter(store, make_bundle("shop", 9), name)


def test_a_folder_of_adapters_answers_with_what_was_added(store: Path, make_bundle: Callable[..., Path]) -> None:
    """Or refuses: an adapter when it is asked for, a base when the server starts, a bundle before it is added."""
    models = ManyModels(AdapterStore(store))
    flip(store / "bank" / "1" / "adapter" / "adapter.safetensors")
    assert models.engine("shop").answer("which?").text
    with pytest.raises(UserError, match=r"adapter\.safetensors: .*not the one"):
        models.engine("bank")
    assert ManyModels(AdapterStore(store), verification=Verification(on=False)).engine("bank")
    flip(store / "base" / "openvino" / "model.safetensors")
    with pytest.raises(UserError, match=r"base/openvino/model\.safetensors: .*not the one"):
        ManyModels(AdapterStore(store))
    hurt = Path(shutil.copytree(make_bundle("shop", 0), store.parent / "hurt", symlinks=True))
    seal(hurt)
    flip(hurt / "adapter" / "adapter.safetensors")
    with pytest.raises(UserError, match=r"adapter\.safetensors: .*not the one"):
        add_adapter(store, hurt)
    with pytest.raises(UserError, match="can't be pinned"):
        serve(lambda: Traffic(store), "127.0.0.1", 0, limits=Limits(verification=Verification(pin="0" * 64)))


def test_weights_that_load_early_answer_as_ever_and_are_let_go(make_bundle: Callable[..., Path]) -> None:
    """A server that has reloaded its bundle must not keep the first one."""
    folder, early = make_bundle("shop", 0), EarlyLoad(1)
    bundle = load_bundle(folder, early=early)
    early.warm_up(bundle)
    engine = early.engine(bundle)
    assert engine.answer("where is it?") == Engine.load(bundle, 1).answer("where is it?")
    first = weakref.ref(engine._runtime)
    del engine
    assert gc.collect() >= 0 and first() is None


def flip(path: Path) -> None:
    """Change the last bit of a file."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def linear_bundle(name: str, folder: Path) -> Path:
    """A bundle of a linear model with labels of its own."""
    labels = [f"{label} {name}" for label in LABELS]
    spec = make_spec(name=name, model="linear", task={"kind": "classify", "instruction": "{labels}", "labels": labels})
    fit_linear([f"my {label}" for label in LABELS * 3], labels * 3, labels).save(folder / LINEAR)
    write_linear_bundle(spec, folder)
    save_calibration(UNCALIBRATED, folder)
    return folder


def encoder_bundle(name: str, folder: Path) -> Path:
    """A bundle of a random encoder with labels of its own."""
    labels = [f"{label} {name}" for label in LABELS]
    base = write_encoder("bert", folder.with_name(f"{folder.name}-base"))
    spec = make_spec(
        name=name,
        model=str(base),
        task={"kind": "classify", "instruction": "{labels}", "labels": labels},
    )
    tuned = folder.with_name(f"{folder.name}-tuned")
    Network.of(local(base), labels, half=False).save_pretrained(tuned)
    folder.mkdir()
    build_encoder(tuned, folder / "openvino-encoder", "openvino-encoder", "int8")
    write_encoder_bundle(spec, local(base), tuned, [], NONE_KNOWN, folder)
    save_calibration(UNCALIBRATED, folder)
    return folder


def test_a_folder_has_encoders_and_linear_models_without_a_base(tmp_path: Path) -> None:
    bundles = {"mail": linear_bundle("mail", tmp_path / "l"), "chat": encoder_bundle("chat", tmp_path / "e")}
    store = tmp_path / "adapters"
    alone = {}
    for name, bundle in bundles.items():
        with running_server(bundle) as address:
            alone[name] = asked(address, name, "where is my refund?")
        assert add_adapter(store, bundle).number == 1
    listed = tunewright("adapters", "ls", str(store)).stdout.splitlines()
    assert [line.split("  ")[:2] for line in listed] == [[name, "version 1 of 1"] for name in ("chat", "mail")]
    assert listed[1].endswith("linear in fp32")
    with pytest.raises(UserError, match="runs in openvino-encoder"):
        serve(lambda: Traffic(store), "127.0.0.1", 0, limits=Limits(engine="onnxruntime"))
    with running_server(store, "--engine", "openvino") as address:
        assert [model["id"] for model in httpx.get(f"{address}/v1/models").json()["data"]] == ["chat", "mail"]
        assert {name: asked(address, name, "where is my refund?") for name in bundles} == alone
        nameless = httpx.post(f"{address}/v1/classify", json={"text": "which model?"})
        assert (nameless.status_code, nameless.json()["error"]["code"]) == (404, "model_not_found")
        AdapterStore(store).remove("chat")
        only = httpx.post(f"{address}/v1/classify", json={"text": "where is my refund?"}).json()
        assert only["label"] == alone["mail"]["label"]


def test_a_model_that_was_removed_does_not_answer_under_its_successors_name(tmp_path: Path) -> None:
    store = tmp_path / "adapters"
    add_adapter(store, linear_bundle("shop", tmp_path / "shop"))
    add_adapter(store, linear_bundle("mail", tmp_path / "mail"), "mail")
    models = ManyModels(AdapterStore(store))
    before = models.engine("shop").answer("where is my refund?").text
    AdapterStore(store).remove("shop")
    add_adapter(store, linear_bundle("bank", tmp_path / "bank"), "shop")
    after = models.engine("shop").answer("where is my refund?").text
    assert (before.split()[-1], after.split()[-1]) == ("shop", "bank")
    (store / "README.md").write_text("notes", "utf-8")
    with pytest.raises(UnknownModel):
        models.engine("README.md")


def test_an_encoder_stands_beside_a_base_and_its_adapters(store: Path, tmp_path: Path) -> None:
    add_adapter(store, encoder_bundle("mail", tmp_path / "mail"))
    models = ManyModels(AdapterStore(store))
    assert models.names() == [models.label, "bank", "mail", "post", "shop"]
    for name in ("mail", "shop"):
        assert models.engine(name).answer("which?").text.endswith(name)
    with pytest.raises(UserError, match=r"is the base's name.*--name"):
        add_adapter(store, tmp_path / "mail", models.label)


def test_a_cascade_that_begins_with_an_adapter_is_not_cut_in_two(
    store: Path, make_bundle: Callable[..., Path], tmp_path: Path
) -> None:
    """Its second model would never have been asked."""
    bundle = tmp_path / "cascade"
    shutil.copytree(make_bundle("shop", 9), bundle)
    linear_bundle("shop", bundle / SECOND)
    write_info(bundle, read_info(bundle).model_copy(update={"second_below": 0.5}))
    with pytest.raises(UserError, match="A cascade that begins with a language model"):
        add_adapter(store, bundle)

"""Every bundle has an image that serves it, and a server in it that takes it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.conftest import REPOSITORY, make_spec
from tunewright.backends.azure import bases
from tunewright.core.errors import UserError
from tunewright.data.curve.classical import fit_linear
from tunewright.deploy.capacity import Second, held
from tunewright.deploy.images import engine_of, infra_folder
from tunewright.exporters.bundle import write_linear_bundle
from tunewright.inference.bundle import load_bundle, read_info, write_info
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import SECOND
from tunewright.inference.runtimes.base import ENGINES, RuntimeName
from tunewright.models.linear_model import LINEAR
from tunewright.serving.server import _check_engine


def bundle(folder: Path, *runtimes: str) -> Path:
    """A bundle of linear models that say they are for these runtimes: of a cascade the first one, then the second."""
    spec = make_spec(model="linear")
    labels = list(spec.task.labels)
    fit_linear(["an invoice", "a refund", "it crashes"] * 3, labels * 3, labels).save(folder / LINEAR)
    write_linear_bundle(spec, folder)
    save_calibration(UNCALIBRATED, folder)
    changes: dict[str, Any] = {"runtime": runtimes[0]}
    if runtimes[1:]:
        bundle(folder / SECOND, *runtimes[1:])
        changes["second_below"] = 0.5
    write_info(folder, read_info(folder).model_copy(update=changes))
    return folder


def test_every_runtime_has_an_image_and_the_dockerfile_has_them_all() -> None:
    assert set(ENGINES) == set(get_args(RuntimeName))
    stages = set(re.findall(r" AS (\S+)$", (infra_folder() / "docker" / "Dockerfile").read_text("utf-8"), re.M))
    assert {*ENGINES.values(), *(f"{engine}-bundle" for engine in ENGINES.values())} <= stages


@pytest.mark.parametrize(
    ("runtimes", "engine"),
    [
        (["linear"], "linear"),
        (["openvino-encoder"], "openvino"),
        (["linear", "openvino"], "openvino"),
        (["openvino-encoder", "openvino"], "openvino"),
        (["linear", "onnxruntime-encoder"], "onnxruntime"),
    ],
)
def test_a_bundle_has_the_image_of_all_of_its_models(runtimes: list[str], engine: str, tmp_path: Path) -> None:
    assert engine_of(bundle(tmp_path, *runtimes)) == engine


def test_what_is_to_be_imported_is_what_the_dockerfile_builds_on() -> None:
    """In the refusal of a private workspace and on the page about it."""
    assert f"\nFROM {bases._VLLM} AS vllm\n" in (infra_folder() / "docker" / "Dockerfile").read_text("utf-8")
    page = (REPOSITORY / "docs" / "azure-infrastructure.md").read_text("utf-8")
    named = bases._VLLM.rpartition("/")[2]
    assert f"az acr import --name REGISTRY --source docker.io/{bases._VLLM} --image {named}`" in page
    assert f"vllm: REGISTRY.azurecr.io/{named}}}" in page


def test_a_cascade_of_two_engines_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run in onnxruntime and openvino, and no image has both.*export\.runtime"):
        engine_of(bundle(tmp_path, "openvino-encoder", "onnxruntime"))


def test_the_server_of_an_image_takes_what_the_image_is_for(tmp_path: Path) -> None:
    alone = load_bundle(bundle(tmp_path / "alone", LINEAR))
    _check_engine(alone, LINEAR)
    with pytest.raises(UserError, match="take the image linear"):
        _check_engine(alone, "openvino")
    both = load_bundle(bundle(tmp_path / "both", LINEAR, LINEAR))
    assert both.second
    info = both.second.info.model_copy(update={"runtime": "openvino-encoder"})
    both = replace(both, second=replace(both.second, info=info))
    _check_engine(both, "openvino")
    with pytest.raises(UserError, match=rf"{SECOND}: This bundle runs in openvino-encoder"):
        _check_engine(both, "onnxruntime")


def test_of_a_cascade_both_models_are_held(tmp_path: Path) -> None:
    folder = bundle(tmp_path, LINEAR, LINEAR)
    info = read_info(folder / SECOND)
    assert held(Second(folder, read_info(folder))) == pytest.approx(2 * held(Second(folder / SECOND, info)))

"""The images' lists, and the workflow that builds them: read here, resolved and built where there is a network."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "infrastructure.yml"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("image_wheels", ROOT / "tools" / "image_wheels.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_image_is_looked_at_with_all_that_it_installs(tool: ModuleType) -> None:
    images = {image.name: image for image in tool.served((tool.DOCKER / "Dockerfile").read_text("utf-8"))}
    assert images.keys() == {"base", "linear", "onnxruntime", "openvino", "gateway", "vllm"}
    assert {image.python for image in images.values()} == {"3.12"}
    assert "fastapi" in images["vllm"].lists[0]
    for name in ("linear", "onnxruntime", "openvino"):
        assert [text.count("fastapi") for text in images[name].lists] == [1, 0]
    assert "torch==" in tool.of_jobs().lists[0]
    lists = {path.name for path in tool.DOCKER.glob("*.txt")}
    named = set(tool._LIST.findall((tool.DOCKER / "Dockerfile").read_text("utf-8")))
    assert lists == named, "a list that no image installs is looked at by nobody"


@pytest.mark.slow
def test_what_does_not_resolve_is_told(tool: ModuleType) -> None:
    """By a pin that no index has: the fault is pip's own, whether or not there is a network."""
    found, fault = tool.resolved(tool.Image("broken", "3.12", ("filelock\n",), "filelock==0.0.0.dev987\n"))
    assert not found and "filelock" in fault


def test_the_workflow_builds_each_image_but_vllms() -> None:
    workflow = YAML(typ="safe").load(WORKFLOW)
    file = resources.files("check_jsonschema.builtin_schemas") / "vendor" / "github-workflows.json"
    assert not [error.message for error in Draft7Validator(json.loads(file.read_text("utf-8"))).iter_errors(workflow)]
    images = workflow["jobs"]["images"]
    stages = {
        line.split()[-1] for line in (ROOT / "infra/docker/Dockerfile").read_text().splitlines() if " AS " in line
    }
    built = set(images["strategy"]["matrix"]["runtime"])
    assert built == {each for each in stages if not each.endswith("-bundle")} - {"base", "vllm"}
    assert "az bicep build --file infra/main.bicep" in str(workflow["jobs"]["bicep"])
    assert "make test-wheels" in str(workflow["jobs"]["wheels"])

"""Images are built on the bases and with the index that a spec names, and a build that fails says why."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.backends.azure.conftest import MakeJob, fails, puts
from tests.conftest import make_spec, tunewright
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure import assets
from tunewright.backends.azure.bases import on_reachable_bases, python_base
from tunewright.backends.azure.connection import connect
from tunewright.core.errors import UserError
from tunewright.deploy.images import built, context, tag_of

OWN = "mine.azurecr.io/python@sha256:abc"
FEED = "https://pkgs.dev.azure.com/me/_packaging/feed/pypi/simple/"


def dockerfile(folder: Path, **azure: Any) -> str:
    context(folder, make_spec(azure=azure), None)
    return (folder / "infra" / "docker" / "Dockerfile").read_text("utf-8")


def test_a_server_is_built_on_what_the_spec_names(tmp_path: Path) -> None:
    usual = dockerfile(tmp_path / "usual")
    assert "FROM python:3.12-slim AS base\n" in usual and "PIP_INDEX_URL" not in usual
    bases = {"serve": OWN, "vllm": "mine.azurecr.io/vllm:1"}
    named = dockerfile(tmp_path / "named", base_images=bases, package_index=FEED)
    assert f"FROM {OWN} AS base\nENV PIP_INDEX_URL={FEED}\n" in named
    assert f"FROM mine.azurecr.io/vllm:1 AS vllm\nENV PIP_INDEX_URL={FEED}\n" in named
    assert "FROM python:" not in named and "FROM vllm/" not in named
    assert named.replace(f"ENV PIP_INDEX_URL={FEED}\n", "").count("\n") == usual.count("\n")
    tags = {tag_of(make_spec(azure=azure), None) for azure in ({}, {"base_images": bases}, {"package_index": FEED})}
    assert len(tags) == 3, "another base is another image"


def test_jobs_are_built_on_what_the_spec_names(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(assets, "_is_there", lambda *_: False)  # another test may have made the usual one
    read = lambda _, image, __: made.append((Path(image.build.path) / "Dockerfile").read_text("utf-8"))  # noqa: E731
    monkeypatch.setattr(assets, "_create", read)
    spec = job(azure={"base_images": {"jobs": OWN}, "package_index": FEED})
    assets.environment(connect(spec), spec, {})
    assets.environment(connect(job()), job(), {})
    assert f"FROM {OWN}\n" in made[0] and f"PIP_NO_CACHE_DIR=1 PIP_INDEX_URL={FEED}\n" in made[0]
    assert "command -v gcc || (apt-get update" in made[0], "a base that has a compiler needs no Debian mirror"
    assert re.match(
        r"FROM mcr\.microsoft\.com/devcontainers/python:[\d.]+-3\.\d+-trixie@sha256:[0-9a-f]{64}\n", made[1]
    )
    assert not azure.cloud.violations


def test_jobs_run_in_an_image_that_was_built_elsewhere(
    azure: AzureEmulator, job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Laid out by a command, built by the user, named in the spec: Azure builds nothing then."""
    laid_out = tunewright("azure", "image", str(job().folder), str(tmp_path / "image"))
    assert laid_out.returncode == 0, laid_out.stderr
    assert {each.name for each in (tmp_path / "image").iterdir()} == {"Dockerfile", "requirements.txt"}
    image = laid_out.stdout.split("azure.job_image=")[1].strip().replace("REGISTRY", "mine")
    spec = job(azure={"job_image": image})
    before = len(azure.cloud.calls)
    name = assets.environment(connect(spec), spec, {})
    made = azure.cloud.get(puts(azure, "/environments/tunewright-steps", before)[0])
    assert name.endswith(made["name"]) and made["properties"]["image"] == image and not made["properties"].get("build")
    assert "azure: environment tunewright-steps" in capsys.readouterr().err
    other = job(azure={"job_image": image[:-4] + "0000"})
    with pytest.raises(UserError, match=r"other packages than those installed here.*tunewright azure image"):
        assets.environment(connect(other), other, {})
    again = tunewright("azure", "image", str(spec.folder), str(tmp_path / "image"))
    assert again.returncode == 2 and "Name a new one" in again.stderr


def test_a_private_workspace_builds_on_microsofts_image(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker Hub is out of its reach."""
    at = connect(job())
    assert on_reachable_bases(job(), at).azure.base_images == {}
    workspace = azure.cloud.get(azure.cloud.workspace)
    monkeypatch.setitem(workspace["properties"], "publicNetworkAccess", "Disabled")
    at = connect(job())
    assert on_reachable_bases(job(), at).azure.base_images == {"serve": python_base("3.12")}
    named = job(azure={"base_images": {"serve": OWN}})
    assert on_reachable_bases(named, at).azure.base_images == {"serve": OWN}


def refused(spec: Any, bundle: Path) -> str:
    with pytest.raises(UserError) as caught:
        built(connect(spec), spec, bundle, "openvino-bundle")
    return caught.value.paragraph()


def test_a_build_that_fails_says_why(azure: AzureEmulator, job: MakeJob, tmp_path: Path) -> None:
    spec = job()
    (tmp_path / "bundle").mkdir()
    azure.clusters._registry.log = "Step 1/9\nERROR: toomanyrequests: You have reached your pull rate limit."
    said = refused(spec, tmp_path / "bundle")
    assert "pull rate limit" in said
    assert "azure.base_images.serve=mcr.microsoft.com/devcontainers/python:3.2.6-3.12-trixie@sha256:" in said
    assert "az acr import --name emulator --source docker.io/library/python:3.12-slim" in said
    azure.clusters._registry.log = "ERROR: No matching distribution found for openvino"
    said = refused(spec, tmp_path / "bundle")
    assert "No matching distribution" in said and "az acr task logs --registry emulator --run-id cb" in said
    assert f"--subscription {connect(spec).name.subscription}" in said
    code = "TasksOperationsNotAllowed"
    fails(azure, r"POST .*/scheduleRun$", 400, code, "ACR Tasks requests for the registry are not permitted.")
    said = refused(spec, tmp_path / "bundle")
    assert code in said and "free credit" in said and "--image-build-compute tunewright-cpu" in said
    assert built(connect(spec), spec, tmp_path / "bundle", "openvino-bundle").startswith("emulator.azurecr.io/")
    assert api.standing(spec) == []

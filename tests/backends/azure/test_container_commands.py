"""An endpoint's container starts with the command of its image, and the mount, routes and probes of its deployment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.azure.conftest import MakeJob
from tests.backends.azure.served import entered
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure.connection import connect
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.data.curve.classical import fit_linear
from tunewright.deploy.down import take_down
from tunewright.deploy.endpoint import ManagedEndpoint
from tunewright.exporters.bundle import write_linear_bundle
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.models.linear_model import LINEAR


@pytest.fixture
def spec(azure: AzureEmulator, job: MakeJob) -> Iterator[Spec]:
    made = job(model="linear", traffic={"machine": "Standard_F4s_v2"})
    yield made
    take_down(api.standing(made))
    assert not azure.cloud.violations


def linear_bundle(spec: Spec, folder: Path) -> Path:
    labels = list(spec.task.labels)
    fit_linear(["an invoice", "it crashes", "a refund"] * 3, labels * 3, labels).save(folder / LINEAR)
    write_linear_bundle(spec, folder)
    save_calibration(UNCALIBRATED, folder)
    return folder


def test_the_image_of_another_engine_refuses_the_bundle(spec: Spec, tmp_path: Path) -> None:
    """vLLM's image runs with `--engine vllm`, so its server does not take a linear model."""
    model = entered(spec, linear_bundle(spec, tmp_path / "bundle"))
    wrong = ManagedEndpoint(spec, connect(spec), "vllm", model, 1)
    with pytest.raises(UserError, match=r"failed.*Its log ends: .*This bundle runs in linear.*take the image linear"):
        wrong.create()
    wrong.undo()
    ManagedEndpoint(spec, connect(spec), "linear", model, 1).create()


def test_a_probe_of_a_port_that_the_image_does_not_open_fails(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewright.deploy.endpoint._PORT", 8081)
    monkeypatch.setattr("tunewright.deploy.endpoint.tag_of", lambda *_: "probed")
    model = entered(spec, linear_bundle(spec, tmp_path / "bundle"))
    with pytest.raises(UserError, match=r"Its log ends: The image exposes no port 8081"):
        ManagedEndpoint(spec, connect(spec), "linear", model, 1).create()

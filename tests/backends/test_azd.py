"""After `azd up` nobody has to name the workspace or the identity: they are read from azd's files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import make_spec
from tunewright.backends.azure.machines import identity_of
from tunewright.backends.azure.workspace import VARIABLES, WorkspaceName, workspace_of
from tunewright.core.errors import UserError

IDENTITY = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `azd up` was typed, with a default environment and another one."""
    for name in (*VARIABLES, "AZURE_ML_IDENTITY", "AZURE_ENV_NAME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "checkout"
    for name in ("dev", "prod"):
        (folder / ".azure" / name).mkdir(parents=True)
        (folder / ".azure" / name / ".env").write_text(
            f'# of azd\nAZURE_SUBSCRIPTION_ID="s"\nAZURE_RESOURCE_GROUP="rg-{name}"\nAZURE_ML_WORKSPACE=mlw\n'
            f'AZURE_ML_IDENTITY="{IDENTITY}"\nTUNEWRIGHT_GPU_QUOTA="az quota \\"create\\""\n',
            "utf-8",
        )
    (folder / ".azure" / "config.json").write_text(json.dumps({"version": 1, "defaultEnvironment": "dev"}), "utf-8")
    return folder


@pytest.mark.parametrize("where", ["spec", "current folder"])
def test_the_workspace_is_found_above_the_spec_or_the_current_folder(
    where: str, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(checkout / "examples" / "tickets" if where == "spec" else tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path if where == "spec" else checkout / ".azure")
    assert workspace_of(spec) == WorkspaceName("s", "rg-dev", "mlw")
    assert identity_of(spec) == IDENTITY
    monkeypatch.setenv("AZURE_ENV_NAME", "prod")
    assert workspace_of(spec).resource_group == "rg-prod"


def test_the_spec_and_variables_go_before_azds_files(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(checkout, azure={"workspace": "other/group/space"})
    assert workspace_of(spec).workspace == "space"
    assert identity_of(spec) is None, "azd's identity is of azd's workspace"
    for name, value in zip(VARIABLES, ("x", "y", "z"), strict=True):
        monkeypatch.setenv(name, value)
    assert workspace_of(make_spec(checkout)) == WorkspaceName("x", "y", "z")


def test_an_environment_that_is_not_there_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_ENV_NAME", "gone")
    with pytest.raises(UserError, match=r"gone.*azd env select"):
        workspace_of(make_spec(checkout))


def test_a_folder_of_azures_other_tools_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "AZURE_ENV_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".azure").mkdir()
    (tmp_path / ".azure" / "config.json").write_text('{"cloud": {"name": "AzureCloud"}}', "utf-8")
    with pytest.raises(UserError, match="Nothing names the Azure Machine Learning workspace"):
        workspace_of(make_spec(tmp_path))

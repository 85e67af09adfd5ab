"""A model goes to the workspace and from there to a registry; checked with Azure's own client."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.backends.azure.conftest import MakeJob
from tests.exporters.outputs import SECRET, WEIGHTS, with_outputs
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.cloud import InjectedFault, error
from tunewright.backends.azure.connection import connect
from tunewright.core.errors import UserError


def test_a_merged_model_is_entered_once_and_shared(azure: AzureEmulator, job: MakeJob) -> None:
    spec = with_outputs(job())
    parcel = api.parcel(spec, "merged", "azureml:shared")
    alone = api.push(spec, parcel, "azureml")
    assert alone.address == f"azureml:tunewright-{spec.name}-merged:1"
    done = api.push(spec, parcel, "azureml:shared")
    assert done.address == f"azureml://registries/shared/models/tunewright-{spec.name}-merged/versions/1"
    calls = len(azure.cloud.calls)
    assert api.push(spec, parcel, "azureml:shared") == done
    assert not [
        each for each in azure.cloud.calls[calls:] if each.method in ("PUT", "POST") and "login" not in each.host
    ]
    assert not azure.cloud.violations
    model = connect(spec).ml.models.get(f"tunewright-{spec.name}-merged", "1")
    assert model.tags["form"] == "merged"
    prefix = model.path.partition("/paths/")[2].rstrip("/")
    at = connect(spec)
    from tunewright.backends.azure.store import BlobStore

    blobs = {blob.name.removeprefix(f"{prefix}/"): blob.name for blob in BlobStore(at)._container.list_blobs(prefix)}
    assert set(blobs) == set(parcel.files)
    content = {name: BlobStore(at)._container.download_blob(blob).readall() for name, blob in blobs.items()}
    assert content["model.safetensors"] == WEIGHTS
    assert not any(SECRET.encode() in each for each in content.values())


def test_a_registry_that_is_not_there_or_refuses(azure: AzureEmulator, job: MakeJob) -> None:
    spec = with_outputs(job())
    parcel = api.parcel(spec, "adapter", "azureml:missing")
    with pytest.raises(UserError, match="the registry missing"):
        api.push(spec, parcel, "azureml:missing")
    azure.cloud.faults.append(
        InjectedFault("POST .*/registries/shared/import", error(403, "AuthorizationFailed", "no role"))
    )
    with pytest.raises(UserError, match="A role is missing"):
        api.push(spec, parcel, "azureml:shared")
    api.push(spec, parcel, "azureml:shared")


def test_other_content_is_the_next_version_also_where_others_share_the_name(azure: AzureEmulator, job: MakeJob) -> None:
    spec = with_outputs(job())
    parcel = api.parcel(spec, "adapter", "azureml:shared")
    name = f"tunewright-{spec.name}-adapter"
    assert api.push(spec, parcel, "azureml:shared").version == "1"
    other = replace(parcel, content="f" * 64)
    assert api.push(spec, other, "azureml").address == f"azureml:{name}:2"
    versions = azure.cloud.workspace.partition("/workspaces/")[0] + f"/registries/shared/models/{name}/versions"
    ours = azure.cloud.get(f"{versions}/1")
    assert ours
    theirs = ours["properties"] | {"properties": {"tunewright.content": "theirs"}}
    azure.cloud.put(f"{versions}/2", ours | {"name": "2", "id": ours["id"][:-1] + "2", "properties": theirs})
    assert api.push(spec, other, "azureml:shared").address.endswith(f"/models/{name}/versions/3")
    assert api.push(spec, parcel, "azureml:shared").address.endswith(f"/models/{name}/versions/1")


def test_an_archived_version_keeps_its_number_and_no_longer_stands_for_its_content(
    azure: AzureEmulator, job: MakeJob
) -> None:
    """Lists leave it out, but Azure refuses its number."""
    spec = with_outputs(job())
    first = api.parcel(spec, "adapter", "azureml:shared")
    second, third = (replace(first, content=digit * 64) for digit in "ef")
    name, models = f"tunewright-{spec.name}-adapter", connect(spec).ml.models
    assert [api.push(spec, each, "azureml:shared").version for each in (first, second)] == ["1", "2"]
    for place in (azure.cloud.workspace, azure.cloud.workspace.partition("/workspaces/")[0] + "/registries/shared"):
        newest = azure.cloud.get(f"{place}/models/{name}/versions/2")
        assert newest
        archived = newest | {"properties": newest["properties"] | {"isArchived": True}}
        azure.cloud.put(f"{place}/models/{name}/versions/2", archived)
    assert [each.version for each in models.list(name)] == ["1"]
    assert api.push(spec, third, "azureml").address == f"azureml:{name}:3"
    assert api.push(spec, third, "azureml:shared").address.endswith(f"/models/{name}/versions/3")
    assert api.push(spec, second, "azureml").address == f"azureml:{name}:4"
    assert not azure.cloud.violations

"""A bundle is deployed only where it can be held, and a place that would hold it is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.pipeline.made import model_folder, sizes
from tunewright.core.errors import UserError
from tunewright.deploy.capacity import container_of, held, instances_of, pod_memory, require_capacity
from tunewright.economics.memory import GIB, weights


def outputs(folder: Path, model: str, runtime: str = "openvino", precision: str = "int8") -> Any:
    """A bundle of true size: a file of that many bytes, none of which take any room."""
    inside = model_folder(model, folder / "bundle" / ("vllm" if runtime == "vllm" else "openvino"))
    with (inside / "model.safetensors").open("wb") as stream:
        stream.truncate(int(weights(sizes(model), "16-bit" if runtime == "vllm" else precision)))
    return SimpleNamespace(
        bundle=folder / "bundle",
        info=SimpleNamespace(runtime=runtime, context=1024, precision=precision, second_below=None),
    )


def refused(to: str, made: Any, machine: str) -> str:
    with pytest.raises(UserError) as caught:
        require_capacity(to, make_spec(traffic={"machine": machine}), made)
    return caught.value.paragraph()


def test_what_a_server_holds_is_counted_from_the_bundles_own_files(tmp_path: Path) -> None:
    phi = outputs(tmp_path, "phi-3-mini")
    assert weights(sizes("phi-3-mini"), "int8") < held(phi) < 1.4 * weights(sizes("phi-3-mini"), "int8")


def test_an_endpoints_machine_is_too_small_for_7b(tmp_path: Path) -> None:
    made = outputs(tmp_path, "mistral-7b")
    said = refused("aml", made, "Standard_F4s_v2")
    assert "needs 7.7 GiB" in said
    assert "Standard_F4s_v2 has 7.2 free" in said
    assert "traffic.machine=Standard_F8s_v2" in said
    require_capacity("aml", make_spec(traffic={"machine": "Standard_F8s_v2"}), made)
    require_capacity("aml", make_spec(traffic={"machine": "Standard_Unknown_v9"}), made)


def test_an_endpoint_takes_the_sizes_of_azures_list_alone(tmp_path: Path) -> None:
    made = outputs(tmp_path, "smollm2-135m")
    said = refused("aml", made, "Standard_D2s_v5")
    assert "Managed online endpoints don't take Standard_D2s_v5" in said
    assert "vm-sku-list (read 2026-" in said
    assert "traffic.machine=Standard_F4s_v2; or deploy with --to aks" in said
    require_capacity("aks", make_spec(traffic={"machine": "Standard_D2s_v5"}), made)


def test_a_node_of_kubernetes_has_less_than_its_machine(tmp_path: Path) -> None:
    made = outputs(tmp_path, "phi-3-mini")
    assert pod_memory(made) == "5702Mi"
    said = refused("aks", made, "container-apps-2-4")
    assert "traffic.machine=Standard_D2s_v5" in said
    require_capacity("aks", make_spec(), made)
    assert "Standard_D4s_v5" in refused("aks", outputs(tmp_path / "7b", "mistral-7b"), "Standard_D2s_v5")


def test_a_container_app_takes_the_larger_size_and_no_more(tmp_path: Path) -> None:
    made = outputs(tmp_path, "phi-3-mini")
    said = refused("aca", made, "Standard_D2s_v5")
    assert "container-apps-2-4 has 4.0 free" in said
    assert "traffic.machine=container-apps-4-8" in said
    larger = make_spec(traffic={"machine": "container-apps-4-8"})
    require_capacity("aca", larger, made)
    assert (container_of(larger), container_of(make_spec())) == ("container-apps-4-8", "container-apps-2-4")
    # No container app holds an 8B model in int8: a machine does.
    said = refused("aca", outputs(tmp_path / "8b", "llama-3-8b"), "container-apps-4-8")
    assert "--to aml with traffic.machine=Standard_F8s_v2" in said


def test_vllm_needs_its_weights_on_one_gpu(tmp_path: Path) -> None:
    made = outputs(tmp_path, "mistral-7b", "vllm")
    said = refused("aml", made, "Standard_NC4as_T4_v3")
    assert "needs 13.5 GiB of memory, and Standard_NC4as_T4_v3 has 12.1 free for vLLM" in said
    assert "traffic.machine=Standard_NV36ads_A10_v5" in said
    assert "has no GPU" in refused("aml", made, "Standard_F8s_v2")
    require_capacity("aml", make_spec(traffic={"machine": "Standard_NV36ads_A10_v5"}), made)
    assert pod_memory(outputs(tmp_path / "small", "smollm2-135m")) == "2048Mi"
    assert 13 * GIB < held(made) < 14 * GIB


@pytest.mark.parametrize(("replicas", "redundancy", "machines"), [(3, 1, 3), (1, 2, 2), (None, 1, 1), (None, 2, 2)])
def test_as_many_machines_as_the_verdict_counts_with_and_no_fewer_than_stand_ready(
    replicas: int | None, redundancy: int, machines: int
) -> None:
    made: Any = SimpleNamespace(replicas=replicas) if replicas else None
    assert instances_of(make_spec(traffic={"redundancy": redundancy}), made) == machines

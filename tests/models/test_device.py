"""A GPU that torch can't use ends a step at once, with its cause; nothing changes where there is none."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.inference.runtimes.torch_model import compute_type
from tunewright.models import device
from tunewright.models.device import GPU, can_page, nvidia_gpus, require_gpu
from tunewright.pipeline.runner import execute_step
from tunewright.pipeline.steps import STEPS

_TOO_OLD = "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver."


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU, whatever machine the tests run on."""
    monkeypatch.setattr(device, "_NODES", (Path("/nowhere"), "nvidia*"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv(GPU, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an nvidia-smi on the path that runs these lines of shell."""

    def put(lines: str) -> None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


_T4 = "echo 'GPU 0: Tesla T4 (UUID: GPU-1)'"


def test_without_a_gpu_nothing_is_required() -> None:
    assert nvidia_gpus() == []
    require_gpu()


def test_a_gpu_beside_a_torch_without_cuda_ends_the_step(
    says: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    says(_T4)
    with pytest.raises(UserError, match=r"Tesla T4: .*can't use.*build without CUDA.*CUDA_VISIBLE_DEVICES=-1"):
        execute_step(STEPS["train"], make_spec(tmp_path), {}, tmp_path / "train")
    with pytest.raises(UserError, match="needs --in"):
        execute_step(STEPS["split"], make_spec(tmp_path), {}, tmp_path / "split")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    require_gpu()


def test_a_driver_that_is_too_old_is_named(says: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def old() -> None:
        raise RuntimeError(_TOO_OLD)

    says(_T4)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", old)
    with pytest.raises(UserError, match=r"built for CUDA 13\.0\. The NVIDIA driver .* too old \(found version 12080\)"):
        require_gpu()


def test_where_a_gpu_is_paid_for_its_absence_ends_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GPU, "required")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(UserError, match="needs a GPU, and there is none") as refused:
        execute_step(STEPS["parity"], make_spec(tmp_path), {}, tmp_path / "parity")
    assert "CUDA_VISIBLE_DEVICES" not in str(refused.value)


def test_a_driver_that_does_not_answer_still_has_device_files(
    says: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(device, "_NODES", (tmp_path, "nvidia[0-9]*"))
    says("echo 'NVIDIA-SMI has failed'; exit 9")
    assert nvidia_gpus() == [str(tmp_path / "nvidia0")]
    says("exit 0")
    assert nvidia_gpus() == [str(tmp_path / "nvidia0")]
    says(f"{_T4}; echo 'GPU 1: NVIDIA A10-8Q (UUID: GPU-2)'")
    assert nvidia_gpus() == ["Tesla T4", "NVIDIA A10-8Q"]


@pytest.mark.parametrize(("capability", "able"), [((6, 1), False), ((7, 5), True), ((9, 0), True), ((12, 0), True)])
def test_a_gpu_older_than_the_build_is_refused(
    says: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], able: bool
) -> None:
    says(_T4)
    for name, value in {
        "is_available": True,
        "get_arch_list": ["sm_75", "sm_80", "sm_90a", "compute_90"],
        "get_device_capability": capability,
        "get_device_name": "a card",
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    if able:
        require_gpu()
    else:
        with pytest.raises(UserError, match=r"capability is 6\.1; the build starts at 7\.5"):
            require_gpu()


def test_products_in_bfloat16_are_refused_where_the_gpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert compute_type("auto") == "float16"
    with pytest.raises(UserError, match=r"no bfloat16.*train\.precision=float16"):
        compute_type("bfloat16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)  # noqa: ARG005 (torch's name)
    assert compute_type("auto") == compute_type("bfloat16") == "bfloat16"


class Driver(SimpleNamespace):
    """libcuda of a machine with one GPU, as far as it is asked."""

    def __init__(self, attributes: dict[int, int], allocates: int):
        super().__init__(
            cuInit=lambda _: 0,
            cuDeviceGet=lambda *_: 0,
            cuMemFree_v2=lambda _: 0,
            cuMemAllocManaged=lambda *_: allocates,
        )
        self._attributes = attributes

    def cuDeviceGetAttribute(self, value: Any, attribute: int, _: object) -> int:
        value._obj.value = self._attributes[attribute]
        return 0


@pytest.mark.parametrize(
    ("attributes", "allocates", "able"),
    [({83: 1, 89: 1}, 0, True), ({83: 1, 89: 0}, 0, False), ({83: 0, 89: 0}, 0, False), ({83: 1, 89: 1}, 801, False)],
    ids=["a whole card", "memory that can't be overbooked", "a vGPU", "a vGPU that says otherwise"],
)
def test_paging_follows_the_driver(
    monkeypatch: pytest.MonkeyPatch, attributes: dict[int, int], allocates: int, able: bool
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: Driver(attributes, allocates))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    can_page.cache_clear()
    assert can_page() == able
    can_page.cache_clear()


def test_without_a_driver_nothing_is_paged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_DRIVER", "libnothing.so")
    can_page.cache_clear()
    assert not can_page()
    can_page.cache_clear()

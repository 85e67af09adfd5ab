"""What GPU this machine has, whether torch can use it, and what it can do.

A torch that can't use a GPU says nothing about it: everything runs on the CPU, hundreds of times slower and at the
GPU's price. So who is to work on a GPU asks here first.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tunewright.core.errors import UserError

GPU = "TUNEWRIGHT_GPU"
"""Environment variable: "required" where a GPU is paid for, so that a process without one has to end."""
_NODES = Path("/dev"), "nvidia[0-9]*"
"""What NVIDIA's driver makes for each GPU."""
_DRIVER = "libcuda.so.1"
_ANSWER_SECONDS = 30
_MANAGED_MEMORY, _CONCURRENT_MANAGED_ACCESS = 83, 89
"""Of CUDA's driver API, cuda.h: CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS."""
_ATTACH_GLOBAL = 1
_TORCH = "a torch for the CUDA version of the driver: pytorch.org/get-started."
_ON_NODE = (
    "The cloud chooses a node's driver, and the nodes get the torch that is installed where you type the command: "
    f"install there {_TORCH} Or name another machine, or none with a GPU: azure.gpu=null"
)
_ON_CPU = "To compute on the CPU all the same, set CUDA_VISIBLE_DEVICES=-1."


def require_gpu() -> None:
    """End before anything is computed on a CPU in a GPU's place: where a GPU is paid for, and where the machine has an
    NVIDIA GPU that is not hidden by CUDA_VISIBLE_DEVICES.

    Raises:
        UserError: torch finds no GPU, or has no kernels for it.
    """
    paid = os.environ.get(GPU) == "required"
    if not paid and (_hidden() or not nvidia_gpus()):
        return
    import torch

    if torch.cuda.is_available():
        _check_kernels()
        return
    found = ", ".join(nvidia_gpus())
    driver = f"It has the driver {version}. " if (version := driver_version()) else ""
    raise UserError(
        "This machine has a GPU, which torch can't use." if found else "This step needs a GPU, and there is none.",
        where=found or None,
        why=f"{driver}{_why_no_cuda()}",
        fix=_ON_NODE if paid else f"See what nvidia-smi says. Install the driver, or {_TORCH} {_ON_CPU}",
    )


def driver_version() -> str | None:
    """The version of NVIDIA's driver, such as 535.161.08; None where it does not say."""
    said = _nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")
    return said.splitlines()[0].strip() if said and said.strip() else None


def _nvidia_smi(*arguments: str) -> str | None:
    """What the driver's tool says; None where there is none, or it fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        said = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if said.returncode else said.stdout


def _hidden() -> bool:
    """Whether the user keeps GPUs from this process."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def nvidia_gpus() -> list[str]:
    """This machine's NVIDIA GPUs by name, as the driver lists them; where it doesn't answer, their device files."""
    listed = _nvidia_smi("-L") or ""
    if any(names := [line.split(": ", 1)[-1].split(" (")[0] for line in listed.splitlines()]):
        return names
    folder, pattern = _NODES
    return sorted(map(str, folder.glob(pattern)))


def _why_no_cuda() -> str:
    """Why torch, which found no GPU, found none."""
    import torch

    if not torch.version.cuda:
        return f"torch {torch.__version__} is a build without CUDA."
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())
        return f"torch {torch.__version__} is built for CUDA {torch.version.cuda}. {said[:300]}"
    return f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, and sees no GPU."


def _check_kernels() -> None:
    """Whether torch was built for this GPU: where not, its first kernel fails.

    Raises:
        UserError: it was not.
    """
    import torch

    built = [int(name.split("_")[1].rstrip("af")) for name in torch.cuda.get_arch_list() if name[:3] == "sm_"]
    major, minor = torch.cuda.get_device_capability()
    # Code for one minor version runs on later ones of the same major; newer GPUs take the intermediate code.
    oldest = min(built, default=0)
    if 10 * major + minor < oldest:
        raise UserError(
            f"torch {torch.__version__} has no kernels for this GPU.",
            where=torch.cuda.get_device_name(),
            why=f"Its compute capability is {major}.{minor}; the build begins with {oldest // 10}.{oldest % 10}.",
            fix=f"Install a torch that was built for it: pytorch.org/get-started. {_ON_CPU}",
        )


def has_bfloat16() -> bool:
    """Whether this machine's GPU computes in bfloat16 (Ampere and later)."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@cache
def can_page() -> bool:
    """Whether memory can move between the GPU and the machine by itself (CUDA's managed memory), which bitsandbytes'
    paged optimizers are made of. A vGPU, such as Azure's NVads A10 v5, has none: allocating it fails, and bitsandbytes
    then ends the process (csrc/compat.cuh, BNB_CHECK_RETURN, read 2026-11-27).

    The driver's attributes are asked first, then four kilobytes are allocated.
    """
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return False
    device, value, address = ctypes.c_int(), ctypes.c_int(), ctypes.c_uint64()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return False
    for attribute in (_MANAGED_MEMORY, _CONCURRENT_MANAGED_ACCESS):
        if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device) or not value.value:
            return False
    import torch

    torch.zeros(1, device="cuda")  # makes the context that an allocation needs
    if driver.cuMemAllocManaged(ctypes.byref(address), ctypes.c_size_t(4096), _ATTACH_GLOBAL):
        return False
    driver.cuMemFree_v2(address)
    return True

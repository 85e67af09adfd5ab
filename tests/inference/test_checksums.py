"""A bundle loads only with the files that it was made with."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import make_spec, tunewright
from tunewright.core.errors import UserError
from tunewright.data.curve.classical import fit_linear
from tunewright.exporters.bundle import write_linear_bundle
from tunewright.inference.bundle import load_bundle, read_info, write_info
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import CHECKSUMS, SECOND, VERIFY, Verification, read_checksums, seal, sums
from tunewright.models.linear_model import LINEAR
from tunewright.serving.engine import Engine

WEIGHTS = f"{LINEAR}/weights.safetensors"
OFF = Verification(on=False)


def unsealed(folder: Path) -> Path:
    """A bundle as it was made before there were checksums."""
    spec = make_spec(model="linear")
    labels = list(spec.task.labels)
    fit_linear(["my invoice is wrong", "it does not arrive", "it crashes"] * 3, labels * 3, labels).save(
        folder / LINEAR
    )
    write_linear_bundle(spec, folder)
    save_calibration(UNCALIBRATED, folder)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = unsealed(tmp_path / "bundle")
    seal(folder)
    return folder


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def answer(folder: Path, verification: Verification | None = None) -> str:
    return Engine.load(load_bundle(folder, verification=verification)).answer("it does not arrive").text


def test_a_whole_bundle_is_served(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(bundle) == list(make_spec().task.labels)[1]
    assert not capsys.readouterr().err


def _random(bundle: Path) -> None:
    (bundle / WEIGHTS).write_bytes(random.Random(0).randbytes(20 << 20))


def _swapped(bundle: Path) -> None:
    one, other = bundle / WEIGHTS, bundle / LINEAR / "ngrams.json"
    one.rename(bundle / "between")
    other.rename(one)
    (bundle / "between").rename(other)


def _more(bundle: Path) -> None:
    (bundle / LINEAR / "more.json").write_text("{}")


def _linked(bundle: Path) -> None:
    """A server would follow it, as to the linear model beside an encoder."""
    elsewhere = Path(shutil.copytree(bundle / LINEAR, bundle.parent / "elsewhere"))
    (bundle / LINEAR / "more").symlink_to(elsewhere, target_is_directory=True)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "random bytes over the weights": (_random, rf"{WEIGHTS}: .*not the one.*20,971,520 bytes.*tunewright export"),
    "one bit of the weights": (lambda b: flip(b / WEIGHTS), rf"{WEIGHTS}: .*not the one.*is \w{{12}}….*\w{{12}}…"),
    "one bit of the n-grams": (lambda b: flip(b / LINEAR / "ngrams.json", 40), "ngrams.json: .*not the one"),
    "one bit of the settings": (lambda b: flip(b / "bundle.json", 40), "bundle.json: .*not the one"),
    "one bit of the calibration": (lambda b: flip(b / "calibration.json", 20), "calibration.json: .*not the one"),
    "swapped files": (_swapped, "not the one"),
    "a missing file": (lambda b: (b / WEIGHTS).unlink(), rf"{WEIGHTS}: .*missing"),
    "a missing calibration": (lambda b: (b / "calibration.json").unlink(), r"calibration\.json: .*missing"),
    "an additional file": (_more, r"more\.json: .*not made with.*Remove it"),
    "a linked folder": (_linked, r"linear/more: .*is a link.*Put the files themselves"),
    "a chat template": (lambda b: (b / "chat_template.jinja").write_text("x"), "not made with"),
    "a named pipe": (lambda b: os.mkfifo(b / "tokenizer.json"), "not a plain file"),
    "a device": (lambda b: (b / "tokenizer.json").symlink_to("/dev/zero"), "not a plain file"),
    "a link to nowhere": (lambda b: (b / "tokenizer.json").symlink_to("nowhere"), "can't be reached"),
    "no checksums": (lambda b: (b / CHECKSUMS).write_text("{"), "checksums can't be read"),
    "deep checksums": (lambda b: (b / CHECKSUMS).write_text("[" * 10**6), "checksums can't be read"),
    "checksums of blocks of another size": (
        lambda b: (b / CHECKSUMS).write_text((b / CHECKSUMS).read_text().replace("8388608", "1")),
        "can't be read",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_changed_bundle_is_refused(damage: str, bundle: Path) -> None:
    hurt, said = DAMAGES[damage]
    hurt(bundle)
    with pytest.raises(UserError, match=said):
        answer(bundle)


@pytest.mark.slow
def test_the_server_and_a_batch_refuse_random_weights(bundle: Path, tmp_path: Path) -> None:
    _random(bundle)
    (tmp_path / "in.jsonl").write_text('{"text": "it crashes"}\n')
    for command in (["serve", "--port", "0", ""], ["batch", "", str(tmp_path / "in.jsonl"), str(tmp_path / "out")]):
        said = tunewright(*(word or str(bundle) for word in command))
        assert said.returncode == 2, said.stderr
        assert "is not the one that the bundle was made with" in said.stderr
        assert "ready" not in said.stderr
        assert "Traceback" not in said.stderr


@pytest.mark.slow
def test_one_can_serve_unverified(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(bundle / WEIGHTS)
    assert answer(bundle, OFF)
    monkeypatch.setenv(VERIFY, "off")
    assert answer(bundle)
    monkeypatch.delenv(VERIFY)
    (tmp_path / "in.jsonl").write_text('{"text": "it crashes"}\n')
    said = tunewright("batch", str(bundle), str(tmp_path / "in.jsonl"), str(tmp_path / "out"), "--verify", "off")
    assert said.returncode == 0, said.stderr


def test_files_that_no_server_reads_are_no_concern(bundle: Path) -> None:
    (bundle / "README.md").write_text("another card")
    (bundle / ".cache").mkdir()
    (bundle / "parity.json").unlink(missing_ok=True)
    answer(bundle)


def test_a_bundle_without_checksums_is_held_against_its_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = unsealed(tmp_path / "old")
    answer(bundle)
    assert "only its weights were verified. Make it anew" in capsys.readouterr().err
    flip(bundle / WEIGHTS)
    with pytest.raises(UserError, match=r"weights are not those that the bundle was made with.*tunewright export"):
        answer(bundle)
    answer(bundle, OFF)
    flip(bundle / WEIGHTS)
    _linked(bundle)
    with pytest.raises(UserError, match=r"linear/more: .*is a link"):
        answer(bundle)
    with pytest.raises(UserError, match=r"linear/more: .*is a link"):
        seal(bundle)


def test_a_folder_of_weights_may_lie_on_another_disk(bundle: Path, tmp_path: Path) -> None:
    """Its files are checked through the link."""
    (bundle / LINEAR).rename(tmp_path / "disk")
    (bundle / LINEAR).symlink_to(tmp_path / "disk", target_is_directory=True)
    answer(bundle)
    flip(tmp_path / "disk" / "weights.safetensors")
    with pytest.raises(UserError, match=rf"{WEIGHTS}: .*not the one"):
        answer(bundle)


def test_a_pin_holds_one_bundle(bundle: Path) -> None:
    checksums = read_checksums(bundle)
    assert checksums
    assert checksums.digest == hashlib.sha256((bundle / CHECKSUMS).read_bytes()).hexdigest()
    answer(bundle, Verification(pin=checksums.digest))
    flip(bundle / WEIGHTS)
    seal(bundle)
    answer(bundle)
    with pytest.raises(UserError, match=rf"not the pinned bundle.*{checksums.digest[:12]}"):
        answer(bundle, Verification(pin=checksums.digest))
    (bundle / CHECKSUMS).unlink()
    with pytest.raises(UserError, match="has no checksums"):
        answer(bundle, Verification(pin=checksums.digest))


@pytest.mark.slow
def test_the_server_refuses_another_bundle_than_the_pinned_one(bundle: Path) -> None:
    said = tunewright("serve", str(bundle), "--port", "0", TUNEWRIGHT_PIN="0" * 64)
    assert (said.returncode, "not the pinned bundle" in said.stderr) == (2, True), said.stderr
    both = tunewright("serve", str(bundle), "--port", "0", "--pin", "0" * 64, "--verify", "off")
    assert (both.returncode, "not verified" in both.stderr) == (2, True), both.stderr


@pytest.mark.parametrize(("on", "pin", "said"), [(True, "abc", "64 hex"), (False, "0" * 64, "not verified")])
def test_a_useless_pin_is_refused(on: bool, pin: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Verification(on, pin)


def test_a_pin_covers_the_second_bundle_of_a_cascade(bundle: Path) -> None:
    shutil.copytree(bundle, bundle / SECOND)
    write_info(bundle, read_info(bundle).model_copy(update={"second_below": 0.5}))
    digest = seal(bundle)
    answer(bundle, Verification(pin=digest))
    flip(bundle / SECOND / WEIGHTS)
    with pytest.raises(UserError, match=rf"{SECOND}/{WEIGHTS}: .*not the one"):
        answer(bundle)
    seal(bundle / SECOND)
    with pytest.raises(UserError, match=rf"{SECOND}/{CHECKSUMS}: .*not the one"):
        answer(bundle)


def test_amending_reads_only_the_changed_file(bundle: Path) -> None:
    write_info(bundle, read_info(bundle).model_copy(update={"threshold": 0.5}))
    answer(bundle)
    flip(bundle / WEIGHTS)
    write_info(bundle, read_info(bundle).model_copy(update={"threshold": 0.6}))
    with pytest.raises(UserError, match=rf"{WEIGHTS}: .*not the one"):
        answer(bundle)


def test_a_checksum_is_the_hash_of_the_hashes_of_its_blocks(tmp_path: Path) -> None:
    """As docs/serving.md says it."""
    block, rng = 8 << 20, random.Random(0)
    contents = {"empty": b"", "short": b"x", "whole": rng.randbytes(block), "long": rng.randbytes(2 * block + 3)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = sums({name: tmp_path / name for name in contents})
    for name, content in contents.items():
        parts = [content[at : at + block] for at in range(0, max(len(content), 1), block)]
        hashes = b"".join(hashlib.sha256(part).digest() for part in parts)
        assert found[name].bytes == len(content)
        assert found[name].sha256_of_blocks == hashlib.sha256(hashes).hexdigest()


def test_the_checksums_name_every_file_that_is_read(bundle: Path) -> None:
    assert sorted(json.loads((bundle / CHECKSUMS).read_text())["files"]) == [
        "bundle.json",
        "calibration.json",
        "linear/ngrams.json",
        WEIGHTS,
    ]

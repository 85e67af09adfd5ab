from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tunewright.auth import keys
from tunewright.auth.keys import Allowances, KeyRing, add_key, read_keys, remove_key
from tunewright.cli.app import command_line
from tunewright.core.errors import UserError

app = command_line()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "keys.json"


def test_a_key_is_shown_once_and_only_its_hash_is_kept(file: Path) -> None:
    token = add_key(file, "shop", per_minute=60)
    assert token.startswith("tw-")
    assert len(token) > 40
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (kept,) = read_keys(file)
    assert (kept.name, kept.per_minute) == ("shop", 60)
    assert KeyRing(file).find(token) == kept.principal


def test_a_list_of_keys_tells_no_models_from_all_models(file: Path) -> None:
    for name, models in (("all", None), ("some", ["tickets", "mail"]), ("none", [])):
        add_key(file, name, models=models)
    shown = CliRunner().invoke(app, ["keys", "ls", "--file", str(file)]).stdout.splitlines()
    assert [line.partition("any number")[2] for line in shown] == ["", ", models tickets, mail", ", no models"]


def test_a_link_leads_to_the_file_with_the_new_key(file: Path, tmp_path: Path) -> None:
    add_key(file, "first")
    link = tmp_path / "keys.json"
    link.symlink_to(file)
    add_key(link, "second")
    assert link.is_symlink()
    assert [key.name for key in read_keys(file)] == ["first", "second"]


@pytest.mark.parametrize("token", ["", "tw-", "tw-wrong", "x" * 10_000, "tw-\x00"])
def test_an_unknown_key_finds_no_client(token: str, file: Path) -> None:
    add_key(file, "shop")
    assert KeyRing(file).find(token) is None


def test_added_and_removed_keys_count_at_once(file: Path) -> None:
    first = add_key(file, "first")
    ring = KeyRing(file)
    second = add_key(file, "second")
    assert ring.find(second)
    remove_key(file, "first")
    assert ring.find(first) is None
    assert ring.find(second)


def test_a_broken_file_leaves_the_keys_and_a_deleted_one_removes_them(file: Path) -> None:
    token = add_key(file, "shop")
    ring = KeyRing(file)
    file.write_text("{")
    assert ring.find(token)
    file.unlink()
    assert ring.find(token) is None


def test_a_file_that_cant_be_read_leaves_the_keys_and_the_log_says_so_once(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = add_key(file, "shop")
    ring = KeyRing(file)
    file.unlink()
    file.mkdir()  # nobody can read a folder as a file, not even an administrator
    assert ring.find(token)
    assert ring.find(token)
    said = capsys.readouterr().err
    assert said.count("The key file can't be read.") == said.count("The keys that were read before stay valid") == 1
    with pytest.raises(UserError, match=r"The key file can't be read\. Is a directory\. Give it to the user"):
        read_keys(file)
    file.rmdir()
    file.write_text('{"keys": []}')
    assert ring.find(token) is None


def test_a_file_that_becomes_readable_again_counts_though_it_looks_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = add_key(file, "first")
    ring = KeyRing(file)
    remove_key(file, "first")

    def denied(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", denied)
        assert ring.find(token)
    assert ring.find(token) is None


@pytest.mark.may_skip
@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator can give files away")
def test_a_change_by_an_administrator_leaves_the_file_to_its_owner(file: Path) -> None:
    add_key(file, "shop")
    os.chown(file, 54321, 54322)
    remove_key(file, "shop")
    assert (file.stat().st_uid, file.stat().st_gid, stat.S_IMODE(file.stat().st_mode)) == (54321, 54322, 0o600)


_ADD_TWENTY = """
import sys
from pathlib import Path
from tunewright.auth.keys import add_key

print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    add_key(Path(sys.argv[1]), f"{sys.argv[2]}-{number}")
"""


def test_two_who_add_keys_at_once_lose_none(file: Path) -> None:
    both = [
        subprocess.Popen(
            [sys.executable, "-c", _ADD_TWENTY, str(file), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    for each in both:
        assert each.stdout
        assert each.stdout.readline() == "ready\n"
    for each in both:
        assert each.stdin
        each.stdin.write("\n")
        each.stdin.flush()
    for each in both:
        each.communicate(timeout=60)
    assert [each.returncode for each in both] == [0, 0]
    assert len(read_keys(file)) == 40


def test_to_remove_a_key_makes_no_folder(file: Path) -> None:
    with pytest.raises(UserError, match="no such key file"):
        remove_key(file, "shop")
    assert not file.parent.exists()


def test_a_name_is_unique_and_well_formed(file: Path) -> None:
    token = add_key(file, "shop")
    with pytest.raises(UserError, match=r"a key 'shop' already.*tunewright keys rm shop"):
        add_key(file, "shop")
    with pytest.raises(UserError, match="can't be called 'a b'"):
        add_key(file, "a b")
    with pytest.raises(UserError, match="no key 'shopp'"):
        remove_key(file, "shopp")
    assert KeyRing(file).find(token)


@pytest.mark.parametrize("text", [None, "", "[]", '{"keys": [{"name": "x"}]}', "\xff"])
def test_a_file_that_holds_no_keys_is_refused(text: str | None, file: Path) -> None:
    file.parent.mkdir()
    if text is not None:
        file.write_text(text, "latin-1")
    with pytest.raises(UserError, match="key file"):
        KeyRing(file)


def test_a_write_that_fails_keeps_the_old_keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = add_key(file, "shop")
    monkeypatch.setattr(os, "fdopen", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        add_key(file, "other")
    monkeypatch.undo()
    assert [key.name for key in read_keys(file)] == ["shop"]
    assert KeyRing(file).find(token)
    assert add_key(file, "other")


def test_an_allowance_fills_up_evenly(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(keys.time, "monotonic", lambda: now[0])
    add_key(file, "shop", per_minute=30)
    ring, (key,) = Allowances(), [key.principal for key in read_keys(file)]
    assert [ring.wait(key) for _ in range(30)] == [0.0] * 30
    assert ring.wait(key) == pytest.approx(2.0)
    now[0] += 1
    assert ring.wait(key) == pytest.approx(1.0)
    now[0] += 1
    assert ring.wait(key) == 0.0
    now[0] += 3600
    assert [ring.wait(key) for _ in range(31)] == [0.0] * 30 + [pytest.approx(2.0)]


def test_a_key_without_a_limit_never_waits(file: Path) -> None:
    add_key(file, "shop")
    ring, (key,) = Allowances(), [key.principal for key in read_keys(file)]
    assert not any(ring.wait(key) for _ in range(10_000))

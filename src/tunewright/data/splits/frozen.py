"""A test that later versions of the data can only extend.

    frozen_test/1/version.json       the content of this version: a SHA-256 for each file and each example
    frozen_test/1/test/<part>.jsonl  the examples that it adds to each test part, whole, one a line
    frozen_test/1/kept.txt           traces of the rows that were for training then, and may never join the test
    frozen_test/2/...

A version is a folder that is written once, with the SHA-256 of the one before. So the hash of the last version pins all
of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from tunewright.core.artifacts import sha256_file, sha256_json, write_json
from tunewright.core.errors import UserError
from tunewright.data.chain import VERSION, Chain, file_hashes, new_version, versions_in
from tunewright.data.dataset import load_examples, save_examples
from tunewright.data.text import normal
from tunewright.tasks import Example
from tunewright.tasks.input_form import InputForm

KEPT = "kept.txt"
_FIX = (
    "Restore the folder as it was frozen (from version control, say). To begin another test, move all of it away; "
    "figures on the two can't be compared."
)
_CHAIN = Chain("the frozen test", _FIX)


@dataclass(frozen=True)
class FrozenVersion:
    """The content of `version.json`."""

    number: int
    previous: str | None
    """SHA-256 of the `version.json` of the version before."""
    group: str | None
    """The column that `data.group` named."""
    files: dict[str, str]
    """SHA-256 of each other file, by its path."""
    examples: dict[str, dict[str, str]]
    """For each part the ids of the added examples, each with the SHA-256 of its line."""
    input_form: InputForm | None = None
    """How inputs were read, also those of the traced rows; None in versions of Tunewright 0.1."""


@dataclass(frozen=True)
class Frozen:
    """All versions of a frozen test together."""

    parts: dict[str, list[Example]]
    kept: frozenset[str]
    """Traces (`trace`) of the rows that were for training when a version was frozen."""
    groups: frozenset[str | None]
    """The columns from which groups were read."""
    number: int = 0
    """Number of the last version."""
    sha256: str | None = None
    """SHA-256 of the last `version.json`, which pins all versions before it."""
    forms: frozenset[InputForm] = frozenset()
    """How inputs were read when the versions were frozen."""
    form: InputForm = field(default_factory=InputForm)
    """How inputs are read now."""

    @cached_property
    def examples(self) -> list[Example]:
        return [example for examples in self.parts.values() for example in examples]

    def as_read(self, form: InputForm) -> Frozen:
        """The same examples as a spec reads its data that was changed since."""
        parts = {name: list(map(form.of_example, examples)) for name, examples in self.parts.items()}
        return replace(self, parts=parts, form=form)

    def extended(
        self, additions: Mapping[str, Sequence[Example]], kept: Iterable[Example], group: str | None
    ) -> Frozen:
        """The next version, with more examples and more rows for training; `write_version` writes it.

        Ids are places in a file, which change with the data. So from the second version on they name the version too.
        """
        parts = dict(self.parts)
        for name, examples in additions.items():
            added = [_with_version(example, self.number + 1) for example in examples]
            parts[name] = [*parts.get(name, []), *added]
        traces = self.kept.union(map(trace, kept))
        return replace(
            self,
            parts=parts,
            kept=traces,
            groups=self.groups | {group},
            number=self.number + 1,
            forms=self.forms | {self.form},
        )


NOTHING = Frozen({}, frozenset(), frozenset())


def trace(example: Example) -> str:
    """64-bit hash in hexadecimal of a row's request. It does not depend on label, group or spacing."""
    return sha256_json(normal(example.request))[:16]


def digest(example: Example) -> str:
    """64-bit hash in hexadecimal of a row's content and its group. It does not depend on the row's place."""
    row = example.row()
    return sha256_json([row["messages"], row.get("tools"), row.get("weight"), example.meta.group or ""])[:16]


def write_version(folder: Path, before: Frozen, after: Frozen, group: str | None) -> Frozen:
    """Write the additions of `after` to `before` as the next version, whole or not at all.

    Args:
        group: the column that `data.group` names.
    """
    with new_version(folder, after.number) as partial:
        examples = {}
        for name, all_of_part in after.parts.items():
            added = all_of_part[len(before.parts.get(name, [])) :]
            if added:
                file = partial / "test" / f"{name}.jsonl"
                save_examples(file, added)
                examples[name] = dict(zip((example.meta.id for example in added), _line_hashes(file), strict=True))
        (partial / KEPT).write_text("".join(f"{each}\n" for each in sorted(after.kept - before.kept)), "utf-8")
        version = FrozenVersion(after.number, before.sha256, group, file_hashes(partial), examples, after.form)
        write_json(partial / VERSION, asdict(version))
        sha256 = sha256_file(partial / VERSION)
    return replace(after, sha256=sha256)


def read_frozen(folder: Path) -> Frozen:
    """Read a frozen test. Every file and example must be as it was frozen.

    Raises:
        UserError: there is no frozen test, or something in it was edited, removed or added by hand.
    """
    numbers = versions_in(folder)
    if not numbers:
        raise UserError(
            "There is no frozen test here.",
            where=folder,
            fix="Type: tunewright data freeze PROJECT  (or take data.frozen out of the spec).",
        )
    frozen = NOTHING
    for number in range(1, numbers[-1] + 1):
        version = _read_version(folder / str(number), number, frozen.sha256)
        parts = dict(frozen.parts)
        for name in version.examples:
            added = load_examples(folder / str(number) / "test" / f"{name}.jsonl")
            parts[name] = [*parts.get(name, []), *added]
        kept = frozen.kept.union((folder / str(number) / KEPT).read_text("utf-8").split())
        sha256 = sha256_file(folder / str(number) / VERSION)
        forms = frozen.forms | {version.input_form or InputForm()}
        frozen = Frozen(parts, kept, frozen.groups | {version.group}, number, sha256, forms)
    return frozen


def _read_version(folder: Path, number: int, previous: str | None) -> FrozenVersion:
    version = _CHAIN.read(folder, FrozenVersion)
    _CHAIN.require_link(folder, (version.number, version.previous), number, previous)
    for name, listed in version.examples.items():
        _compare_lines(folder / "test" / f"{name}.jsonl", listed)
    _CHAIN.require_files(folder, version.files)
    return version


def _compare_lines(file: Path, listed: Mapping[str, str]) -> None:
    """Refuse a file with an example edited or removed, or with a line added, and name it."""
    hashes = _line_hashes(file) if file.exists() else []
    gone = [name for name, sha256 in listed.items() if sha256 not in set(hashes)]
    if gone:
        more = f" (and {len(gone) - 1} more)" if len(gone) > 1 else ""
        raise UserError(f"The frozen example {gone[0]}{more} was edited or removed.", where=file, fix=_FIX)
    known = set(listed.values())
    added = [number for number, sha256 in enumerate(hashes, 1) if sha256 not in known]
    if added:
        raise UserError("This line was put into the frozen test by hand.", where=f"{file}:{added[0]}", fix=_FIX)


def _line_hashes(file: Path) -> list[str]:
    with file.open("rb") as stream:
        return [hashlib.sha256(line).hexdigest() for line in stream]


def _with_version(example: Example, number: int) -> Example:
    if number == 1:
        return example
    meta = example.meta.model_copy(update={"id": f"{example.meta.id}-v{number}"})
    return example.model_copy(update={"meta": meta})

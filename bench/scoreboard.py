"""The scoreboard: what each model reaches on public sets, how fast, and for how much, beside published figures.

    python bench/scoreboard.py row banking77 all-minilm [--seed 0]   # one row, from the raw files to its figures
    python bench/scoreboard.py rows [--seed 0]                       # every row that is missing, the cheapest first
    python bench/scoreboard.py list                                  # which rows there are, and which are missing
    python bench/scoreboard.py page                                  # docs/scoreboard.md and docs/scoreboard.svg

A set is a YAML file in bench/sets, a model is one of the catalogue. The rows are in bench/scoreboard.json. A row is
left as it is while the spec and the data are the same, and the machine did nothing else while it was measured; its
commit tells the code. `--again` measures it anew. A row that was killed goes on from its own steps in
bench/runs/scoreboard; how long they took is then not known, and stays empty.
bench/data_sets.py says where the data lie, or where --data or TUNEWRIGHT_DATA says.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from scoreboard_page import page, picture
from scoreboard_row import RUNS, hashes, key_of, measure
from scoreboard_sets import MODELS, DataSet, find_set, letters, load_sets, parts_of, spec_of

from tunewright.core.artifacts import write_json
from tunewright.core.errors import EXIT_INTERRUPTED, EXIT_USER, UserError, did_you_mean

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "scoreboard.json"
DOCS = ROOT / "docs"


def results() -> dict[str, dict[str, Any]]:
    """The rows by their keys."""
    return dict(json.loads(RESULTS.read_text("utf-8"))) if RESULTS.exists() else {}


def keep(key: str, row: dict[str, Any]) -> None:
    """Put a row into the file of results."""
    RUNS.mkdir(parents=True, exist_ok=True)
    with FileLock(RUNS / ".lock"):
        write_json(RESULTS, dict(sorted((results() | {key: row}).items())))


def hashes_now(one: DataSet, model: str, seed: int, data: Path) -> dict[str, str]:
    parts = parts_of(one, data)
    return hashes(one, spec_of(one, model, seed, parts["train"]), parts)


def state(one: DataSet, model: str, seed: int, data: Path) -> str:
    """Why a row has to be measured; empty where it is there and up to date."""
    row = results().get(key_of(one, model, seed))
    if row is None:
        return "missing"
    now = hashes_now(one, model, seed, data)
    if changed := [part for part, value in now.items() if row["hashes"].get(part) != value]:
        return f"other {' and '.join(changed)}"
    return "" if "reason" in row or row["quiet"] else "measured beside other work"


def run_row(name: str, model: str, seed: int, data: Path, *, again: bool) -> None:
    one = find_set(name)
    if model not in MODELS:
        raise UserError(
            f"There is no model '{model}'.", fix=did_you_mean(model, MODELS, f"Known: {', '.join(MODELS)}.")
        )
    why = state(one, model, seed, data)
    if not why and not again:
        print(f"{key_of(one, model, seed)}: it is there already; --again measures it anew.")
        return
    # Steps whose times mean nothing would be reused.
    there = results().get(key_of(one, model, seed), {})
    doubtful = not there.get("quiet", True) or bool(there.get("resumed"))
    row = measure(one, model, seed, data, again=again or doubtful)
    keep(key_of(one, model, seed), row)
    print(summary(row))


def run_rows(seed: int, data: Path, *, again: bool) -> None:
    """Every row that has to be measured, each in a process of its own; one that fails does not stop the others.

    Raises:
        UserError: some failed; they stay missing.
    """
    failed = []
    for one, model in in_order(load_sets().values(), data):
        key = key_of(one, model, seed)
        if not (why := state(one, model, seed, data)) and not again:
            continue
        print(f"== {key} ({why or 'again'})", flush=True)
        command = [sys.executable, __file__, "row", one.name, model, "--seed", str(seed), "--data", str(data)]
        done = subprocess.run([*command, *(["--again"] if again else [])], check=False)
        if done.returncode in (EXIT_INTERRUPTED, -signal.SIGINT, -signal.SIGTERM):
            raise KeyboardInterrupt
        if done.returncode:
            failed.append(f"{key} (exit code {done.returncode})")
    if failed:
        raise UserError(
            f"Not measured: {', '.join(failed)}.", fix="The messages above say why. Type the command again."
        )


def in_order(sets: Collection[DataSet], data: Path) -> Iterator[tuple[DataSet, str]]:
    """Sets and models, the cheapest first: by model, then by letters of the training part."""
    sizes = {one.name: letters(parts_of(one, data)["train"]) for one in sets}
    for model in MODELS:
        for one in sorted(sets, key=lambda each: sizes[each.name]):
            yield one, model


def summary(row: dict[str, Any]) -> str:
    """A row in a line."""
    key = f"{row['set']}/{row['model']}/{row['seed']}"
    if "reason" in row:
        return f"{key}: {row['reason']}"
    test = row["tests"][row["first"]]
    figure = f"{row['metric']} {test['value']:.1f} ({test['low']:.1f} to {test['high']:.1f}) of {test['n']:,}"
    times = f"trained in {row['training_minutes']:.1f} min, run {row['run_minutes']:.1f}"
    speed = f"P50 {row['p50_ms']:.1f} ms, P95 {row['p95_ms']:.1f}, {row['answers_per_second']:,.1f} answers/s"
    doubt = "" if row["quiet"] else "; measured beside other work, so times and dollars mean nothing"
    return f"{key}: {figure}; {times}; {speed}; ${row['usd_per_million']:.3f} a million{doubt}"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("row", "rows", "list", "page"))
    parser.add_argument("names", nargs="*", metavar="SET MODEL", help="of a row")
    parser.add_argument("--seed", type=int, default=0)
    usual = Path(os.environ.get("TUNEWRIGHT_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=usual, help="the folder of all data")
    parser.add_argument("--again", action="store_true", help="measure anew what is there")
    given = parser.parse_args(arguments)
    if len(given.names) != (2 if given.command == "row" else 0):
        parser.error("row takes a set and a model, the others none")
    match given.command:
        case "row":
            run_row(*given.names, given.seed, given.data, again=given.again)
        case "rows":
            run_rows(given.seed, given.data, again=given.again)
        case "list":
            for one, model in in_order(load_sets().values(), given.data):
                key = key_of(one, model, given.seed)
                there = summary(results()[key]) if key in results() else key
                why = state(one, model, given.seed, given.data)
                print(f"{there}{f' ({why})' if why else ''}", flush=True)
        case _:
            sets, rows = load_sets(), results()
            (DOCS / "scoreboard.md").write_text(page(sets, rows), "utf-8")
            (DOCS / "scoreboard.svg").write_text(picture(sets, rows), "utf-8")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(error.paragraph(), file=sys.stderr)
        sys.exit(EXIT_USER)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)

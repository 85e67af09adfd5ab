"""docs/scoreboard.md and its picture, made of the sets and the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scoreboard_plot import drawn
from scoreboard_row import BATCH_SECONDS, LEAST_LINES, MACHINE, MOST_LINES
from scoreboard_sets import METRICS, MODELS, MOST_LETTERS, PASSES, VALIDATION, DataSet

Rows = Mapping[str, Mapping[str, Any]]
TITLES = {"classify": "Labels", "extract": "Records", "generate": "Texts"}
NONE = "–"


def picture(sets: Mapping[str, DataSet], rows: Rows) -> str:
    return drawn(sets, rows)


BEGINNING = """# Scoreboard

After reading this page you know what the smallest models reach on {sets} public sets, how fast, and for how much,
beside what others published.

`python bench/scoreboard.py page` writes this page and its picture; don't edit them. To measure one row, type
`python bench/scoreboard.py row SET MODEL`; `… rows` measures every row that is missing. The figures are in
`bench/scoreboard.json`, the sets in `bench/sets`.

![The primary metric over dollars a million answers, set by set](scoreboard.svg)
"""
RULES = """
## How it is measured

- **Settings** are fixed for all sets beforehand: the package's defaults, with these exceptions. The validation part
  is {held} of the training part in place of 10 %, because published models learn from all of it. A language model
  trains for {passes:g} epochs, the default, or for fewer if that would be more than {letters:,} letters of texts
  and answers in all: about half an hour on two cores. A row with fewer epochs says so, and so does a set whose
  texts are longer than the default allows. The untuned model is not asked. Other settings reach more on some sets
  ([experiments](experiments.md)).
- **Tests**: the served bundle, quantised and over HTTP, answers the test once a row, after training. We choose
  settings on rows that are held out of training parts, but earlier recipes were measured on some of these tests
  before ([encoders](encoders.md#what-it-reaches)). Intervals are of 95 % ([experiments](experiments.md#intervals)).
  One seed says little about differences of half a point.
- **Training** is the step `train`, **run** every step from the raw files to the verdict. **P50 and P95** are of one
  request at a time over HTTP, on the same machine.
- **Answers a second** are those of a batch on all cores (`tunewright batch`), the start of its workers included. It
  has as many lines as would take {seconds} seconds one at a time, at least {least} and at most {most:,}.
- **$ a million** = $ an hour of {machine} / (3,600 x answers a second) x 1,000,000: the price of a machine of two
  cores that is kept busy. We measured the rate on another machine, which is named below. A machine that waits for
  requests costs more for each answer ([economics](economics.md)).
- **The API's price** is estimated from letters: the instruction with all labels or fields listed, the text, and the
  bare answer, four letters a token. It leaves out thinking and discounts for repeated prompts. Its accuracy was not
  measured here ([baseline](baseline.md)).
- **Published figures** stand beside ours with their source and the day on which we read them, in stored copies of
  these pages. If test or metric differs, the last column says how; then a difference proves nothing."""


def page(sets: Mapping[str, DataSet], rows: Rows) -> str:
    """The page, in Markdown."""
    lines = [BEGINNING.format(sets=len(sets)), *_overview(sets, rows), *_rules(rows)]
    for task, title in TITLES.items():
        lines += ["", f"## {title}", "", f"The figure is {METRICS[task]} in percent ([tasks](tasks.md))."]
        for one in sets.values():
            if one.task == task:
                lines += ["", *_set(one, rows)]
    return "\n".join(lines) + "\n"


def _overview(sets: Mapping[str, DataSet], rows: Rows) -> Iterator[str]:
    yield "| set | metric | " + " | ".join(MODELS) + " | best published, same test and metric |"
    yield "|---|---|" + "---|" * (len(MODELS) + 1)
    for one in sets.values():
        cells = [_short(rows.get(f"{one.name}/{model}/0")) for model in MODELS]
        same = sorted((each for each in one.published if each.same), key=lambda each: -each.value)
        best = f"{same[0].value:g}, {same[0].model}" if same else NONE
        yield f"| [{one.title}](#{_anchor(one.title)}) | {METRICS[one.task]} | {' | '.join(cells)} | {best} |"


def _rules(rows: Rows) -> Iterator[str]:
    yield RULES.format(
        held=f"{100 * VALIDATION:g} %",
        passes=PASSES,
        letters=MOST_LETTERS,
        seconds=BATCH_SECONDS,
        least=LEAST_LINES,
        most=MOST_LINES,
        machine=MACHINE,
    )
    machines = _machines(rows)
    if len(machines) == 1:
        yield f"- **Measured on** {machines[0]}."
    elif machines:
        named = "; ".join(f"({number}) {each}" for number, each in enumerate(machines, 1))
        yield f"- **Measured on** {named}. A row says on which. Don't compare times of different machines."
    if any("quiet" in row and not row["quiet"] for row in rows.values()):
        yield f"- Where times are {NONE}, the machine did other work as well. That does not change the other figures."


def _set(one: DataSet, rows: Rows) -> Iterator[str]:
    yield f"### {one.title}"
    yield ""
    commit = f", commit `{one.commit[:12]}`" if one.commit else ""
    longer = f" `train.max_length` is {one.max_length:,}." if one.max_length else ""
    yield f"{one.source}{commit}; {one.licence}. Split: {one.split}.{longer}"
    yield ""
    measured = [row for row in rows.values() if row["set"] == one.name]
    measured.sort(key=lambda row: (MODELS.index(row["model"]), row["seed"]))
    missing = [model for model in MODELS if not any(row["model"] == model for row in measured)]
    yield "| model | % | of | training, min | run, min | P50, P95 ms | answers/s | $ a million | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in measured:
        yield from _row(row, _machines(rows))
    for model in missing:
        yield f"| {model} | not measured yet | | | | | | | |"
    yield from _baselines(measured)
    yield ""
    yield from _others(measured)
    yield from _published(one)


def _row(row: Mapping[str, Any], machines: Sequence[str]) -> Iterator[str]:
    name = row["model"] + (f", seed {row['seed']}" if row["seed"] else "")
    if "reason" in row:
        yield f"| {name} | left out | | | | | | | {_cell(row['reason'])} |"
        return
    quiet = row["quiet"]
    test = row["tests"][row["first"]]
    training = NONE if "train" in row["resumed"] else f"{row['training_minutes']:.1f}"
    run = NONE if row["resumed"] else f"{row['run_minutes']:.1f}"
    times = [
        training,
        run,
        f"{row['p50_ms']:.1f}, {row['p95_ms']:.1f}",
        f"{row['answers_per_second']:,.1f}",
        f"{row['usd_per_million']:,.3f}",
    ]
    fewer = f", {row['epochs']:g} epochs" if row.get("epochs") else ""
    changed = " with changes" if row["changed"] else ""
    code = f", `{row['commit'][:8]}`{changed}" if row["commit"] else ""
    again = "; went on after a kill" if row["resumed"] else ""
    where = f", machine {machines.index(_machine(row)) + 1}" if len(machines) > 1 else ""
    notes = f"{row['runtime']} {row['precision']}{fewer}; {row['date']}{where}{code}{again}"
    yield f"| {name} | {_percent(test)} | {test['n']:,} | {' | '.join(times if quiet else [NONE] * 5)} | {notes} |"


def _baselines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What costs next to nothing and was measured beside a model, where no row of the table is the same."""
    names = {"svm": "baseline: linear SVM", "nearest": "baseline: nearest example", "patterns": "baseline: patterns"}
    found = next((row["baselines"] for row in rows if "baselines" in row), {})
    of_linear = any(row["model"] == "linear" and "reason" not in row for row in rows)
    for key, test in found.items():
        if not (key == "svm" and of_linear):
            yield f"| {names.get(key, key)} | {_percent(test)} | | | | | | | |"


def _others(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Other metrics and tests, a line a model."""
    for row in rows:
        if "reason" in row:
            continue
        parts = []
        for name, test in row["tests"].items():
            if name != row["first"]:
                parts.append(f"{name} {_percent(test)} of {test['n']}")
        parts += [f"{name} {_percent(each)}" for name, each in row["tests"][row["first"]]["others"].items()]
        parts += [f"{name} {_percent(each)}" for name, each in row.get("apart", {}).items()]
        yield f"- {row['model']}{', seed ' + str(row['seed']) if row['seed'] else ''}: {'; '.join(parts)}."
    api = next((row["api"] for row in rows if "api" in row), None)
    if api:
        yield (
            f"- A million of these requests at {api['model']}, not measured: ${api['usd_per_million']:,.0f} "
            f"({api['prompt_tokens']:,} and {api['answer_tokens']:g} tokens each, prices of {api['prices_of']})."
        )
    if any("reason" not in row for row in rows):
        yield ""


def _published(one: DataSet) -> Iterator[str]:
    if one.published:
        yield "| published | group | % | metric | source | read | differs in |"
        yield "|---|---|---|---|---|---|---|"
        for each in sorted(one.published, key=lambda each: (each.group, -each.value)):
            note = (
                _cell(each.note)
                if each.same is False
                else f"nothing known{'. ' + _cell(each.note) if each.note else ''}"
            )
            source = _cell(each.source)
            yield f"| {each.model} | {each.group} | {each.value:g} | {each.metric} | {source} | {each.read} | {note} |"
        yield ""
    if one.missing:
        yield f"Looked for and not found: {one.missing[0].lower()}{one.missing[1:]}"


def _short(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "not yet"
    return NONE if "reason" in row else _percent(row["tests"][row["first"]])


def _percent(test: Mapping[str, float]) -> str:
    return f"{test['value']:.1f} ({test['low']:.1f} to {test['high']:.1f})"


def _machines(rows: Rows) -> list[str]:
    """Those that rows were measured on, each once."""
    return list(dict.fromkeys(_machine(row) for row in rows.values() if "machine" in row))


def _machine(row: Mapping[str, Any]) -> str:
    found = row["machine"]
    return f"{found['processor']}, {found['cores']} cores, {'with' if found['bfloat16'] else 'without'} bfloat16"


def _anchor(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return "".join(sign for sign in title.lower().replace(" ", "-") if sign.isalnum() or sign in "-_")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

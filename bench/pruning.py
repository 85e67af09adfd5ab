"""How much of an API's prompt a tuned model does without: the shipped tickets, as a program would send them to an API.

    python bench/pruning.py [seed]

The system prompt is the one of the example's API, which explains the teams, and each ticket stands in a message with
fixed text around it. Two fifths of the training rows are the validation part, and each is a group of its own, so that
a loss of three points can be ruled out. Outputs stay in bench/runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from quality import RUNS

import tunewright as tw
from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.core.progress import quiet_libraries
from tunewright.pruning.words import sentence

TICKETS = Path(__file__).parents[1] / "examples" / "tickets"
AROUND = (
    'Here is the next ticket.\n\n"""\n{text}\n"""\n\nWhich team has to deal with it? Give its name and nothing else.'
)


def project(folder: Path) -> Path:
    """The tickets as a program sends them."""
    spec = tw.load_spec(TICKETS)
    assert spec.api.prompt
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"text": AROUND.replace("{text}", row["text"]), "label": row["label"]}
        for row in read_jsonl(TICKETS / "data" / "train.jsonl")
    ]
    write_jsonl(folder / "train.jsonl", rows)
    task = spec.task.model_dump(mode="json") | {"instruction": spec.api.prompt}
    data = {"train": "train.jsonl", "validation_fraction": 0.4}
    train = spec.train.model_dump(mode="json", exclude={"encoder", "init_adapter"})
    made = {"name": "tickets", "model": "smollm2-135m", "task": task, "data": data, "train": train}
    (folder / "tunewright.yaml").write_text(json.dumps(made | {"goal": {"margin": 0.03}}, indent=1), "utf-8")
    return folder


def main(seed: int) -> None:
    quiet_libraries()
    found = tw.prune(tw.load_spec(project(RUNS / "pruning"), [f"seed={seed}"]))
    for each in found.trials:
        print(
            f"{each.name:12} {each.prompt_tokens:6.1f} tokens  {each.median_ms:6.1f} ms  "
            f"{100 * each.primary_metric:5.1f} %  {100 * each.difference:+5.1f} points "
            f"({100 * each.low:+.1f} to {100 * each.high:+.1f})  {each.outcome}"
        )
    print(sentence(found))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)

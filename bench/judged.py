"""How many bad rows a judge of known quality removes, and how many good ones it costs: python bench/judged.py

The data are 1,000 rows of Bitext's training part (bench/data_sets.py). 15 % of their answers are made bad: half of
these get the answer to a request of another intent, half are cut at 20 to 70 % of their letters. A server on this
machine plays the judge behind the real client, with faults (1 % of requests get 429, 0.5 % get 500). A judge of
quality q puts an answer on its right side of the mark 3 with the probability q; two further judges have a systematic
fault. The same question always gets the same mark. People's marks are of 93 rows drawn at random, and stand on their
right side of the mark with the probability 0.95. Everything else is `tunewright data judge` itself.

"Found" is the share of the bad rows that are left out ("swapped" and "cut": of those), "lost" that of the good ones,
"bad of left out" the share of bad rows among those left out, and "after" that among those that stay. "Missed by people"
and "lost by people" are what the command says from people's marks. With several seeds, the figures are means over them:
python bench/judged.py 0 1 2
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean
from threading import Thread
from typing import Any

from data_sets import DATA

from tunewright import load_spec
from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.core.errors import UserError
from tunewright.evaluation.marks.agreement import enough
from tunewright.evaluation.marks.filtering import JudgedData, leave_out

ROWS, BAD, PEOPLE = 1000, 0.15, 0.95
BUSY, BROKEN = 0.01, 0.005
SPEC = """\
name: replies
task: {{kind: generate, instruction: Answer this customer.}}
data: {{train: train.jsonl, test: {{held_out: train.jsonl}}}}
judge: {{model: played, priced_as: gpt-6-luna, url: "{url}", key: null, human_marks: people.jsonl}}
"""
Judge = Callable[[str, str], int]
"""From request and answer to a mark."""


def drawn(*words: str) -> float:
    """A number from 0 to 1 that depends on nothing but the words."""
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8]) / 2**64


def spoilt(seed: int) -> tuple[list[dict[str, Any]], dict[tuple[str, str], str]]:
    """The rows, and what is wrong with each bad one, by request and answer."""
    draw = random.Random(seed)
    rows = draw.sample(read_jsonl(DATA / "bitext_support" / "train.jsonl"), ROWS)
    labelled, wrong = [(row["label"], row["answer"]) for row in rows], dict[tuple[str, str], str]()
    for number, index in enumerate(draw.sample(range(ROWS), round(BAD * ROWS))):
        row = rows[index]
        if number % 2:
            fault, answer = "swapped", draw.choice([each for label, each in labelled if label != row["label"]])
        else:
            fault, answer = "cut", row["answer"][: int(draw.uniform(0.2, 0.7) * len(row["answer"]))].strip()
        rows[index] = {**row, "answer": answer}
        wrong[row["text"], answer] = fault
    return [{"text": row["text"], "label": row["answer"]} for row in rows], wrong


def side(right: bool, bad: bool, draw: float) -> int:
    """A mark on one side of 3: below it where a bad answer is seen rightly, or a good one wrongly."""
    return 1 + int(2 * draw) if right == bad else 3 + int(3 * draw**0.5)


def judges(wrong: dict[tuple[str, str], str], lengths: list[int], seed: int) -> dict[str, Judge]:
    def of_quality(quality: float, blind: str = "") -> Judge:
        def mark(request: str, answer: str) -> int:
            fault = wrong.get((request, answer), "")
            words = (str(seed), request, answer)
            right = drawn("right", *words) < quality
            return side(right, bool(fault) and fault != blind, drawn("mark", *words))

        return mark

    def long(_: str, answer: str) -> int:
        return 1 + min(4, int(5 * sum(each < len(answer) for each in lengths) / len(lengths)))

    named = {f"{quality:.0%}": of_quality(quality) for quality in (0.98, 0.95, 0.9, 0.8, 0.7, 0.5)}
    return {**named, "95 %, blind to cut answers": of_quality(0.95, "cut"), "marks by length": long}


@contextmanager
def served(judge: Judge) -> Iterator[str]:
    """The address of an API whose model marks so."""
    chance = random.Random(0)

    class Played(BaseHTTPRequestHandler):
        protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            fault = chance.random()
            status = 429 if fault < BUSY else 500 if fault < BUSY + BROKEN else 200
            material = json.loads(body["messages"][-1]["content"])
            message = {"role": "assistant", "content": str(judge(material["request"], material["answer"]))}
            sent = sum(len(each["content"]) for each in body["messages"])
            reply = {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {"prompt_tokens": sent // 4, "completion_tokens": 1, "total_tokens": sent // 4 + 1},
            }
            data = json.dumps(reply if status == 200 else {"error": {"message": "played"}}).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Played)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def filtered(
    judge: Judge, rows: list[dict[str, Any]], people: list[dict[str, Any]]
) -> tuple[JudgedData, str, set[int]]:
    """(what the command says, why it refuses, the rows that it leaves out)"""
    with tempfile.TemporaryDirectory() as name, served(judge) as url:
        folder, refused = Path(name), ""
        write_jsonl(folder / "train.jsonl", rows)
        write_jsonl(folder / "people.jsonl", people)
        (folder / "tunewright.yaml").write_text(SPEC.format(url=url), "utf-8")
        spec = load_spec(folder)
        try:
            found, refusal = leave_out(spec, folder / "runs", folder / "judged")
        except UserError as error:
            refused, (found, refusal) = error.what, leave_out(spec, folder / "runs", folder / "judged", unproven=True)
        marks = read_jsonl(folder / "judged" / "marks.jsonl")
        left_out = {index for index, row in enumerate(marks) if row["left_out"]}
        return found, refused or (refusal.what if refusal else ""), left_out


def figures(judge: Judge, seed: int, rows: list[dict[str, Any]], wrong: dict[tuple[str, str], str]) -> dict[str, Any]:
    draw = random.Random(f"people {seed}")
    people = []
    for row in draw.sample(rows, enough(0.1)):
        bad = (row["text"], row["label"]) in wrong
        mark = side(draw.random() < PEOPLE, bad, draw.random())
        people.append({"text": row["text"], "answer": row["label"], "mark": mark})
    found, refused, left_out = filtered(judge, rows, people)
    faults = [wrong.get((row["text"], row["label"])) for row in rows]
    bad = {index for index, fault in enumerate(faults) if fault}
    agreed = found.agreement
    assert agreed and agreed.missed and agreed.lost

    def share(among: set[int]) -> float:
        return len(left_out & among) / len(among)

    return {
        "left out": len(left_out) / len(rows),
        "found": share(bad),
        "swapped": share({index for index, fault in enumerate(faults) if fault == "swapped"}),
        "cut": share({index for index, fault in enumerate(faults) if fault == "cut"}),
        "lost": share(set(range(len(rows))) - bad),
        "bad of left out": len(left_out & bad) / len(left_out),
        "after": len(bad - left_out) / (len(rows) - len(left_out)),
        "missed by people": agreed.missed.value,
        "lost by people": agreed.lost.value,
        "kappa": agreed.kappa.value,
        "refused": refused,
        "told": found.told,
    }


def main() -> None:
    seeds = [int(each) for each in sys.argv[1:]] or [0]
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in seeds:
        rows, wrong = spoilt(seed)
        lengths = [len(row["label"]) for row in rows]
        for name, judge in judges(wrong, lengths, seed).items():
            results.setdefault(name, []).append(figures(judge, seed, rows, wrong))
    print(f"{ROWS:,} rows, {BAD:.0%} of them bad; seeds {seeds}\n")
    shown = ("left out", "found", "swapped", "cut", "lost", "bad of left out", "after", "missed by people")
    shown += ("lost by people",)
    print(
        f"| judge | {' | '.join(f'{each}, %' for each in shown)} | kappa | refused |\n|---|{'---|' * (len(shown) + 2)}"
    )
    for name, each in results.items():
        cells = [f"{100 * fmean(one[key] for one in each):.1f}" for key in shown]
        refused = sum(bool(one["refused"]) for one in each)
        print(
            f"| {name} | {' | '.join(cells)} | {fmean(one['kappa'] for one in each):.2f} | {refused} of {len(each)} |"
        )
    for name, each in results.items():
        print(f"\n{name}: {each[0]['refused']}", *each[0]["told"], sep="\n  ")


if __name__ == "__main__":
    main()

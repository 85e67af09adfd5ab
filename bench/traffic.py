"""How well jobs are found in mixed traffic, and how fast.

    python bench/traffic.py [REQUESTS]         # 100,000 by default

Sixteen jobs are made of the public data sets: prompts with and without system messages, with variables in all places,
shared preambles, two versions of one prompt, passages that were looked up, few-shot examples, tools and schemas; and
three percent of requests that belong to none. Found jobs are held against the true ones by the adjusted Rand index.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from data_sets import root
from sklearn.metrics import adjusted_rand_score

from tunewright.gateway.jobs.prompts import read_prompt
from tunewright.traffic.grouping import JobFinder

SEED = 0
NAMES = [
    "Ada Lovelace",
    "Ben Okri",
    "Carla Diaz",
    "Dmitri Orlov",
    "Eve Nkosi",
    "Farid Aziz",
    "Greta Holm",
    "Hugo Weiss",
]
COMPANIES = ["Contoso Ltd", "Fabrikam", "Northwind Traders", "Adventure Works"]
PREAMBLE = (
    "You are the assistant of Contoso's customer service. Contoso sells household goods in eleven countries. Be "
    "polite, never promise refunds, never name other companies, and follow the house style: short sentences, no jargon."
)
Request = tuple[str, dict[str, Any]]
"""(kind, body)."""


def chat(*messages: tuple[str, str], **more: Any) -> Request:
    listed = [{"role": role, "content": text} for role, text in messages]
    return "chat", {"model": "gpt-6-luna", "messages": listed, **more}


def schema(name: str, *keys: str) -> dict[str, Any]:
    properties = {key: {"type": "string"} for key in keys}
    inner = {"name": name, "schema": {"type": "object", "properties": properties}}
    return {"type": "json_schema", "json_schema": inner}


def rows(name: str) -> list[dict[str, Any]]:
    lines = (root() / name / "train.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


class Jobs:
    """The jobs: each makes a request of a text and a source of chance."""

    def __init__(self) -> None:
        self.texts = {
            name: [row["text"] for row in rows(name)]
            for name in (
                "banking77",
                "clinc150_oos",
                "snips",
                "sroie_receipts",
                "bitext_support",
                "car_rental_comments",
                "pkg_usaddress",
                "presidio_pii",
            )
        }
        self.labels = sorted({row["label"] for row in rows("banking77")})
        self.passages = [" ".join(self.texts["bitext_support"][start : start + 8]) for start in range(0, 320, 8)]

    def all(self) -> dict[str, tuple[str, Callable[[str, random.Random], Request]]]:
        """(data set, maker) by the job's name."""
        return {
            "banking intents": ("banking77", self.banking),
            "assistant intents": ("clinc150_oos", self.intents),
            "slots": ("snips", self.slots),
            "receipts": ("sroie_receipts", self.receipts),
            "tickets of a company": ("bitext_support", self.routed),
            "drafts": ("bitext_support", self.drafts),
            "categories": ("bitext_support", self.categories),
            "addresses": ("pkg_usaddress", self.addresses),
            "comments": ("car_rental_comments", self.comments),
            "without names": ("presidio_pii", self.without_names),
            "in scope": ("clinc150_oos", self.in_scope),
            "to French": ("clinc150_oos", self.to_french),
            "to German": ("clinc150_oos", self.to_german),
            "from passages": ("banking77", self.from_passages),
            "urgency, two versions": ("banking77", self.urgency),
            "vectors": ("banking77", lambda text, _: ("embeddings", {"model": "e", "input": text})),
        }

    def banking(self, text: str, _: random.Random) -> Request:
        asked = "Classify the customer's message. Answer with one of: " + ", ".join(self.labels)
        return chat(("system", asked), ("user", text))

    def intents(self, text: str, _: random.Random) -> Request:
        return chat(("user", f'Which intent has this request to a voice assistant?\n\nRequest: "{text}"\nIntent:'))

    def slots(self, text: str, _: random.Random) -> Request:
        return chat(("system", "Fill the slots."), ("user", text), response_format=schema("slots", "artist", "city"))

    def receipts(self, text: str, _: random.Random) -> Request:
        tool = {"type": "function", "function": {"name": "save_receipt", "parameters": {"type": "object"}}}
        return chat(("user", f"Save this receipt.\n---\n{text}\n---"), tools=[tool])

    def routed(self, text: str, chance: random.Random) -> Request:
        day = f"{chance.randint(1, 28)} November 2026"
        system = (
            f"You route tickets of {chance.choice(COMPANIES)}. Today is {day}. The agent on duty is "
            f"{chance.choice(NAMES)}. Answer with the queue only: billing, delivery, account, or other."
        )
        return chat(("developer", system), ("user", f"Ticket {chance.randint(1000, 99999)}: {text}"))

    def drafts(self, text: str, chance: random.Random) -> Request:
        task = f"Draft a reply to {chance.choice(NAMES)}, in at most three sentences, and sign it with the team's name."
        return chat(("system", f"{PREAMBLE}\n\n{task}"), ("user", text))

    def categories(self, text: str, _: random.Random) -> Request:
        task = "Say which product category the message below is about, with one word and nothing else."
        return chat(("system", f"{PREAMBLE}\n\n{task}"), ("user", text))

    def addresses(self, text: str, _: random.Random) -> Request:
        shots = [("user", "12 Main St, Springfield, IL 62701"), ("assistant", '{"street": "Main St", "number": "12"}')]
        return chat(("system", "Parse the address."), *shots, ("user", text), response_format={"type": "json_object"})

    def comments(self, text: str, _: random.Random) -> Request:
        prompt = f"Comment of a customer: {text}\n\nIs the customer satisfied? Answer yes or no.\nAnswer:"
        return "completions", {"model": "gpt-6-luna", "prompt": prompt}

    def without_names(self, text: str, _: random.Random) -> Request:
        return chat(("user", f"Rewrite the text without personal data, and change nothing else.\n\n{text}"))

    def in_scope(self, text: str, _: random.Random) -> Request:
        return "responses", {
            "model": "gpt-6-luna",
            "instructions": "Can our assistant do this? yes or no",
            "input": text,
        }

    def to_french(self, text: str, _: random.Random) -> Request:
        return chat(("user", f"Translate to French: {text}"))

    def to_german(self, text: str, _: random.Random) -> Request:
        return chat(("user", f"Translate to German: {text}"))

    def from_passages(self, text: str, chance: random.Random) -> Request:
        looked_up = "\n\n".join(chance.sample(self.passages, 3))
        asked = "Answer the question from the passages only. If they don't tell, say so."
        return chat(("system", asked), ("user", f"Passages:\n{looked_up}\n\nQuestion: {text}"))

    def urgency(self, text: str, chance: random.Random) -> Request:
        system = "Judge how urgent the customer's message is. Answer with low, medium or high and no other word."
        if chance.random() < 0.5:  # the second half of the month
            system += " Lost cards and fraud are always high."
        return chat(("system", system), ("user", text))


def traffic(count: int, seed: int = SEED) -> Iterator[tuple[str, Request]]:
    """(the true job's name, request), in random order."""
    jobs, chance = Jobs(), random.Random(seed)
    made = jobs.all()
    names = list(made)
    weights = [1 / (1 + 0.25 * place) for place in range(len(names))]
    everything = [text for texts in jobs.texts.values() for text in texts]
    for _ in range(count):
        if chance.random() < 0.03:
            yield "none", chat(("user", " ".join(chance.sample(everything, chance.randint(1, 3)))))
            continue
        name = chance.choices(names, weights)[0]
        source, make = made[name]
        yield name, make(chance.choice(jobs.texts[source]), chance)


def main(count: int) -> None:
    mixed = [(name, kind, json.dumps(body)) for name, (kind, body) in traffic(count)]
    started = time.perf_counter()
    finder = JobFinder()
    finder.add(read_prompt(kind, json.loads(body)) for _, kind, body in mixed)
    found_at = time.perf_counter()
    finder.find()
    split_at = time.perf_counter()
    found = [finder.job_of(read_prompt(kind, json.loads(body))) for _, kind, body in mixed]
    ended = time.perf_counter()
    true = [name for name, _, _ in mixed]
    index = adjusted_rand_score(true, [-1 if job is None else job for job in found])
    print(f"{len(set(true)) - 1} jobs, {count:,} requests: {len(finder.jobs)} found, adjusted Rand index {index:.4f}")
    print(
        f"{found_at - started:.1f} s to draw, {split_at - found_at:.1f} s to find, {ended - split_at:.1f} s to assign"
    )
    for name in dict.fromkeys(true):
        went = Counter(job for each, job in zip(true, found, strict=True) if each == name)
        print(f"  {name:24} {sum(went.values()):7,}  {dict(went.most_common(6))}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)

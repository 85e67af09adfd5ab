"""How often the verdict is right, on made-up evidence whose truth is known.

    python bench/verdicts.py            # every scenario, 200 drawings of each
    python bench/verdicts.py 50 7       # 50 drawings, from seed 7

A scenario says how good each candidate really is, what it costs and how its test came about. Each drawing is a test as
it could have come out: of every example it is drawn how hard it is, for all candidates in part alike, in part for each
by itself, and in groups for a whole group alike. `tunewright.evaluation.verdict.decision.decide` decides, as in a
run, on the day on which the built-in prices were read, so that gpt-4o has seven weeks left.

A decision is right where it is one of those that the truth allows; harmful where it moves traffic to something that is
not good enough, or that costs more: switch, cascade or classical where they are not allowed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import time_machine

from tunewright.config import Spec
from tunewright.economics import price_book
from tunewright.evaluation.evidence import VALIDATION, Record
from tunewright.evaluation.verdict.comparison import compare
from tunewright.evaluation.verdict.decision import decide

DRAWINGS = 200
ALIKE = 0.5
"""Of an example's difficulty, the share of its variance that all candidates have in common."""
LARGE = 4000
"""Examples that show, nearly always, that two equally good candidates are."""
TODAY = {"model": "gpt-4o", "prompt_tokens": 480, "completion_tokens": 20}
LUNA = {"model": "gpt-6-luna"}
MARKET = {"apis": [], "api": TODAY}
"""In place of a list that names the API paid for today alone: the price book's cheaper ones come into question."""
HARMFUL = ("switch", "cascade", "classical")

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """A scenario."""

    name: str
    allowed: tuple[str, ...]
    """Decisions that are right."""
    own: float = 0.95
    """The served model's accuracy."""
    svm: float = 0.70
    """That of the best control."""
    api: float | None = None
    """That of the API paid for today; None: it is not measured."""
    count: int = 2000
    """Examples of each test split, and of the validation part."""
    groups: int = 0
    """Of each split; 0: examples are drawn one by one."""
    within: float = 0.0
    """Intraclass correlation of right and wrong answers' difficulty within a group."""
    knows: float = 0.0
    """How well the served model's confidence tells right answers from wrong ones, 0 to 1."""
    other: float | None = None
    """Its accuracy on a second test split, where there is one."""
    luna: float | None = None
    """Accuracy of another, cheaper API of the spec's, gpt-6-luna, where it was measured."""
    ms: float = 20.0
    spec: dict[str, Any] = field(default_factory=dict)


def spec_of(truth: Truth) -> Spec:
    content: dict[str, Any] = {
        "name": "truth",
        "task": {"kind": "classify", "instruction": "x", "labels": ["a", "b"]},
        "data": {"train": "none.jsonl"},
        "apis": [TODAY],
        "traffic": {"requests_per_month": 10_000_000},
    }
    for section, values in truth.spec.items():
        content[section] = content.get(section, {}) | values if isinstance(values, dict) else values
    return Spec.model_validate(content)


def drawn(truth: Truth, seed: int) -> dict[str, list[Record]]:
    """The evidence of one drawing."""
    rng = np.random.default_rng(seed)
    candidates = {"served": 0.0, "svm": truth.svm, "api": truth.api, "api gpt-6-luna": truth.luna}
    evidence: dict[str, list[Record]] = {
        candidate: [] for candidate, accuracy in candidates.items() if accuracy is not None
    }
    splits = {VALIDATION: truth.own, "test": truth.own} | ({"other": truth.other} if truth.other is not None else {})
    for split, own in splits.items():
        member = rng.integers(truth.groups, size=truth.count) if truth.groups else None
        common = rng.normal(size=truth.count)
        for candidate in evidence:
            if candidate.startswith("api") and split == VALIDATION:
                continue
            accuracy = own if candidate == "served" else candidates[candidate]
            assert accuracy is not None
            hard = _hardness(rng, common, member, truth)
            right = hard < NormalDist().inv_cdf(accuracy)
            sure = _confidence(rng, hard, accuracy, truth.knows if candidate == "served" else 0.0)
            ms = truth.ms if candidate != "svm" else 1.0
            evidence[candidate] += [
                Record(
                    f"{split}-{n}",
                    split,
                    "a",
                    "a" if right[n] else "b",
                    float(sure[n]),
                    ms,
                    480,
                    20,
                    None if member is None else f"{split} {member[n]}",
                )
                for n in range(truth.count)
            ]
    return evidence


def _hardness(rng: np.random.Generator, common: Numbers, member: Any, truth: Truth) -> Numbers:
    """Standard normal, in part that of the example, in part the candidate's own, in part its group's."""
    own = rng.normal(size=truth.count)
    each: Numbers = np.sqrt(ALIKE) * common + np.sqrt(1 - ALIKE) * own
    if member is None:
        return each
    of_groups = rng.normal(size=truth.groups)[member]
    return np.sqrt(1 - truth.within) * each + np.sqrt(truth.within) * of_groups


def _confidence(rng: np.random.Generator, hard: Numbers, accuracy: float, knows: float) -> Numbers:
    """The chance of being right, as far as a signal that is `knows` of the difficulty tells it: calibrated."""
    signal = np.sqrt(knows) * hard + np.sqrt(1 - knows) * rng.normal(size=len(hard))
    if not knows:
        return np.full(len(hard), accuracy)
    # Given the signal s, the difficulty is normal with mean sqrt(knows) s and variance 1 - knows.
    from scipy.stats import norm

    spread = np.sqrt(max(1 - knows, 1e-9))
    found: Numbers = norm.cdf((NormalDist().inv_cdf(accuracy) - np.sqrt(knows) * signal) / spread)
    return found


def scenarios() -> Iterator[Truth]:
    """At least 45, family by family."""
    for own in (0.80, 0.84, 0.87, 0.88):
        yield Truth(f"no API measured, goal .90, own {own}", ("keep-api",), own)
    for own in (0.93, 0.95, 0.98):
        yield Truth(f"no API measured, goal .90, own {own}", ("switch",), own)
    for count in (50, 100, 200):
        yield Truth(f"{count} examples, own .88", ("keep-api",), 0.88, count=count)
    yield Truth("200 examples, own .97", ("switch",), 0.97, count=200)
    for svm in (0.93, 0.95):
        yield Truth(f"SVM {svm}, own the same", ("classical", "switch"), svm, svm)
    yield Truth("SVM .88, own .95", ("switch",), 0.95, 0.88)
    yield Truth("SVM .94, own .98", ("switch",), 0.98, 0.94)
    yield Truth("SVM .95, own .80", ("classical",), 0.80, 0.95)

    for api in (0.96, 0.95, 0.94):
        yield Truth(f"API {api}, own {api - 0.03:.2f}, goal .90", ("keep-api",), api - 0.03, api=api)
    yield Truth("API .96, own .93, accepted", ("switch",), 0.93, api=0.96, spec={"goal": {"accept_worse": True}})
    for api in (0.88, 0.93, 0.97):
        yield Truth(f"API {api}, own the same", ("switch",), api, api=api, count=LARGE)
    yield Truth("API .90, own .95", ("switch",), 0.95, api=0.90)
    yield Truth("API .97, SVM .93, own .97", ("switch",), 0.97, 0.93, 0.97)
    yield Truth("API .97, SVM .93, own .94", ("keep-api",), 0.94, 0.93, 0.97)
    yield Truth("API .92, SVM .92, own .92", ("classical", "switch"), 0.92, 0.92, 0.92, LARGE)
    yield Truth("API .95, own .92, 200 examples", ("keep-api",), 0.92, api=0.95, count=200)
    yield Truth("API .95, own .95, 100 examples", ("keep-api", "switch"), 0.95, api=0.95, count=100)

    for own, knows in ((0.80, 0.9), (0.75, 0.8), (0.85, 0.8)):
        yield Truth(f"own {own}, knows when it is right", ("cascade",), own, knows=knows)
    for own in (0.80, 0.87):
        yield Truth(f"own {own}, confidence says nothing", ("keep-api",), own, knows=0.002)
    yield Truth("API .99, own .80 knows, answers .90", ("keep-api",), 0.80, api=0.99, knows=0.6)
    yield Truth("API .90, own .80 knows well", ("cascade",), 0.80, api=0.90, knows=0.95, count=LARGE)
    yield Truth("40 examples, own .75 knows", ("keep-api", "cascade"), 0.75, count=40, knows=0.8)
    yield Truth("own .30, knows a little", ("keep-api",), 0.30, knows=0.3, count=200)
    yield Truth("a second split is worse", ("keep-api",), 0.96, other=0.85)
    yield Truth("a second split is as good", ("switch",), 0.96, other=0.94)

    for groups, within in ((8, 0.3), (8, 0.6), (30, 0.3)):
        name = f"{groups} groups of 25, {within} alike, own .88"
        yield Truth(name, ("keep-api",), 0.88, count=25 * groups, groups=groups, within=within)
    yield Truth(
        "8 groups of 25, own .80 knows", ("keep-api", "cascade"), 0.80, count=200, groups=8, within=0.5, knows=0.8
    )
    yield Truth("300 groups, own .88", ("keep-api",), 0.88, groups=300, within=0.3)
    yield Truth("300 groups, own .96", ("switch",), 0.96, groups=300, within=0.3)
    yield Truth("30 records, own .85", ("keep-api",), 0.85, count=30)

    yield Truth("too slow", ("keep-api",), 0.96, ms=2000)
    yield Truth(
        "$1 a month saved, $20,000 of engineering",
        ("keep-api", "cheaper-api"),
        0.97,
        spec={"traffic": {"requests_per_month": 51_000}, "costs": {"engineering_usd": 20_000}},
    )
    for engineering, allowed in ((20_000, "switch"), (100_000, "keep-api")):
        yield Truth(
            f"$14,000 a month saved for seven weeks, ${engineering:,} of engineering",
            (allowed,),
            0.97,
            spec={"costs": {"engineering_usd": engineering}},
        )
    yield Truth(
        "$70 a month saved, reviewers cost $304",
        ("keep-api", "cheaper-api"),
        0.97,
        spec={"traffic": {"requests_per_month": 100_000}, "costs": {"hourly_usd": 60}},
    )
    yield Truth(
        "$70 a month saved, six reviews a month",
        ("switch",),
        0.97,
        spec={"traffic": {"requests_per_month": 100_000}, "costs": {"hourly_usd": 60, "reviews_per_month": 6}},
    )
    yield Truth(
        "a machine costs more than the API",
        ("keep-api", "cheaper-api"),
        0.97,
        spec={"traffic": {"requests_per_month": 20_000}},
    )

    both = {"apis": [TODAY, LUNA]}
    yield Truth(
        "a tier at $50 unmeasured, own at $75",
        ("cheaper-api",),
        0.97,
        spec={**MARKET, "traffic": {"requests_per_month": 1_000_000}},
    )
    yield Truth("cheaper tiers unmeasured, own .80", ("cheaper-api",), 0.80, spec=MARKET)
    yield Truth("the cheapest tier at $500 unmeasured, own at $75", ("switch",), 0.97, spec=MARKET)
    for engineering, allowed in ((1000, "switch"), (10_000, "cheaper-api")):
        yield Truth(
            f"the cheapest tier at $500 unmeasured, own at $80, ${engineering:,} of engineering",
            (allowed,),
            0.97,
            spec={**MARKET, "costs": {"engineering_usd": engineering}},
        )
    yield Truth("luna .97 measured, own .80", ("cheaper-api",), 0.80, luna=0.97, spec=both)
    yield Truth("luna .85 measured, own .80", ("keep-api",), 0.80, luna=0.85, spec=both)
    yield Truth(
        "luna .97 at $58 measured, own .97 at $75",
        ("cheaper-api",),
        0.97,
        luna=0.97,
        spec={**both, "traffic": {"requests_per_month": 1_000_000}},
    )
    yield Truth("API .97, luna .97, own .90", ("cheaper-api",), 0.90, api=0.97, luna=0.97, count=LARGE, spec=both)
    yield Truth("API .97, luna .92, own .90", ("keep-api",), 0.90, api=0.97, luna=0.92, spec=both)
    yield Truth(
        "API .97, luna .97, own .97, $20,000 of engineering",
        ("cheaper-api",),
        0.97,
        api=0.97,
        luna=0.97,
        count=LARGE,
        spec={**both, "costs": {"engineering_usd": 20_000}},
    )
    yield Truth("API .97, luna .97, own .97", ("switch",), 0.97, api=0.97, luna=0.97, count=LARGE, spec=both)


@dataclass(frozen=True)
class Outcome:
    truth: Truth
    decisions: Counter[str]

    @property
    def right(self) -> float:
        return sum(self.decisions[each] for each in self.truth.allowed) / self.decisions.total()

    @property
    def harmful(self) -> float:
        wrong = (each for each in HARMFUL if each not in self.truth.allowed)
        return sum(self.decisions[each] for each in wrong) / self.decisions.total()


def outcome(truth: Truth, drawings: int, seed: int) -> Outcome:
    spec, book = spec_of(truth), price_book()
    decisions: Counter[str] = Counter()
    for number in range(drawings):
        evidence = drawn(truth, seed * 100_003 + number)
        with time_machine.travel(f"{book.apis_as_of}T12:00Z"):
            comparison = compare(spec, evidence, book)
        decisions[decide(spec, comparison, evidence, parity_passed=True).decision] += 1
    return Outcome(truth, decisions)


def main(arguments: Sequence[str]) -> None:
    drawings, seed = (int(arguments[n]) if len(arguments) > n else start for n, start in enumerate((DRAWINGS, 0)))
    print("| scenario | right is | right | harmful | decisions |\n|---|---|---|---|---|")
    found = []
    for truth in scenarios():
        found.append(each := outcome(truth, drawings, seed))
        counted = ", ".join(f"{name} {count}" for name, count in each.decisions.most_common())
        print(
            f"| {truth.name} | {' or '.join(truth.allowed)} | {each.right:.0%} | {each.harmful:.0%} | {counted} |",
            flush=True,
        )
    print(
        f"\n{len(found)} scenarios; harmful at most {max(each.harmful for each in found):.0%}, "
        f"right at least {min(each.right for each in found):.0%}."
    )


if __name__ == "__main__":
    main(sys.argv[1:])

"""What confidence is worth on CLINC150: calibration, the guaranteed threshold, requests that are out of scope.

    python bench/quality.py final clinc150       # trains the adapter, half an hour
    python bench/confidence.py [scored] [out]    # 1,000 and 1,500 requests in scope; all 1,100 out of scope are asked

The model is the one that is served (int8 ONNX), taught on requests in scope alone. Temperature, thresholds and the
choice among the signs of a request out of scope rest on the official validation part; what is reported is the official
test. The guarantee is tried on 200 drawings of a validation part from all requests in scope. Answers are kept in
bench/runs, so that nothing is asked twice.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from quality import RUNS, SHARED, in_words

import tunewright as tw
from tunewright.core.artifacts import read_jsonl, read_manifest
from tunewright.core.progress import track
from tunewright.data import evenly
from tunewright.evaluation.candidates.cascade import DELTA, choose_threshold
from tunewright.evaluation.evidence import Record
from tunewright.evaluation.statistics.intervals import wilson
from tunewright.inference.bundle import load_bundle
from tunewright.inference.calibration import (
    FALSE_ALARMS,
    UNCALIBRATED,
    Calibration,
    expected_calibration_error,
    fit_labels,
    scope,
)
from tunewright.inference.predictors import LabelScorer, language_model
from tunewright.inference.runtimes.ort_model import OrtNextToken

DRAWINGS = 200
WARM = 2.0
"""A temperature at which what is unlike all labels is told better (Liang et al. 2018, for images)."""
Numbers = np.ndarray


class Scored:
    """What the model says to some requests: log P of each label, and the log-sum of its first token's logits."""

    def __init__(self, log_probabilities: Numbers, energy: Numbers, gold: Numbers):
        self.log_probabilities, self.energy, self.gold = log_probabilities, energy, gold

    def sure(self, calibration: Calibration) -> Numbers:
        return np.asarray(calibration.of_labels(self.log_probabilities).max(1))

    @property
    def right(self) -> Numbers:
        return np.asarray(self.log_probabilities.argmax(1) == self.gold)

    def part(self, numbers: Numbers) -> Scored:
        return Scored(self.log_probabilities[numbers], self.energy[numbers], self.gold[numbers])


def ask(name: str, bundle: Path, texts: Sequence[str], labels: Sequence[str]) -> Scored:
    content = read_manifest(bundle.parent)
    assert content
    file = RUNS / "confidence" / f"{name}-{len(texts)}-{content.content[:12]}.npz"
    if not file.exists():
        loaded = load_bundle(bundle)
        model = OrtNextToken(loaded.onnx, context=loaded.info.context)
        asked = language_model(model, loaded.task, loaded.template, loaded.tokenizer, 1)
        assert isinstance(asked, LabelScorer)
        numbers = {label: number for number, label in enumerate(loaded.task.answers)}
        scores, energy = [], []
        with track(name, len(texts), "answers") as tracker:
            for text in texts:
                (prompt,) = asked.prompts(text)
                energy.append(float(np.logaddexp.reduce(model(prompt).astype(np.float64))))
                scores.append(asked.log_probabilities(prompt))
                tracker.update(len(scores))
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, scores=scores, energy=energy, gold=[numbers.get(label, -1) for label in labels])
    found = np.load(file)
    return Scored(found["scores"], found["energy"], found["gold"])


def signs(scored: Scored, calibration: Calibration) -> dict[str, Numbers]:
    """What may tell a request out of scope: the lower the likelier."""
    warm = Calibration(temperature=WARM).of_labels(scored.log_probabilities)
    return {
        "confidence": scored.sure(calibration),
        "confidence, uncalibrated": scored.sure(UNCALIBRATED),
        f"confidence at temperature {WARM:g}": warm.max(1),
        f"minus the entropy at {WARM:g}": (warm * np.log(np.maximum(warm, 1e-300))).sum(1),
        "energy of the first token": scored.energy,
    }


def guarantee(everything: Scored, size: int, least: float) -> str:
    """How often a threshold that is chosen on a drawing breaks its promise on the rest."""
    random, broken, covered, none = np.random.default_rng(0), 0, [], 0
    for _ in range(DRAWINGS):
        order = random.permutation(len(everything.gold))
        part, rest = everything.part(order[:size]), everything.part(order[size:])
        calibration = fit_labels(part.log_probabilities, part.gold.tolist())
        records = [
            Record(str(n), "v", "a", "a" if right else "b", float(sure), 1.0, 1, 1)
            for n, (right, sure) in enumerate(zip(part.right, part.sure(calibration), strict=True))
        ]
        found = choose_threshold(records, least)
        if found is None or not found.guaranteed:
            none += 1
            continue
        accepted = rest.sure(calibration) >= found.value
        covered.append(accepted.mean())
        broken += rest.right[accepted].mean() < least
    told = f"answers {100 * np.mean(covered):.1f} % of the rest" if covered else "answers nothing"
    return f"{told}, broken in {broken} of {DRAWINGS} drawings (allowed {DELTA:.0%}), none found in {none}"


def main(inside: int, tested: int) -> None:
    spec = tw.load_spec(RUNS / "clinc150-final")
    bundle = tw.export(spec) / "bundle"
    asked = {}
    for part, most in (("valid", inside), ("test", tested)):
        file = SHARED / "clinc150_oos" / f"{part}.jsonl"
        rows = evenly(in_words(file), most)
        asked[part] = ask(part, bundle, [row["text"] for row in rows], [row["label"] for row in rows])
        outside = [row["text"] for row in read_jsonl(file) if row["label"] == "oos"]
        asked[f"{part} oos"] = ask(f"{part}-oos", bundle, outside, [""] * len(outside))
    valid, test = asked["valid"], asked["test"]
    calibration = fit_labels(valid.log_probabilities, valid.gold.tolist())
    score = wilson(int(test.right.sum()), len(test.right))
    print(
        f"in scope: {100 * score.value:.1f} % right ({100 * score.low:.1f} to {100 * score.high:.1f}) "
        f"of {len(test.right):,}"
    )
    raw, mended = (
        expected_calibration_error(test.sure(c).tolist(), test.right.astype(float).tolist())
        for c in (UNCALIBRATED, calibration)
    )
    print(
        f"temperature {calibration.temperature:.2f}; expected calibration error {100 * raw:.1f} % before, "
        f"{100 * mended:.1f} % after"
    )
    everything = Scored(
        *(
            np.concatenate([getattr(valid, name), getattr(test, name)])
            for name in ("log_probabilities", "energy", "gold")
        )
    )
    for size in (200, 1000):
        for least in (0.95, 0.97, 0.98):
            print(f"threshold from {size:,} answers for {least:.0%} right: {guarantee(everything, size, least)}")
    print(f"out of scope, at {FALSE_ALARMS:.0%} false alarms by the validation part:")
    found = {part: signs(scored, calibration) for part, scored in asked.items()}
    for sign in found["valid"]:
        least = scope(found["valid"][sign].tolist())
        assert least is not None
        caught = {part: float((found[part][sign] < least).mean()) for part in found}
        exact = float((found["test oos"][sign] < np.quantile(found["test"][sign], FALSE_ALARMS)).mean())
        print(
            f"  {sign:<29} validation: {100 * caught['valid oos']:.1f} % found; "
            f"test: {100 * caught['test oos']:.1f} % found at {100 * caught['test']:.1f} % false alarms, "
            f"{100 * exact:.1f} % at 5 %"
        )


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]) if len(sys.argv) > 1 else (1000, 1500))

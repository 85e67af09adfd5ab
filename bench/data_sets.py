"""The public data sets that benches measure on: where each lies on this machine, and how to get it.

    python bench/data_sets.py          # the table of all of them

Each set is a folder of JSON Lines files, one for each part, below `TUNEWRIGHT_DATA` or, without that variable, below
`../shared/data` beside the repository. None of them is in the repository: the licences of most ask for a notice of
their own. (The module is not called `datasets`, because trl and transformers import a library of that name, and a bench
has its own folder first on its path.)
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
VARIABLE = "TUNEWRIGHT_DATA"


@dataclass(frozen=True)
class PublicSet:
    """A data set of somebody else's, or of our own."""

    source: str
    """Repository and commit, or package and version."""
    files: str
    """What to take of it."""
    licence: str
    form: str
    """The rows that the benches expect, and the parts."""


SETS = {
    "banking77": PublicSet(
        "github.com/PolyAI-LDN/task-specific-datasets at 57ec275",
        "banking_data/train.csv and test.csv",
        "CC-BY-4.0",
        "train 10,003, test 3,080: {text, label}; the official split",
    ),
    "bitext_support": PublicSet(
        "huggingface.co/datasets/bitext/Bitext-customer-support-llm-chatbot-training-dataset at 72ea220",
        "the CSV of an earlier version, blob 9e56c98 of its history",
        "CDLA-Sharing-1.0",
        "train 3,612, test 902: {text, label, answer, entities}; split by a hash of the text",
    ),
    "car_rental_comments": PublicSet(
        "github.com/IBM/watson-machine-learning-samples at 49946b7",
        "cloud/data/cars-4-you/car_rental_training_data.csv, repeats removed",
        "Apache-2.0",
        "train 172, test 57: {text, label}; split by a hash of the text",
    ),
    "clinc150_oos": PublicSet(
        "github.com/clinc/oos-eval at 828f809",
        "data/data_full.json and domains.json",
        "CC-BY-3.0",
        "train 15,100, valid 3,100, test 5,500: {text, label, domain}; out of scope is `oos`",
    ),
    "pkg_usaddress": PublicSet(
        "PyPI, usaddress 0.5.16, source distribution",
        "training/*.xml",
        "MIT",
        "train 1,263, test 315: {text, entities}; split by a hash of the text",
    ),
    "presidio_pii": PublicSet(
        "github.com/data-privacy-stack/presidio-research at e2140e1",
        "data/synth_dataset_v2.json and templates.txt",
        "MIT",
        "train 997, templates 210: {text, spans, template_id}; split by template",
    ),
    "snips": PublicSet(
        "github.com/sonos/nlu-benchmark at b86ac7f",
        "2017-06-custom-intent-engines, the *_full files and validate",
        "CC0-1.0",
        "train 13,784, test 700: {text, label, entities}",
    ),
    "sroie_receipts": PublicSet(
        "github.com/zzzDavid/ICDAR-2019-SROIE at 27be427",
        "data/key and data/box",
        "MIT; the receipts CC-BY-4.0",
        "train 500, test 124, test_new_vendor 36: {text, entities}",
    ),
    "demo_tickets": PublicSet(
        "our own", "made by a generator", "Apache-2.0", "train 640, two tests of 160: {text, label}"
    ),
    "demo_invoices": PublicSet(
        "our own", "made by a generator", "Apache-2.0", "train 300, two tests of 60: {text, entities}"
    ),
}


def root() -> Path:
    """The folder of all sets."""
    return Path(os.environ.get(VARIABLE) or ROOT.parent / "shared" / "data")


class _Data:
    """`DATA / "banking77"` is the folder of a set; a bench ends with one sentence where it is absent."""

    def __truediv__(self, name: str) -> Path:
        folder = root() / name
        known = SETS.get(Path(name).parts[0])
        if known and not (root() / Path(name).parts[0]).is_dir():
            sys.exit(
                f"The data set {name} is not at {root()}. Take {known.files} of {known.source} ({known.licence}) and "
                f"write it there as JSON Lines ({known.form}), or name another folder with {VARIABLE}."
            )
        return folder


DATA = _Data()


def main() -> None:
    print("| set | here | source | files | licence | rows |\n|---|---|---|---|---|---|")
    for name, each in SETS.items():
        here = "yes" if (root() / name).is_dir() else "no"
        print(f"| {name} | {here} | {each.source} | {each.files} | {each.licence} | {each.form} |")


if __name__ == "__main__":
    main()

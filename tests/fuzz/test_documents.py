"""Documents of every kind: a text, or one paragraph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from tests.fuzz.mutation import json_of, mutated, names, seeds
from tests.fuzz.running import Input
from tunewright.documents import SUFFIXES, text_of

PAGES = [
    {
        "analyzeResult": {
            "content": "a",
            "pages": [
                {
                    "unit": "inch",
                    "words": [
                        {
                            "content": "Total",
                            "polygon": [1, 1, 2, 1, 2, 1.2, 1, 1.2],
                            "span": {"offset": 0, "length": 5},
                            "confidence": 0.9,
                        },
                        {"content": "12.50", "polygon": [3, 1, 4, 1, 4, 1.2, 3, 1.2]},
                    ],
                }
            ],
        }
    },
    {
        "analyzeResult": {
            "readResults": [
                {
                    "unit": "pixel",
                    "lines": [
                        {"text": "Total 12", "words": [{"text": "Total", "boundingBox": [1, 1, 20, 1, 20, 12, 1, 12]}]}
                    ],
                }
            ]
        }
    },
    {
        "Blocks": [
            {
                "BlockType": "WORD",
                "Text": "Total",
                "Page": 1,
                "Geometry": {"BoundingBox": {"Left": 0.1, "Top": 0.1, "Width": 0.1, "Height": 0.02}},
            }
        ]
    },
    {
        "fullTextAnnotation": {
            "pages": [
                {
                    "width": 100,
                    "height": 100,
                    "blocks": [
                        {
                            "paragraphs": [
                                {
                                    "words": [
                                        {
                                            "symbols": [{"text": "a"}],
                                            "boundingBox": {
                                                "vertices": [{"x": 1, "y": 1}, {"x": 9, "y": 1}, {"x": 9, "y": 9}]
                                            },
                                        }
                                    ]
                                }
                            ]
                        }
                    ],
                }
            ]
        }
    },
]


def check(name: str, content: bytes) -> None:
    text = text_of(name, content)
    text.encode()
    assert text.strip()


@pytest.mark.parametrize("seed", seeds("documents"), ids=names("documents"))
def test_kept(seed: Input, keep: Callable[..., None]) -> None:
    keep(check, seed)


def test_mutated_files(fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("documents"), 175)


def test_mutated_files_under_other_names(fuzz: Callable[..., None]) -> None:
    endings = st.sampled_from([*SUFFIXES, "", ".PDF", "\0", "/", ".\ud800"])
    fuzz(check, st.tuples(endings, mutated("documents")).map(lambda both: (f"a{both[0]}", both[1][1])), 75)


def test_pages_of_ocr_that_hold_anything(fuzz: Callable[..., None]) -> None:
    fuzz(check, json_of(PAGES, "page.json", ("words", "pages", "lines", "polygon", "boundingBox", "unit")), 75)

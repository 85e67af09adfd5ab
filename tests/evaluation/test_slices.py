from __future__ import annotations

import numpy as np
import pytest

from tunewright.evaluation.evidence import Record
from tunewright.evaluation.statistics.slices import LEAST, Slice, find_slices
from tunewright.tasks import Example, Meta

GERMAN = "Wo ist mein Paket geblieben und wann kommt es endlich bei mir an"
ENGLISH = "please tell me where my parcel is and when it will arrive"


def sliced(
    texts: list[str],
    right: list[bool],
    *,
    times: list[str] | None = None,
    groups: list[str] | None = None,
    measured: bool = False,
) -> list[Slice]:
    records, examples = [], {}
    for number, (text, is_right) in enumerate(zip(texts, right, strict=True)):
        meta = Meta(id=str(number), time=times[number] if times else None, group=groups[number] if groups else None)
        examples[meta.id] = Example.of(text, "a", meta)
        measures = {"field F1": (2.0 if is_right else 1.0, 2.0)} if measured else {}
        answer = "a" if is_right else "b"
        records.append(Record(meta.id, "test", "a", answer, 0.9, 1.0, 10, 1, meta.group, measures))
    return find_slices({"test": records}, examples, 0)


def test_a_language_that_the_model_does_not_know_is_named() -> None:
    slices = sliced([ENGLISH] * 100 + [GERMAN] * 40, [True] * 95 + [False] * 5 + [True] * 20 + [False] * 20)
    assert (slices[0].by, slices[0].name, slices[0].count) == ("language", "de", 40)
    assert slices[0].falls_short
    assert slices[0].primary_metric.value == 0.5
    assert slices[0].rest == 0.95
    assert not [each for each in slices if each.name == "en" and each.falls_short]


def test_long_texts_that_fail_are_named_by_their_length() -> None:
    lengths = [5 + n % 30 for n in range(180)]
    slices = sliced(["word " * length for length in lengths], [length < 25 for length in lengths])
    assert slices[0].by == "length"
    assert slices[0].name == "25 to 34 words"
    assert slices[0].falls_short


def test_times_are_cut_in_thirds() -> None:
    times = [f"2026-{1 + n // 20:02}-01" for n in range(120)]
    slices = sliced(["same text here"] * 120, [n < 90 for n in range(120)], times=times)
    assert (slices[0].by, slices[0].name) == ("time", "2026-05-01 to 2026-06-01")
    assert slices[0].falls_short


@pytest.mark.parametrize(
    ("times", "name"),
    [
        (["2026-11-01T00:00:00Z", "2026-11-02T01:00:00Z", "2026-11-01T23:00:00-05:00"], "2026-11-01T23:00:00-05:00"),
        (["999999998", "999999999", "1000000000"], "1000000000"),
    ],
)
def test_times_are_cut_by_their_instants(times: list[str], name: str) -> None:
    slices = sliced(["same text here"] * 120, [n < 80 for n in range(120)], times=[times[n // 40] for n in range(120)])
    assert (slices[0].by, slices[0].name, slices[0].falls_short) == ("time", f"{name} to {name}", True)


def test_times_whose_order_nobody_knows_are_no_slices() -> None:
    times = [f"{1 + n % 28:02}/11/2026" for n in range(120)]
    assert not [each for each in sliced(["same text here"] * 120, [True] * 120, times=times) if each.by == "time"]


def test_examples_without_a_time_or_a_group_are_in_no_such_slice() -> None:
    times = ["", *(f"2026-{1 + n // 20:02}-01" for n in range(119))]
    groups = ["", *(f"g{n // 30}" for n in range(119))]
    slices = sliced(["same text here"] * 120, [n < 90 for n in range(120)], times=times, groups=groups)
    assert sum(each.count for each in slices if each.by == "time") == 119
    assert {each.name for each in slices if each.by == "group"} == {"g0", "g1", "g2", "g3"}


def test_groups_are_slices_and_small_ones_are_not_reported() -> None:
    groups = ["big"] * 60 + ["bad"] * 40 + ["tiny"] * (LEAST - 1)
    slices = sliced(["same text here"] * len(groups), [group != "bad" for group in groups], groups=groups)
    assert {each.name for each in slices if each.by == "group"} == {"bad", "big"}
    assert not any(each.falls_short for each in slices), "of three groups nobody knows how unlike groups are"


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_a_group_unlike_many_others_is_named(share: float) -> None:
    groups = [f"g{n // 30}" for n in range(600)]
    right = [n % 20 != 0 if n >= 30 else n < 30 * share for n in range(600)]
    slices = sliced(["same text here"] * 600, right, groups=groups)
    assert [each.name for each in slices if each.falls_short] == ["g0"]


def test_examples_without_a_group_do_not_hide_a_group_unlike_the_others() -> None:
    """They are right or wrong, so as groups of one each they would differ far more than groups do."""
    groups = [*(f"g{n // 30}" for n in range(600)), *[""] * 400]
    right = [n % 30 < (21 if n < 30 else 28) if n < 600 else n % 20 > 0 for n in range(1000)]
    slices = sliced(["same text here"] * 1000, right, groups=groups)
    assert [each.name for each in slices if each.falls_short] == ["g0"]


def test_groups_that_all_differ_are_not_named() -> None:
    groups = [f"g{n // 30}" for n in range(600)]
    right = [n % 30 < 12 + 18 * (n // 30 % 7) / 6 for n in range(600)]
    assert not any(each.falls_short for each in sliced(["same text here"] * 600, right, groups=groups))


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(("inside", "outside"), [(1, 0), (2, 1)])
def test_one_error_or_two_make_no_group_fall_short(inside: int, outside: int, measured: bool) -> None:
    """Where nearly all is right the other groups hardly differ, and their spread says nothing."""
    groups = [f"g{n // 30}" for n in range(300)]
    wrong = [*range(inside), *(30 * group for group in range(1, 1 + outside))]
    slices = sliced(["same text here"] * 300, [n not in wrong for n in range(300)], groups=groups, measured=measured)
    assert len(slices) == 10
    assert not any(each.falls_short for each in slices)


def test_a_group_with_hardly_anything_to_measure_does_not_fall_short() -> None:
    examples, records = {}, []
    for n in range(300):
        examples[str(n)] = Example.of("same text here", "[]", Meta(id=str(n), group=f"g{n // 30}"))
        measured = (0.0, 0.0) if 0 < n < 30 else (4.0 - (n == 0), 4.0)
        records.append(Record(str(n), "test", "[]", "[]", 0.9, 1.0, 10, 1, f"g{n // 30}", {"micro-F1": measured}))
    assert not any(each.falls_short for each in find_slices({"test": records}, examples, 0))


def test_a_group_with_nothing_to_measure_hides_no_group_that_falls_short() -> None:
    """Its score would be 0, which would make the others differ far more than they do."""
    examples, records = {}, []
    for n in range(600):
        examples[str(n)] = Example.of("same text here", "[]", Meta(id=str(n), group=f"g{n // 30}"))
        parts = 2.4 + n % 2 * 0.4 if n < 30 else 3.0 + n % 2
        measured = (0.0, 0.0) if 30 <= n < 60 else (parts, 4.0)
        records.append(Record(str(n), "test", "[]", "[]", 0.9, 1.0, 10, 1, f"g{n // 30}", {"micro-F1": measured}))
    slices = find_slices({"test": records}, examples, 0)
    assert [each.name for each in slices if each.by == "group" and each.falls_short] == ["g0"]


def test_measures_that_are_shares_are_sliced_too() -> None:
    right = [True] * 100 + [n % 2 == 0 for n in range(60)]
    slices = sliced([ENGLISH] * 100 + [GERMAN] * 60, right, measured=True)
    assert slices[0].name == "de"
    assert slices[0].primary_metric.value == 0.75
    assert slices[0].falls_short


@pytest.mark.slow
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_slice_in_which_there_was_nothing_to_find_is_not_named() -> None:
    texts, groups = [ENGLISH] * 60 + [GERMAN] * 40, [str(number) for number in range(100)]
    examples = {str(n): Example.of(text, "[]", Meta(id=str(n), group=groups[n])) for n, text in enumerate(texts)}
    for grouped in (None, groups):
        records = [
            Record(
                str(n),
                "test",
                "[]",
                "[]",
                0.9,
                1.0,
                10,
                1,
                grouped[n] if grouped else None,
                {"micro-F1": (0.0, 0.0) if n >= 60 else (2.0 * (n % 2), 2.0)},
            )
            for n in range(100)
        ]
        slices = find_slices({"test": records}, examples, 0)
        assert {each.name for each in slices if each.by == "language"} == {"en", "de"}
        assert all(0 <= each.p_value <= 1 and not each.falls_short for each in slices)


@pytest.mark.slow
def test_where_nothing_is_wrong_a_slice_is_named_once_in_twenty() -> None:
    rng, named = np.random.default_rng(1), 0
    for _ in range(200):
        texts = ["word " * int(length) for length in rng.integers(3, 40, 150)]
        named += any(each.falls_short for each in sliced(texts, (rng.random(150) < 0.85).tolist()))
    assert named / 200 <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.85, 0.995])
def test_where_groups_are_alike_one_is_named_once_in_twenty(share: float) -> None:
    rng, named = np.random.default_rng(1), 0
    groups = [f"g{n // 30}" for n in range(300)]
    for _ in range(200):
        slices = sliced(["same text here"] * 300, (rng.random(300) < share).tolist(), groups=groups)
        named += any(each.falls_short for each in slices)
    assert named / 200 <= 0.08

"""Which system prompts stand for a job."""

from __future__ import annotations

from tunewright.tasks.system_prompts import MOST_KNOWN, hash_of, known_prompts


def test_white_space_makes_no_other_prompt() -> None:
    assert hash_of(" Route\n it. ") == hash_of("Route it.") != hash_of("route it.")
    assert known_prompts(["a b", "a  b", "c"]) == sorted({hash_of("a b"), hash_of("c")})


def test_prompts_that_are_written_anew_for_each_request_are_not_told_apart() -> None:
    assert len(known_prompts(map(str, range(MOST_KNOWN))) or ()) == MOST_KNOWN
    assert known_prompts(map(str, range(MOST_KNOWN + 1))) is None
    assert known_prompts([]) == []

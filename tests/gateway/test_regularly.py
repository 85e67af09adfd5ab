"""Work that is done several times a second goes on, whatever goes wrong with it."""

from __future__ import annotations

import asyncio

import pytest

from tunewright.gateway.takeover.regularly import Regularly


def test_work_that_fails_in_any_way_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    tries: list[bool] = []

    def work() -> None:
        tries.append(len(tries) >= 2)
        if not tries[-1]:
            raise ValueError("the text of a request")

    async def run() -> None:
        regularly = Regularly(work, "Counts can't be kept.")
        regularly.open()
        async with asyncio.timeout(30):
            while not any(tries):
                await asyncio.sleep(0.01)
        await regularly.close()

    asyncio.run(run())
    said = capsys.readouterr().err
    assert said.count("Counts can't be kept. ValueError.") == 1
    assert "the text of a request" not in said


def test_the_last_work_may_fail_too() -> None:
    def work() -> None:
        raise ValueError

    asyncio.run(Regularly(work, "Counts can't be kept.").close())

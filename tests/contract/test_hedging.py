"""Hedging: with `Any`, the next branch starts when the one before is slow or has failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cano import ConfigurationError, JoinConfig, JoinError, JoinStrategy, Retry, SplitTimeoutError, fan_out

NEVER = 1e9


class Backends:
    """Branches that note when they start; negative durations fail."""

    def __init__(self) -> None:
        self.began = asyncio.get_running_loop().time()
        self.started: list[tuple[int, float]] = []

    async def ask(self, item: tuple[int, float]) -> int:
        index, duration = item
        self.started.append((index, asyncio.get_running_loop().time() - self.began))
        await asyncio.sleep(abs(duration))
        if duration < 0:
            raise ConnectionError(index)
        return index


async def hedge(engine: str, durations: list[float], **options: Any) -> tuple[Any, list[tuple[int, float]]]:
    backends = Backends()
    options.setdefault("hedge_delay", 1.0)
    try:
        result: Any = await fan_out(
            backends.ask, list(enumerate(durations)), strategy=JoinStrategy.Any, engine=engine, **options
        )
    except JoinError as error:
        result = error.result
    return result, backends.started


async def test_a_quick_first_branch_is_alone(engine):
    result, started = await hedge(engine, [0.5, 0.5, 0.5])
    assert started == [(0, 0)]
    assert (result.outputs(), result.cancelled) == ([0], (1, 2))


async def test_each_further_branch_starts_after_the_delay(engine):
    result, started = await hedge(engine, [NEVER, NEVER, 1.5, 1])
    assert started == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert result.outputs() == [2]
    assert result.cancelled == (0, 1, 3)


async def test_a_failure_starts_the_next_one_at_once(engine):
    result, started = await hedge(engine, [-0.25, -0.5, 0.125])
    assert started == [(0, 0), (1, 0.25), (2, 0.75)]
    assert result.outputs() == [2]
    assert [row.task_index for row in result.errors] == [0, 1]


async def test_after_a_failure_the_delay_counts_from_the_new_branch(engine):
    _, started = await hedge(engine, [-0.5, NEVER, 0.125])
    assert started == [(0, 0), (1, 0.5), (2, 1.5)]


async def test_the_failure_of_an_older_branch_starts_nobody(engine):
    """Its successor is running already; that one's delay goes on counting."""
    result, started = await hedge(engine, [-1.25, NEVER, 0.5])
    assert started == [(0, 0), (1, 1), (2, 2)]
    assert result.outputs() == [2]


async def test_all_failed(engine):
    result, started = await hedge(engine, [-0.25, -0.25])
    assert [index for index, _ in started] == [0, 1]
    assert [row.task_index for row in result.errors] == [0, 1]


async def test_a_branch_in_its_own_retries_has_not_answered(engine):
    result, started = await hedge(engine, [-0.25, 0.375], retry=Retry.fixed(9, 0.5))
    assert started == [(0, 0), (0, 0.75), (1, 1)]
    assert result.outputs() == [1]


async def test_the_bulkhead_holds_for_hedges_too(engine):
    _, started = await hedge(engine, [-2.5, 0.5, 0.5], bulkhead=1)
    assert started == [(0, 0), (1, 2.5)]


async def test_a_lazy_source_is_drawn_one_at_a_time(engine):
    drawn: list[int] = []

    def source():
        for index in range(5):
            drawn.append(index)
            yield index, 1.5

    backends = Backends()
    result = await fan_out(backends.ask, source, strategy=JoinStrategy.Any, hedge_delay=1, engine=engine)
    assert drawn == [0, 1]
    assert (result.outputs(), result.cancelled, result.total_count) == ([0], (1,), 2)


async def test_a_lazy_source_that_ends_leaves_those_that_run(engine):
    backends = Backends()
    source = iter([(0, 2.5), (1, NEVER)])
    result = await fan_out(backends.ask, source, strategy=JoinStrategy.Any, hedge_delay=1, engine=engine)
    assert (result.outputs(), result.total_count) == ([0], 2)


async def test_the_timeout_holds(engine):
    with pytest.raises(SplitTimeoutError) as caught:
        await hedge(engine, [NEVER, NEVER, NEVER], timeout=1.5)
    assert caught.value.result is not None
    assert caught.value.result.cancelled == (0, 1, 2)


@pytest.mark.parametrize("strategy", [JoinStrategy.All, JoinStrategy.Quorum(1), JoinStrategy.PartialTimeout])
def test_only_with_any(strategy):
    with pytest.raises(ConfigurationError, match="hedge_delay works only with JoinStrategy.Any"):
        JoinConfig(strategy, "next", hedge_delay=1)

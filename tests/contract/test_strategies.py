"""The table of strategies: at which completion each decides, and what it makes of it. Times are virtual seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from cano import ConfigurationError, JoinConfig, JoinError, JoinStrategy, SplitTimeoutError, Workflow, fan_out

if TYPE_CHECKING:
    from cano.results import SplitResult

NEVER = "never"
All, Any_, PartialTimeout = JoinStrategy.All, JoinStrategy.Any, JoinStrategy.PartialTimeout
Quorum, Percentage, PartialResults = JoinStrategy.Quorum, JoinStrategy.Percentage, JoinStrategy.PartialResults


async def play(outcome: str) -> str:
    """End as scripted: "ok 2" answers after 2 seconds, "bad 3" fails after 3, "never" does not end."""
    if outcome == NEVER:
        await asyncio.get_running_loop().create_future()
    kind, delay = outcome.split()
    await asyncio.sleep(float(delay))
    if kind == "bad":
        raise ValueError(outcome)
    return outcome


async def decide(engine: str, script: list[str], **options: Any) -> tuple[str, float, SplitResult[str]]:
    """Run a script; return how it was decided, after how many seconds, and the result."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        result = await fan_out(play, script, engine=engine, **options)
    except (JoinError, SplitTimeoutError) as error:
        verdict = "fails" if isinstance(error, JoinError) else "times out"
        return verdict, loop.time() - began, error.result
    return "proceeds", loop.time() - began, result


def indices(result: SplitResult[str]) -> tuple[list[int], list[int], list[int]]:
    return (
        [row.task_index for row in result.successes],
        [row.task_index for row in result.errors],
        list(result.cancelled),
    )


TABLE = [
    # What is run, the verdict, after how many seconds, and who succeeded, failed and was cancelled.
    (All, {}, ["ok 2", "ok 1", "ok 3"], "proceeds", 3, ([1, 0, 2], [], [])),
    (All, {}, ["ok 1", "bad 2", "ok 3", NEVER], "fails", 2, ([0], [1], [2, 3])),
    (All, {"fail_fast": False}, ["ok 1", "bad 2", "ok 3"], "fails", 3, ([0, 2], [1], [])),
    (All, {"fail_fast": False}, ["ok 1", "ok 2"], "proceeds", 2, ([0, 1], [], [])),
    (Any_, {}, ["ok 3", "bad 1", "ok 2", NEVER], "proceeds", 2, ([2], [1], [0, 3])),
    (Any_, {}, ["bad 3", "bad 1", "bad 2"], "fails", 3, ([], [1, 2, 0], [])),
    (Quorum(2), {}, ["ok 1", "bad 2", "ok 3", NEVER], "proceeds", 3, ([0, 2], [1], [3])),
    (Quorum(3), {}, ["ok 1", "bad 2", "bad 3", NEVER], "fails", 3, ([0], [1, 2], [3])),
    (Quorum(3), {}, ["ok 1", "ok 2", "ok 3"], "proceeds", 3, ([0, 1, 2], [], [])),
    (PartialResults(2), {}, ["ok 1", "bad 2", "ok 3", NEVER], "proceeds", 3, ([0, 2], [1], [3])),
    (PartialResults(3), {}, ["ok 1", "bad 2", "bad 3", NEVER], "fails", 3, ([0], [1, 2], [3])),
    (Percentage(0.5), {}, ["ok 1", "ok 2", "ok 3", NEVER, NEVER], "proceeds", 3, ([0, 1, 2], [], [3, 4])),
    (Percentage(0.5), {}, ["bad 1", "bad 2", "bad 3", NEVER, NEVER], "fails", 3, ([], [0, 1, 2], [3, 4])),
    (Percentage(1.0), {}, ["ok 1", "bad 2", NEVER], "fails", 2, ([0], [1], [2])),
    (Percentage(0.01), {}, ["ok 1", NEVER], "proceeds", 1, ([0], [], [1])),
    (PartialTimeout, {"timeout": 9}, ["ok 1", "bad 2", "ok 3"], "proceeds", 3, ([0, 2], [1], [])),
    (PartialTimeout, {"timeout": 2.5}, ["ok 1", "bad 2", "ok 3"], "proceeds", 2.5, ([0], [1], [2])),
    (PartialTimeout, {"timeout": 2.5}, ["bad 1", "bad 2", NEVER], "proceeds", 2.5, ([], [0, 1], [2])),
    (PartialTimeout, {"timeout": 2.5}, [NEVER, "ok 3"], "fails", 2.5, ([], [], [0, 1])),
    (PartialTimeout, {"timeout": 2.5, "min_successes": 2}, ["ok 1", "ok 2", NEVER], "proceeds", 2.5, ([0, 1], [], [2])),
    (PartialTimeout, {"timeout": 2.5, "min_successes": 2}, ["ok 1", "bad 2", NEVER], "fails", 2.5, ([0], [1], [2])),
    (PartialTimeout, {"timeout": 9, "min_successes": 2}, ["ok 1", "bad 2", "bad 3"], "fails", 3, ([0], [1, 2], [])),
]


@pytest.mark.parametrize(("strategy", "options", "script", "verdict", "after", "who"), TABLE)
async def test_table(engine, strategy, options, script, verdict, after, who):
    how, seconds, result = await decide(engine, script, strategy=strategy, **options)
    assert (how, seconds) == (verdict, pytest.approx(after))
    assert indices(result) == who
    assert result.total_count == len(script) == sum(map(len, who))


@pytest.mark.parametrize(
    ("strategy", "verdict"),
    [
        (All, "proceeds"),
        (Percentage(0.5), "proceeds"),
        (Quorum(0), "proceeds"),
        (PartialResults(0), "proceeds"),
        (Any_, "fails"),
        (Quorum(1), "fails"),
        (PartialResults(1), "fails"),
        (PartialTimeout, "fails"),
    ],
)
@pytest.mark.parametrize("lazy", [False, True], ids=["sized", "lazy"])
async def test_no_branches(engine, strategy, verdict, lazy):
    timeout = 5 if strategy == PartialTimeout else None
    source: Any = (lambda: iter(())) if lazy else []
    how, seconds, result = await decide(engine, source, strategy=strategy, timeout=timeout)
    assert (how, seconds) == (verdict, 0)
    assert (result.total_count, result.completed_count, result.cancelled) == (0, 0, ())


@pytest.mark.parametrize("strategy", [Quorum(0), PartialResults(0)])
async def test_nothing_needed_proceeds_at_once(engine, strategy):
    started: list[int] = []

    async def branch(item: int) -> None:
        started.append(item)

    result = await fan_out(branch, range(3), strategy=strategy, engine=engine)
    assert result.cancelled == (0, 1, 2)
    assert started == []


@pytest.mark.parametrize(("share", "total", "need"), [(0.07, 100, 7), (0.29, 100, 29), (1 / 3, 3, 1), (0.5, 5, 3)])
async def test_percentage_ignores_rounding(engine, share, total, need):
    """0.07 * 100 is a little more than 7 in binary, and still means 7."""

    async def branch(item: int) -> int:
        await asyncio.sleep(item)
        return item

    result = await fan_out(branch, range(1, total + 1), strategy=Percentage(share), engine=engine)
    assert result.completed_count == need


@pytest.mark.parametrize("strategy", [All, Any_, Quorum(1), Percentage(0.5), PartialResults(1)])
async def test_undecided_at_the_deadline(engine, strategy):
    script = [NEVER, "bad 1", NEVER, NEVER]
    how, seconds, result = await decide(engine, script, strategy=strategy, timeout=2.5, fail_fast=False)
    assert (how, seconds) == ("times out", 2.5)
    assert [row.task_index for row in result.errors] == [1]
    assert [type(row.error) for row in result.errors] == [ValueError]


async def test_a_split_timeout_is_a_timeout_and_no_group(engine):
    with pytest.raises(TimeoutError) as caught:
        await fan_out(play, [NEVER], timeout=1, engine=engine)
    assert isinstance(caught.value, SplitTimeoutError)
    assert not isinstance(caught.value, BaseExceptionGroup)
    assert caught.value.limit == 1


async def test_waiting_for_the_bulkhead_counts_for_the_timeout(engine):
    how, seconds, result = await decide(engine, ["ok 1"] * 5, bulkhead=1, timeout=3.5)
    assert (how, seconds) == ("times out", 3.5)
    assert indices(result) == ([0, 1, 2], [], [3, 4])


async def test_a_deadline_after_the_decision_changes_nothing(engine):
    """The timeout bounds the decision; losers that clean up slowly do not make a won split fail."""

    async def branch(item: int) -> int:
        try:
            await asyncio.sleep(item)
        finally:
            await asyncio.sleep(2 * (item > 1))
        return item

    result = await fan_out(branch, [1, 9], strategy=Any_, timeout=2, engine=engine)
    assert result.outputs() == [1]


async def test_more_successes_wanted_than_branches(engine):
    """In a workflow that is a mistake that `validate` reports; with data it is a join that fails at once."""
    workflow = Workflow(engine=engine).add_exit_state("end")
    workflow.register_split("fan", [lambda: 1], JoinConfig(Quorum(2), "end"))
    with pytest.raises(ConfigurationError, match="needs more successes than there are branches"):
        workflow.validate()
    how, seconds, result = await decide(engine, ["ok 1"], strategy=Quorum(2))
    assert (how, seconds) == ("fails", 0)
    assert indices(result) == ([], [], [0])


async def test_partial_timeout_without_a_timeout_is_refused(engine):
    with pytest.raises(ConfigurationError, match="PartialTimeout needs a timeout"):
        await fan_out(play, ["ok 1"], strategy=PartialTimeout, engine=engine)

"""`JoinStrategy.Custom`: when the function is asked, what it is told, and what becomes of its answers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from cano import (
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinProgress,
    JoinStrategy,
    JoinVerdict,
    SplitTimeoutError,
    TaskError,
    Workflow,
    WorkflowError,
    fan_out,
)

pytestmark = pytest.mark.fault("F2")


async def play(outcome: float) -> float:
    """Positive: succeed after so many seconds; negative: fail."""
    await asyncio.sleep(abs(outcome))
    if outcome < 0:
        raise ValueError(outcome)
    return outcome


class Strategy:
    """Answers from a list, and remembers what it was told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[JoinProgress] = []

    def __call__(self, progress: JoinProgress) -> Any:
        self.asked.append(progress)
        return self.answers.pop(0) if self.answers else JoinVerdict.WAIT


async def test_asked_after_each_completion(engine):
    strategy = Strategy()
    strategy.answers = [JoinVerdict.WAIT, JoinVerdict.WAIT, JoinVerdict.PROCEED]
    result = await fan_out(play, [1, 4, -2, 3], strategy=JoinStrategy.Custom(strategy), engine=engine)
    assert strategy.asked == [
        JoinProgress(1, 0, 3, 4, 1.0),
        JoinProgress(1, 1, 2, 4, 2.0),
        JoinProgress(2, 1, 1, 4, 3.0),
    ]
    assert (result.outputs(), result.cancelled) == ([1, 3], (1,))


async def test_pending_counts_branches_that_do_not_exist_yet(engine):
    strategy = Strategy("wait", "proceed")
    await fan_out(play, [1] * 5, strategy=JoinStrategy.Custom(strategy), bulkhead=1, engine=engine)
    assert [progress.pending for progress in strategy.asked] == [4, 3]


async def test_a_failed_attempt_that_is_retried_is_no_completion(engine):
    from cano import Retry

    strategy = Strategy("wait", "proceed")
    await fan_out(play, [-1, 5], strategy=JoinStrategy.Custom(strategy), retry=Retry.fixed(1, 1), engine=engine)
    assert strategy.asked == [JoinProgress(0, 1, 1, 2, 3.0), JoinProgress(1, 1, 0, 2, 5.0)]


@pytest.mark.parametrize("answer", ["proceed", JoinVerdict.PROCEED])
async def test_proceed_cancels_the_rest(engine, answer):
    result = await fan_out(play, [1, 99], strategy=JoinStrategy.Custom(lambda _: answer), engine=engine)
    assert (result.outputs(), result.cancelled) == ([1], (1,))


@pytest.mark.parametrize("answer", ["fail", JoinVerdict.FAIL])
async def test_fail_is_a_join_error(engine, answer):
    with pytest.raises(JoinError) as caught:
        await fan_out(play, [1, 99], strategy=JoinStrategy.Custom(lambda _: answer), engine=engine)
    assert caught.value.result is not None
    assert caught.value.result.cancelled == (1,)
    (only,) = caught.value.exceptions
    assert isinstance(only, WorkflowError)


@pytest.mark.parametrize("verdict", ["wait", JoinVerdict.WAIT])
async def test_waiting_for_nothing_fails(engine, verdict):
    strategy = Strategy(verdict, verdict)
    with pytest.raises(JoinError) as caught:
        await fan_out(play, [1, -2], strategy=JoinStrategy.Custom(strategy), engine=engine)
    assert len(strategy.asked) == 2
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


@pytest.mark.parametrize("answer", ["proceed", "fail", "wait"])
@pytest.mark.parametrize("source", [[], lambda: iter(())], ids=["sized", "lazy"])
async def test_without_branches_it_is_asked_once(engine, answer, source):
    strategy = Strategy(answer)
    split = fan_out(play, source, strategy=JoinStrategy.Custom(strategy), engine=engine)
    if answer == "proceed":
        assert (await split).total_count == 0
    else:
        with pytest.raises(JoinError):
            await split
    assert strategy.asked == [JoinProgress(0, 0, 0, 0, 0.0)]


async def test_not_asked_again_after_the_decision(engine):
    strategy = Strategy("proceed")
    await fan_out(play, [1, 1, 1], strategy=JoinStrategy.Custom(strategy), engine=engine)
    assert len(strategy.asked) == 1


async def test_the_deadline_is_not_its_to_decide(engine):
    strategy = Strategy()
    with pytest.raises(SplitTimeoutError):
        await fan_out(play, [1, 99], strategy=JoinStrategy.Custom(strategy), timeout=2, engine=engine)
    assert len(strategy.asked) == 1


@pytest.mark.parametrize("answer", [None, True, 1, "Proceed", "", object(), b"proceed"])
async def test_any_other_answer_fails_the_state(engine, answer):
    with pytest.raises(WorkflowError, match="must answer JoinVerdict") as caught:
        await fan_out(play, [1, 99], strategy=JoinStrategy.Custom(lambda _: answer), engine=engine)
    assert not isinstance(caught.value, JoinError)


async def test_an_awaitable_answer_is_refused_and_closed(engine):
    async def verdict() -> str:
        return "proceed"

    with pytest.raises(WorkflowError, match="must answer JoinVerdict"):
        await fan_out(play, [1, 99], strategy=JoinStrategy.Custom(lambda _: verdict()), engine=engine)


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, StopIteration, GeneratorExit])
async def test_an_error_in_it_fails_the_state(engine, kind):
    trouble = kind("trouble")
    ended: list[float] = []

    async def branch(item: float) -> None:
        try:
            await asyncio.sleep(item)
        finally:
            ended.append(item)

    def strategy(_: JoinProgress) -> str:
        raise trouble

    with pytest.raises(TaskError) as caught:
        await fan_out(branch, [1, 99], strategy=JoinStrategy.Custom(strategy), engine=engine)
    assert caught.value.__cause__ is trouble
    assert ended == [1, 99]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_it_goes_through_after_clean_up(engine, kind):
    ended: list[float] = []

    async def branch(item: float) -> None:
        try:
            await asyncio.sleep(item)
        finally:
            ended.append(item)

    def strategy(_: JoinProgress) -> str:
        raise kind

    async def main() -> None:
        await fan_out(branch, [0, 99], strategy=JoinStrategy.Custom(strategy), engine=engine)

    with pytest.raises(kind):
        asyncio.run(main())
    assert ended == [0, 99]


async def test_where_an_error_of_it_happened(engine):
    def strategy(_: JoinProgress) -> str:
        raise ValueError

    workflow = Workflow(engine=engine).add_exit_state("end")
    workflow.register_map("fan", play, [1], JoinConfig(JoinStrategy.Custom(strategy), "end"))
    with pytest.raises(TaskError) as caught:
        await workflow.orchestrate("fan")
    assert caught.value.state == "fan"
    assert caught.value.path == ("fan",)


async def test_it_is_called_on_the_loops_thread(engine):
    threads: list[int] = []

    def strategy(_: JoinProgress) -> str:
        threads.append(threading.get_ident())
        return "proceed"

    await fan_out(lambda item: item, [1], strategy=JoinStrategy.Custom(strategy), engine=engine)
    assert threads == [threading.get_ident()]


@pytest.mark.parametrize("given", [None, 5, "proceed", int, JoinVerdict])
def test_it_must_be_a_function(given):
    with pytest.raises(ConfigurationError, match="needs a function"):
        JoinStrategy.Custom(given)


def test_it_cannot_be_async():
    async def strategy(_: JoinProgress) -> str:
        return "proceed"

    with pytest.raises(ConfigurationError, match="needs a plain function"):
        JoinStrategy.Custom(strategy)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["inline", "async", "no task", "the source's end"])
async def test_the_context_of_its_error_is_its_own(engine, source):
    """What the engine was handling when it asked has nothing to do with it."""

    def decide(progress: JoinProgress) -> str:
        if source == "the source's end" and progress.total is None:
            return "wait"
        try:
            raise KeyError("own")
        except KeyError:
            raise LookupError("of the strategy") from None

    def fail() -> None:
        raise OSError("of the branch")

    async def fail_later() -> None:
        await asyncio.sleep(1)
        fail()

    tasks = {
        "inline": [fail],
        "async": [fail_later],
        "no task": iter([object()]),
        "the source's end": iter([fail]),
    }[source]
    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    workflow.register_split("fan", tasks, JoinConfig(JoinStrategy.Custom(decide), "end"), inline=True)
    with pytest.raises(TaskError) as caught:
        await workflow.orchestrate("fan")
    cause = caught.value.__cause__
    assert isinstance(cause, LookupError)
    assert isinstance(cause.__context__, KeyError)
    assert cause.__context__.__context__ is None

"""What becomes of branches when a split goes on without them, and when the run is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from cano import (
    BranchCancelledError,
    CancelToken,
    JoinConfig,
    JoinError,
    JoinStrategy,
    MemoryStore,
    Retry,
    RunCancelledError,
    SplitTimeoutError,
    Workflow,
    fan_out,
)

pytestmark = pytest.mark.fault("F1", "F14")

Any_ = JoinStrategy.Any


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "cano"]


async def race(engine: str, loser: Callable[[], Any], **options: Any) -> Any:
    """Run a branch that wins after 1 s beside a loser."""

    async def branch(item: int) -> Any:
        if item == 0:
            await asyncio.sleep(1)
            return "won"
        return await loser()

    return await fan_out(branch, [0, 1], strategy=Any_, engine=engine, **options)


# --- losers ---


async def test_a_loser_is_cancelled_once_and_awaited(engine):
    loop = asyncio.get_running_loop()
    began = loop.time()
    log: list[tuple[str, float]] = []

    async def loser() -> None:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            log.append(("cancelled", loop.time() - began))
            await asyncio.sleep(1)
            await asyncio.sleep(1)
            log.append(("cleaned up", loop.time() - began))
            raise

    result = await race(engine, loser)
    assert (result.outputs(), result.cancelled) == (["won"], (1,))
    assert log == [("cancelled", 1), ("cleaned up", 3)]
    assert loop.time() - began == 3


async def test_losers_are_cancelled_in_index_order(engine):
    log: list[int] = []

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(1 if item == 2 else 99)
        except asyncio.CancelledError:
            log.append(item)
            raise

    await fan_out(branch, range(5), strategy=Any_, engine=engine)
    assert log == [0, 1, 3, 4]


async def test_nothing_is_written_after_the_split(engine):
    store = MemoryStore()

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(item)
        finally:
            await asyncio.sleep(0.5)
            store.append("writes", item)

    await fan_out(branch, [1, 2, 3], strategy=Any_, engine=engine)
    written = store.get("writes", list).copy()
    await asyncio.sleep(99)
    assert store.get("writes") == written == [1, 2, 3]


async def test_a_loser_that_swallows_its_cancellation_is_waited_for(engine):
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def loser() -> str:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
        return "too late"

    result = await race(engine, loser)
    assert (result.outputs(), result.cancelled) == (["won"], (1,))
    assert loop.time() - began == 3


async def test_a_loser_that_raises_is_cancelled_all_the_same_and_logged(engine, caplog):
    async def branch(item: int) -> int:
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            raise [OSError, OSError, KeyError][item % 3]("secret") from None
        return item

    result = await fan_out(branch, [1, 2, 3, 4], strategy=Any_, engine=engine)
    assert (result.errors, result.cancelled) == ((), (1, 2, 3))
    (line,) = logged(caplog)
    assert "OSError x2" in line
    assert "KeyError" in line
    assert "branches 1, 2, 3" in line
    assert "secret" not in line
    assert caplog.records[0].levelno == logging.WARNING


async def test_nothing_is_logged_for_losers_that_obey(engine, caplog):
    async def loser() -> None:
        await asyncio.sleep(99)

    await race(engine, loser)
    assert logged(caplog) == []


async def test_a_loser_that_goes_on_for_5_s_is_named_in_a_warning(engine, caplog):
    async def branch(item: int) -> int:
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            if item != 3:
                await asyncio.sleep(item)
            raise
        return item

    began = asyncio.get_running_loop().time()
    await fan_out(branch, [1, 3, 8, 9], strategy=Any_, engine=engine)
    assert asyncio.get_running_loop().time() - began == 1 + 9
    (line,) = logged(caplog)
    assert "branches 2, 3 go on running 5 s after they were cancelled" in line


async def test_a_loser_that_ends_within_5_s_is_not(engine, caplog):
    async def loser() -> None:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(4.9)

    await race(engine, loser)
    assert logged(caplog) == []


@pytest.mark.parametrize("late", ["value", "error"])
async def test_a_branch_that_ends_in_the_deciding_turn_but_after_it_is_cancelled(engine, late):
    gate = asyncio.get_running_loop().create_future()
    ran: list[int] = []

    async def branch(item: int) -> int:
        await gate
        ran.append(item)
        if item and late == "error":
            raise ValueError(item)
        return item

    asyncio.get_running_loop().call_later(1, gate.set_result, None)
    result = await fan_out(branch, range(3), strategy=Any_, engine=engine)
    assert (result.outputs(), result.cancelled) == ([0], (1, 2))


async def test_a_failure_and_a_success_in_one_turn_decide_by_their_order(engine):
    loop = asyncio.get_running_loop()
    gates = [loop.create_future() for _ in range(2)]

    async def branch(item: int) -> int:
        await gates[item]
        if item:
            raise ValueError(item)
        return item

    def open_gates(order: list[int]) -> None:
        for item in order:
            gates[item].set_result(None)

    loop.call_later(1, open_gates, [0, 1])
    assert (await fan_out(branch, range(2), strategy=Any_, engine=engine)).errors == ()
    gates[:] = [loop.create_future() for _ in range(2)]
    loop.call_later(1, open_gates, [1, 0])
    assert len((await fan_out(branch, range(2), strategy=Any_, engine=engine)).errors) == 1


async def test_a_branch_that_decides_at_once_keeps_the_next_from_starting(engine):
    started: list[int] = []

    async def branch(item: int) -> int:
        started.append(item)
        return item

    result = await fan_out(branch, range(5), strategy=Any_, engine=engine)
    assert started == [0]
    assert result.cancelled == (1, 2, 3, 4)


async def test_a_failure_at_once_keeps_the_next_from_starting(engine):
    started: list[int] = []

    async def branch(item: int) -> None:
        started.append(item)
        raise ValueError(item)

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, range(5), engine=engine)
    assert started == [0]
    assert caught.value.result is not None
    assert caught.value.result.cancelled == (1, 2, 3, 4)


async def test_a_branch_in_back_off_is_cancelled_without_delay(engine):
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        if item:
            raise ValueError(item)
        await asyncio.sleep(1)
        return item

    began = asyncio.get_running_loop().time()
    result = await fan_out(branch, [0, 1], strategy=Any_, retry=Retry.fixed(3, 10), engine=engine)
    assert asyncio.get_running_loop().time() - began == 1
    assert (tries, result.cancelled, result.errors) == ([0, 1], (1,), ())


async def test_a_loser_keeps_the_message_less_cancellation_of_asyncio(engine):
    seen: list[BaseException] = []

    async def loser() -> None:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError as error:
            seen.append(error)
            raise

    await race(engine, loser)
    (error,) = seen
    assert type(error) is asyncio.CancelledError


# --- a branch that is cancelled by somebody else ---


async def raise_cancelled() -> None:
    await asyncio.sleep(1)
    raise asyncio.CancelledError("by itself")


async def cancel_itself() -> None:
    await asyncio.sleep(1)
    task = asyncio.current_task()
    assert task is not None
    task.cancel("by itself")
    await asyncio.sleep(99)


async def await_a_cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(1, future.cancel, "by itself")
    await future


async def await_a_cancelled_task() -> None:
    task = asyncio.create_task(asyncio.sleep(99))
    asyncio.get_running_loop().call_later(1, task.cancel, "by itself")
    await task


@pytest.mark.parametrize("branch", [raise_cancelled, cancel_itself, await_a_cancelled_future, await_a_cancelled_task])
async def test_a_branch_cancelled_by_others_has_failed(engine, branch):
    with pytest.raises(JoinError) as caught:
        await fan_out(lambda _: branch(), [0], inline=True, engine=engine)
    (error,) = caught.value.exceptions
    assert isinstance(error, BranchCancelledError)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert error.__cause__.args == ("by itself",)
    assert caught.value.result is not None
    assert [row.error for row in caught.value.result.errors] == [error]


async def test_a_cancelled_branch_is_not_retried(engine):
    tries = 0

    async def branch(_: int) -> None:
        nonlocal tries
        tries += 1
        raise asyncio.CancelledError

    with pytest.raises(JoinError):
        await fan_out(branch, [0], retry=Retry.fixed(3, 1), engine=engine)
    assert tries == 1


async def test_a_states_task_that_is_cancelled_ends_the_run_cancelled(engine):
    workflow: Workflow[str] = Workflow(engine=engine).register("work", raise_cancelled).add_exit_state("end")
    with pytest.raises(asyncio.CancelledError):
        await workflow.orchestrate("work")


# --- interrupts ---


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("when", ["at once", "later", "in clean-up"])
def test_an_interrupt_in_a_branch_goes_through_after_clean_up(engine, kind, when):
    log: list[str] = []

    async def branch(item: int) -> None:
        try:
            if item == 1 and when == "at once":
                raise kind
            await asyncio.sleep(0)
            if item == 1 and when == "later":
                raise kind
            if item == 0 and when == "in clean-up":
                await asyncio.sleep(0)
                return
            await asyncio.sleep(99)
        finally:
            log.append(f"{item} over")
            if item == 1 and when == "in clean-up":
                raise kind

    async def main() -> None:
        try:
            await fan_out(branch, range(3), strategy=Any_, engine=engine)
        finally:
            log.append("run over")

    with pytest.raises(kind):
        asyncio.run(main())
    branches = {"at once": [1, 0], "later": [1, 0, 2], "in clean-up": [0, 1, 2]}[when]
    assert log == [*(f"{item} over" for item in branches), "run over"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_loop_is_usable_after_an_interrupt(engine, kind):
    async def branch(item: int) -> int:
        await asyncio.sleep(0)
        if item == 1:
            raise kind
        await asyncio.sleep(0)
        return item

    async def echo(item: int) -> int:
        await asyncio.sleep(0)
        return item

    with asyncio.Runner() as runner:
        with pytest.raises(kind):
            runner.run(fan_out(branch, range(3), engine=engine))
        assert runner.run(fan_out(echo, range(3), engine=engine)).outputs() == [0, 1, 2]


# --- cancelling the run ---


class Slow:
    """Branches that take a second or more to clean up."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def run(self, item: int) -> None:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            self.log.append(f"{item} cancelled")
            await asyncio.sleep(1 + item)
            self.log.append(f"{item} over")
            raise


EVERYTHING = ["0 cancelled", "1 cancelled", "0 over", "1 over"]


async def test_cancelling_the_awaiting_task_cancels_and_awaits_every_branch(engine):
    slow = Slow()
    task = asyncio.create_task(fan_out(slow.run, [0, 1], engine=engine))
    await asyncio.sleep(2)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("enough",)
    assert slow.log == EVERYTHING


async def test_the_message_survives_a_workflow(engine):
    slow = Slow()
    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    workflow.register_map("fan", slow.run, [0, 1], JoinConfig(JoinStrategy.All, "end"))
    task = asyncio.create_task(workflow.orchestrate("fan"))
    await asyncio.sleep(2)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("enough",)
    assert slow.log == EVERYTHING


async def test_cancelling_again_does_not_interrupt_the_clean_up(engine):
    slow = Slow()
    task = asyncio.create_task(fan_out(slow.run, [0, 1], engine=engine))
    await asyncio.sleep(2)
    for again in range(4):
        task.cancel(f"message {again}")
        await asyncio.sleep(0.125)
    assert not task.done()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("message 0",)
    assert slow.log == EVERYTHING


async def test_cancelling_the_run_while_losers_clean_up(engine):
    """The losers were sent their cancellation already; the run waits for them and then ends cancelled."""
    slow = Slow()

    async def branch(item: int) -> None:
        if item < 2:
            await slow.run(item)
        await asyncio.sleep(1)

    task = asyncio.create_task(fan_out(branch, [0, 1, 2], strategy=Any_, engine=engine))
    await asyncio.sleep(1.5)
    assert slow.log == ["0 cancelled", "1 cancelled"]
    task.cancel("late")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("late",)
    assert slow.log == EVERYTHING


async def test_cancelling_the_run_in_the_turn_in_which_it_was_decided(engine):
    loop = asyncio.get_running_loop()
    gate = loop.create_future()
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            await gate
        finally:
            ended.append(item)

    task = asyncio.create_task(fan_out(branch, [0, 1], engine=engine))
    await asyncio.sleep(1)

    def decide_and_cancel() -> None:
        gate.set_result(None)
        loop.call_soon(task.cancel)

    loop.call_soon(decide_and_cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [0, 1]


async def test_cancelling_the_run_from_inside_the_start_loop(engine):
    started: list[int] = []
    tasks: list[asyncio.Task[Any]] = []
    log: list[str] = []

    async def branch(item: int) -> None:
        started.append(item)
        if item == 1:
            tasks[0].cancel("from a branch")
        try:
            await asyncio.sleep(99)
        finally:
            log.append(f"{item} over")

    task = asyncio.create_task(fan_out(branch, range(4), bulkhead=3, engine=engine))
    tasks.append(task)
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("from a branch",)
    assert started == [0, 1, 2]
    assert log == ["0 over", "1 over", "2 over"]


async def test_cancelled_before_it_began(engine):
    called: list[int] = []

    async def branch(item: int) -> None:
        called.append(item)

    task = asyncio.create_task(fan_out(branch, [0], engine=engine))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert called == []


async def test_a_branch_in_back_off_does_not_hold_up_a_cancelled_run(engine):
    async def branch(_: int) -> None:
        raise ValueError

    task = asyncio.create_task(fan_out(branch, [0, 1], retry=Retry.fixed(3, 99), engine=engine))
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.get_running_loop().time() == began


async def test_a_cancelled_run_stores_no_result_and_starts_nothing(engine):
    started: list[int] = []

    async def branch(item: int) -> None:
        started.append(item)
        await asyncio.sleep(99)

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    join = JoinConfig(JoinStrategy.All, "end", bulkhead=2, store_partial_results=True)
    workflow.register_map("fan", branch, range(5), join)
    task = asyncio.create_task(workflow.orchestrate("fan"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert started == [0, 1]
    assert not workflow.store.contains_key("split_results")


async def test_a_token_cancels_the_branches_too(engine):
    slow = Slow()
    token = CancelToken()
    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    workflow.register_map("fan", slow.run, [0, 1], JoinConfig(JoinStrategy.All, "end"))
    asyncio.get_running_loop().call_later(2, token.cancel, "enough")
    with pytest.raises(RunCancelledError) as caught:
        await workflow.orchestrate("fan", cancel=token)
    assert caught.value.reason == "enough"
    assert slow.log == EVERYTHING


async def test_losers_that_raise_in_a_cancelled_run_are_logged(engine, caplog):
    async def branch(_: int) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            raise OSError

    task = asyncio.create_task(fan_out(branch, [0, 1], engine=engine))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (line,) = logged(caplog)
    assert "OSError x2" in line


async def test_an_abandoned_split_cancels_its_branches(engine):
    """Its coroutine was closed, as happens when a loop is torn down: nobody waits, but nothing goes on running."""
    log: list[str] = []

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            log.append(f"{item} over")

    split = fan_out(branch, [0, 1], engine=engine)
    split.send(None)
    split.close()
    await asyncio.sleep(1)
    assert log == ["0 over", "1 over"]


async def test_a_split_timeout_cancels_and_awaits(engine):
    slow = Slow()
    with pytest.raises(SplitTimeoutError):
        await fan_out(slow.run, [0, 1], timeout=2, engine=engine)
    assert slow.log == EVERYTHING


async def test_no_task_of_a_finished_split_is_left(engine):
    async def branch(item: int) -> int:
        await asyncio.sleep(item)
        return item

    await fan_out(branch, [1, 2, 3], strategy=Any_, engine=engine)
    current = asyncio.current_task()
    assert asyncio.all_tasks() == {current}


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_interrupt_in_a_source_goes_through_after_clean_up(engine, kind, asynchronous):
    log: list[str] = []

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(99)
        finally:
            log.append(f"{item} over")

    def source():
        yield 0
        raise kind

    async def asource():
        yield 0
        await asyncio.sleep(0)
        raise kind

    with pytest.raises(kind):
        asyncio.run(fan_out(branch, asource if asynchronous else source, engine=engine))
    assert log == ["0 over"]


# --- hostile exceptions and values ---


class Hostile(Exception):  # noqa: N818
    """Raises whenever somebody looks at it."""

    def __str__(self) -> str:
        raise RuntimeError("str")

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    __hash__ = Exception.__hash__

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def add_note(self, note: str) -> None:
        raise RuntimeError("note")


async def test_an_exception_that_raises_when_it_is_looked_at(engine, caplog):
    hostile = Hostile()

    async def branch(item: int) -> None:
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            raise Hostile from None
        raise hostile

    workflow: Workflow[str] = Workflow(engine=engine).add_exit_state("end")
    join = JoinConfig(JoinStrategy.All, "end", store_partial_results=True)
    workflow.register_map("fan", branch, [1, 2], join, retry=Retry.fixed(1, 1))
    with pytest.raises(JoinError) as caught:
        await workflow.orchestrate("fan")
    assert caught.value.exceptions[0] is hostile
    assert caught.value.result is not None
    assert caught.value.result.cancelled == (1,)
    assert len(logged(caplog)) == 1


async def test_a_value_that_raises_when_it_is_looked_at(engine):
    values = [Hostile(), Hostile()]

    async def branch(item: int) -> Any:
        await asyncio.sleep(item)
        return values[item]

    result = await fan_out(branch, range(2), engine=engine)
    assert all(got is given for got, given in zip(result.outputs(), values, strict=True))
    result = await fan_out(lambda item: item, values, inline=True, engine=engine)
    assert all(got is given for got, given in zip(result.outputs(), values, strict=True))


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit, BaseException, MemoryError])
@pytest.mark.parametrize("suspend", [False, True])
async def test_exceptions_with_a_meaning_of_their_own(engine, kind, suspend):
    async def branch(_: int) -> None:
        if suspend:
            await asyncio.sleep(1)
        raise kind("mine")

    with pytest.raises(JoinError) as caught:
        await fan_out(branch, [0], engine=engine)
    assert caught.value.result is not None
    error = caught.value.result.errors[0].error
    if kind is StopIteration:  # as in any coroutine
        assert type(error) is RuntimeError
        assert error.__cause__ is not None
        error = error.__cause__
    assert type(error) is kind


async def test_a_branch_whose_coroutine_was_awaited_elsewhere(engine):
    """A coroutine can be awaited once; what a misuse raises is the branch's own error."""

    async def work() -> None:
        await asyncio.sleep(0)

    used = work()
    await used
    with pytest.raises(JoinError) as caught:
        await fan_out(lambda _: used, [0], inline=True, engine=engine)
    assert isinstance(caught.value.exceptions[0], RuntimeError)

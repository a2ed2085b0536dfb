"""Hostile branches: whatever one does, it ends as it would as a task of asyncio's, and nobody else notices."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from tests.faults.hostile import HOSTILE, FutureLike, Scenario, World, Yields

from cano import (
    BranchCancelledError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    SplitTimeoutError,
    TaskError,
    Workflow,
    fan_out,
)
from cano.testing import VirtualTimeLoop

# A hang that no exception ends, since the hostile branch takes none, must end the process.
pytestmark = [pytest.mark.fault("F14"), pytest.mark.timeout(300, method="thread")]

CALM = [0, 1, 3, 4]
BAD = 2
STAND_INS = (BranchCancelledError, TaskError)  # for what cannot stand in a group


def outcome(value: Any = None, error: BaseException | None = None) -> tuple[str, Any]:
    """How a branch or a task ended, in words that can be compared."""
    if error is None:
        return "ok", value if isinstance(value, int | str | list | type) else type(value).__name__
    if type(error) in STAND_INS and error.__cause__ is not None:
        error = error.__cause__
    return "bad", type(error).__name__


# A task that awaits these is never heard of again; a branch fails.
BETTER = ("a_future_without_a_loop", "a_future_that_takes_no_callback")
CANCELLED = ("bad", "CancelledError")
HANGS = ("hangs", None)


async def as_tasks(scenario: Scenario) -> list[tuple[str, Any]]:
    world = World()
    tasks = [asyncio.ensure_future(scenario(world) if i == BAD else calm(i)) for i in range(5)]
    _, hanging = await asyncio.wait(tasks, timeout=1000)
    for one in hanging:
        one._log_destroy_pending = False  # type: ignore[attr-defined]
    ended = [how_it_ended(one) for one in tasks]
    return [*ended, ("cleaned", world.cleaned)]


def how_it_ended(task: asyncio.Future[Any]) -> tuple[str, Any]:
    if not task.done():
        return HANGS
    if task.cancelled():
        return CANCELLED
    error = task.exception()
    return outcome(task.result() if error is None else None, error)


async def calm(item: int) -> int:
    for _ in range(3):
        await asyncio.sleep(0.0005)
    return item


async def as_branches(scenario: Scenario, engine: str) -> list[tuple[str, Any]]:
    world = World()

    async def branch(item: int) -> Any:
        return await calm(item)

    def choose(item: int) -> Any:
        return scenario(world) if item == BAD else branch(item)

    try:
        result = await fan_out(choose, range(5), fail_fast=False, inline=True, timeout=1000, engine=engine)
    except (JoinError, SplitTimeoutError) as error:
        assert error.result is not None
        result = error.result
    assert len(result.successes) + len(result.errors) + len(result.cancelled) == result.total_count == 5
    rows = [result.by_index(i) for i in range(5)]
    ended = [HANGS if row is None else outcome(row.result, row.error) for row in rows]
    return [*ended, ("cleaned", world.cleaned)]


async def nothing_is_left(engine: str) -> None:
    """No task is left, and the loop is as good as new."""
    assert asyncio.all_tasks() == {asyncio.current_task()}
    result = await fan_out(calm, range(20), engine=engine)
    assert result.outputs() == list(range(20))


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_branch_ends_as_a_task_does(
    engine: str, name: str, debug: bool, tried: Any, monkeypatch: Any
) -> None:
    scenario = HOSTILE[name]
    # What debug mode says of slow steps, and asyncio of a task that it has lost, is not of interest here.
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    loop = VirtualTimeLoop()  # no Runner: some tasks hang for ever, and would not let it end
    loop.set_debug(debug)
    expected = loop.run_until_complete(as_tasks(scenario))
    loop.close()
    assert [expected[i] for i in CALM] == [("ok", i) for i in CALM]

    async def main() -> list[tuple[str, Any]]:
        try:
            return await as_branches(scenario, engine)
        finally:
            await nothing_is_left(engine)

    with asyncio.Runner(debug=debug, loop_factory=VirtualTimeLoop) as runner:
        ended = runner.run(main())
    assert ended == expected if name not in BETTER else ended[BAD][0] == "bad"
    tried(branches=1)


# --- what no task can show --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["at once", "twice", "on another thread"])
def test_a_future_that_calls_back_wrongly(engine: str, how: str, tried: Any) -> None:
    """Memory stays whole and everybody ends, whatever the hostile branch itself is told."""

    class Odd(FutureLike):
        def add_done_callback(self, callback: Any, *, context: Any = None) -> Any:
            if how == "at once":
                callback(self)
            elif how == "twice":
                for _ in range(2):
                    self.world.loop.call_soon(callback, self, context=context)
            elif how == "on another thread":
                stranger = threading.Thread(target=lambda: swallow(callback, self))
                stranger.start()
                stranger.join()
                self.world.loop.call_soon(callback, self, context=context)

    def swallow(callback: Any, argument: Any) -> None:
        try:
            callback(argument)
        except BaseException as error:
            refused.append(error)

    refused: list[BaseException] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: refused.append(context["exception"]))
        world = World()

        async def branch(item: int) -> Any:
            if item == BAD:
                return await Yields(Odd(world))
            return await calm(item)

        try:
            result = await fan_out(branch, range(5), strategy=JoinStrategy.Quorum(4), timeout=5, engine=engine)
            assert set(CALM) <= {row.task_index for row in result.successes} | set(result.cancelled)
        except JoinError as error:
            raise AssertionError("four branches did nothing wrong") from error
        await nothing_is_left(engine)

    asyncio.run(main())
    assert all(isinstance(error, Exception) for error in refused)
    tried(branches=1)


def virtual(main: Any) -> float:
    """Run a coroutine function in virtual time; how many seconds it took."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main())
        return runner.get_loop().time()


@pytest.mark.parametrize("times", [1, 3, 50])
def test_a_loser_that_goes_on_after_its_cancellation(engine: str, times: int, tried: Any) -> None:
    """It is sent its cancellation once, and waited for; others who cancel it again are its own business."""
    seen: list[int] = []

    async def stubborn() -> None:
        for _ in range(times):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                seen.append(1)
                asyncio.get_running_loop().call_later(1, asyncio.current_task().cancel)  # type: ignore[union-attr]

    async def branch(item: int) -> Any:
        if item == 0:
            await asyncio.sleep(1)
            return "won"
        return await stubborn()

    async def main() -> None:
        result = await fan_out(branch, [0, 1, 2], strategy=JoinStrategy.Any, engine=engine)
        assert (result.outputs(), result.cancelled) == (["won"], (1, 2))

    assert virtual(main) == times
    assert len(seen) == 2 * times
    tried(branches=2)


def test_a_branch_that_never_ends_ends_with_its_split(engine: str, tried: Any) -> None:
    async def never(_: int) -> None:
        while True:
            await asyncio.sleep(10)

    async def main() -> None:
        with pytest.raises(SplitTimeoutError):
            await fan_out(never, range(100), timeout=60, engine=engine)

    assert virtual(main) == 60
    tried(branches=100)


def test_a_branch_that_kills_its_siblings(engine: str, tried: Any) -> None:
    """All that one branch can reach of the others is their tasks: those it cancels have failed, the run goes on."""
    tasks: list[Any] = []

    async def branch(item: int) -> int:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(1)
        if item == 0:
            for task in tasks[1:]:
                task.cancel("by a sibling")
        await asyncio.sleep(1)
        return item

    async def main() -> None:
        with pytest.raises(JoinError) as caught:
            await fan_out(branch, range(50), fail_fast=False, engine=engine)
        result = caught.value.result
        assert result is not None
        assert (result.outputs(), len(result.errors), result.cancelled) == ([0], 49, ())
        assert {type(error) for error in caught.value.exceptions} == {BranchCancelledError}

    virtual(main)
    tried(branches=50)


def test_a_branch_that_ignores_being_closed(engine: str, tried: Any, monkeypatch: Any) -> None:
    """A run that is dropped closes its branches; one that yields again then is Python's `RuntimeError`, said and gone."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: unraisable.append(told.exc_type))

    async def branch(_: int) -> None:
        while True:
            try:
                await asyncio.sleep(1000)
            except GeneratorExit:
                pass

    async def main() -> None:
        coroutine = fan_out(branch, range(3), engine=engine)
        coroutine.send(None)
        coroutine.close()
        task = asyncio.current_task()
        for other in asyncio.all_tasks() - {task}:
            other.cancel()
        await asyncio.sleep(0)

    with asyncio.Runner() as runner:
        runner.run(main())
    gc.collect()
    assert set(unraisable) <= {RuntimeError}
    tried(branches=3)


class Bomb:
    """Raises when it is let go of."""

    def __del__(self) -> None:
        raise ValueError("from __del__")


def test_values_that_raise_when_they_are_let_go_of(engine: str, tried: Any, monkeypatch: Any) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: unraisable.append(told.exc_type))

    async def branch(item: int) -> Any:
        local = Bomb()
        await asyncio.sleep(0)
        if item % 2:
            raise ValueError(Bomb(), local)
        return Bomb()

    async def main() -> None:
        for _ in range(3):
            with pytest.raises(JoinError):
                await fan_out(branch, (Bomb() if i < 0 else i for i in range(10)), fail_fast=False, engine=engine)
            result = await fan_out(lambda _: Bomb(), range(5), inline=True, engine=engine)
            del result
        gc.collect()

    asyncio.run(main())
    gc.collect()
    assert set(unraisable) == {ValueError}
    assert len(unraisable) == 3 * (10 + 10 + 5)  # each once
    tried(branches=45)


class Item:
    """An item, and a state, that raises whenever it is compared, hashed or shown."""

    broken = False

    def _maybe(self, answer: Any) -> Any:
        if Item.broken:
            raise RuntimeError("do not look")
        return answer

    def __eq__(self, other: object) -> bool:
        return bool(self._maybe(self is other))

    def __hash__(self) -> int:
        return int(self._maybe(5))

    def __repr__(self) -> str:
        return str(self._maybe("item"))


def test_items_that_raise_when_they_are_compared_hashed_or_shown(engine: str, tried: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(Item, "broken", True)
    items = [Item() for _ in range(10)]

    async def branch(item: Item) -> Item:
        await asyncio.sleep(0)
        if item is items[3]:
            raise ValueError
        return item

    async def main() -> None:
        with pytest.raises(JoinError) as caught:
            await fan_out(branch, items, fail_fast=False, engine=engine)
        result = caught.value.result
        assert result is not None
        assert [id(value) for value in result.outputs()] == [id(item) for item in items if item is not items[3]]

    asyncio.run(main())
    tried(branches=10)


def test_a_state_that_turns_hostile_half_way(engine: str, tried: Any, monkeypatch: Any) -> None:
    """The run ends with an error, once, and the next one is right."""
    start, joined, done = Item(), Item(), Item()

    async def turn(_: int) -> int:
        Item.broken = True
        return 1

    async def finish() -> Any:
        return done

    monkeypatch.setattr(Item, "broken", False)
    workflow: Workflow[Any] = Workflow(engine=engine)
    workflow.register_map(start, turn, [1, 2], JoinConfig(JoinStrategy.All, joined))
    workflow.register(joined, finish, inline=True).add_exit_state(done)

    async def main() -> None:
        try:
            await workflow.orchestrate(start)
        except Exception as error:
            assert "do not look" in repr(error) + repr(error.__cause__)
        Item.broken = False
        workflow.register_map(start, calm, [1, 2], JoinConfig(JoinStrategy.All, joined), replace=True)
        assert await workflow.orchestrate(start) is done

    asyncio.run(main())
    tried(runs=2)


def test_a_stall_is_named_in_the_log(engine: str, caplog: Any, tried: Any) -> None:
    """The loop's debug mode says which step took long; that of a branch, too. The timers of the others are late, not lost."""

    async def branch(item: int) -> int:
        await asyncio.sleep(0)
        if item == BAD:
            time.sleep(0.15)  # noqa: ASYNC251 - that is what it does
        await asyncio.sleep(0.001)
        return item

    with caplog.at_level(logging.WARNING, "asyncio"), asyncio.Runner(debug=True) as runner:
        result = runner.run(fan_out(branch, range(5), engine=engine))
    assert result.outputs() == list(range(5))
    lines = [record.getMessage() for record in caplog.records if "took 0." in record.getMessage()]
    assert any("cano" in line or "_run_batch" in line for line in lines), lines
    tried(branches=5)


def test_a_hostile_branch_is_let_go_of(engine: str, tried: Any) -> None:
    """Nothing of a branch is kept by the ways in which it failed."""

    class Thing:
        pass

    things: list[weakref.ref[Thing]] = []

    async def branch(item: int) -> None:
        local = Thing()
        things.append(weakref.ref(local))
        await HOSTILE[names[item]](World())
        del local

    names = ["awaits_itself", "yields_garbage", "raises_a_ring", "recurses_for_ever"]

    async def main() -> None:
        with pytest.raises(JoinError):
            await fan_out(branch, range(len(names)), fail_fast=False, engine=engine)

    asyncio.run(main())
    gc.collect()
    assert [ref() for ref in things] == [None] * len(names)
    tried(branches=len(names))

"""Very many branches to cancel: some in each turn of the loop, so that others have theirs; and none is forgotten."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from cano import JoinConfig, JoinStrategy, Retry, RunEvent, SplitResult, Task, Workflow, fan_out, sleep
from cano._engine.threads import pool

pytestmark = pytest.mark.fault("F1", "F14")

COUNT = 1000
IN_A_TURN = 128


class Branches:
    """Branches that wait until they are cancelled, and clean up; the last one wins as soon as it is let."""

    def __init__(self) -> None:
        self.may_win = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()  # all of them
        self.told: list[int] = []
        self.ended: list[int] = []
        self.turns: list[int] = []  # how many had been told, in each turn of the loop

    async def __call__(self, item: int) -> int:
        try:
            if item == COUNT - 1:
                self.begun.set()
                await self.may_win
                return item
            await self.wait(item)
        except asyncio.CancelledError:
            self.told.append(item)
            await asyncio.sleep(1)
            self.ended.append(item)
            raise
        return item

    async def wait(self, item: int) -> None:
        await asyncio.sleep(1000)

    async def watch(self) -> None:
        while len(self.told) < COUNT - 1:
            self.turns.append(len(self.told))
            await asyncio.sleep(0)

    def split(self, engine: str) -> Any:
        return fan_out(self, range(COUNT), strategy=JoinStrategy.Any, engine=engine)


@pytest.mark.parametrize("introspect", [False, True])
async def test_they_are_told_in_the_order_of_their_starts_some_in_each_turn(engine, introspect):
    branches = Branches()
    join = JoinConfig(JoinStrategy.Any, "end", store_partial_results=True)
    workflow: Workflow[str] = Workflow(engine=engine, introspect=introspect)
    workflow.register_map("split", branches, range(COUNT), join).add_exit_state("end")
    run = asyncio.create_task(workflow.orchestrate("split"))
    await branches.begun.wait()
    await asyncio.sleep(0)
    branches.may_win.set_result(None)
    await branches.watch()
    steps = [after - before for before, after in zip(branches.turns, branches.turns[1:], strict=False)]
    if introspect:  # real tasks: nobody could tell that one of them wakes before it has been told
        assert [step for step in [*steps, COUNT - 1 - sum(steps)] if step] == [COUNT - 1]
    else:
        assert max(steps) <= 2 * IN_A_TURN  # where the watcher has its turn between two is not the engine's to say
        assert sum(step > 0 for step in steps) >= COUNT // IN_A_TURN - 2
    assert await run == "end"
    result = workflow.store.get("split_results", SplitResult)
    assert branches.told == sorted(branches.ended) == list(range(COUNT - 1))
    assert (result.outputs(), result.cancelled) == ([COUNT - 1], tuple(range(COUNT - 1)))


async def test_one_that_wakes_by_itself_before_it_is_told_is_told_with_that(engine):
    """What it waited for is there, and it goes no further: as a task whose `cancel` came before its turn."""
    gate = asyncio.get_running_loop().create_future()
    last = COUNT - 2
    kinds: list[str] = []

    class Ends(Branches):
        async def wait(self, item: int) -> None:
            if item == 0:  # the first that is told lets the last one end
                try:
                    await super().wait(item)
                finally:
                    gate.set_result(None)
            elif item == last:
                await gate
            else:
                await super().wait(item)

    class Notes:
        def on_branch_start(self, event: RunEvent) -> None:
            if event.branch == last:
                kinds.append(event.kind)

        on_branch_success = on_branch_failure = on_branch_cancelled = on_branch_start

    branches = Ends()
    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register_map("split", branches, range(COUNT), JoinConfig(JoinStrategy.Any, "end")).add_exit_state("end")
    workflow.add_observer(Notes())
    run = asyncio.create_task(workflow.orchestrate("split"))
    await branches.begun.wait()
    await asyncio.sleep(0)
    branches.may_win.set_result(None)
    assert await run == "end"
    assert kinds == ["branch_start", "branch_cancelled"]
    assert branches.told != list(range(COUNT - 1))
    assert sorted(branches.told) == sorted(branches.ended) == list(range(COUNT - 1))


@pytest.mark.parametrize("introspect", [False, True])
@pytest.mark.parametrize("shared", ["future", "task"])
async def test_they_wait_for_the_same_which_the_first_of_them_cancels(engine, shared, introspect):
    """That wakes all others before their turn to be told has come; each is told once, and cleans up."""
    loop = asyncio.get_running_loop()
    common: asyncio.Future[Any] = loop.create_future()
    if shared == "task":
        common = loop.create_task(_wait_for(common))

    class Together(Branches):
        async def wait(self, item: int) -> None:
            await common

    branches = Together()
    workflow: Workflow[str] = Workflow(engine=engine, introspect=introspect)
    workflow.register_map("split", branches, range(COUNT), JoinConfig(JoinStrategy.Any, "end")).add_exit_state("end")
    run = asyncio.create_task(workflow.orchestrate("split"))
    await branches.begun.wait()
    await asyncio.sleep(0)
    branches.may_win.set_result(None)
    assert await run == "end"
    assert sorted(branches.told) == sorted(branches.ended) == list(range(COUNT - 1))


async def _wait_for(future: asyncio.Future[Any]) -> Any:
    return await future


async def test_the_time_of_those_that_have_not_been_told_is_up(engine):
    """They are told once, as losers; their own limit does not cut off their clean-up."""
    branches = Branches()

    class Limited(Task[int]):
        def __init__(self, item: int) -> None:
            self.item = item

        @property
        def config(self) -> dict[str, Any]:
            return {"attempt_timeout": 10 if self.item > COUNT - 200 else 1000}

        async def run(self) -> int:
            return await branches(self.item)

    tasks = [Limited(item) for item in range(COUNT)]
    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register_split("split", tasks, JoinConfig(JoinStrategy.Any, "end")).add_exit_state("end")
    run = asyncio.create_task(workflow.orchestrate("split"))
    await branches.begun.wait()
    await asyncio.sleep(9)
    branches.may_win.set_result(None)
    loop: Any = asyncio.get_running_loop()
    while len(branches.told) < 2 * IN_A_TURN:
        await asyncio.sleep(0)
    assert len(branches.told) < COUNT - 200 - 2 * IN_A_TURN
    loop._virtual += 1.5  # the limits of the last 200 are due
    assert await run == "end"
    assert sorted(branches.told) == sorted(branches.ended) == list(range(COUNT - 1))


async def test_nobody_is_named_who_ends_as_soon_as_he_is_told(engine, caplog):
    """The seconds that a loser may take count from when the last of them was told, however long that takes."""

    class Obedient(Branches):
        async def __call__(self, item: int) -> int:
            self.told.append(item)
            if item == COUNT - 1:
                await self.may_win
                return item
            await asyncio.sleep(1000)
            return item

    branches = Obedient()
    run = asyncio.create_task(branches.split(engine))
    while len(branches.told) < COUNT:
        await asyncio.sleep(0)
    branches.may_win.set_result(None)
    loop: Any = asyncio.get_running_loop()
    turns = 0
    while not run.done():
        loop._virtual += 1  # somebody else's work, in each turn
        turns += 1
        await asyncio.sleep(0)
    assert turns > 6
    assert (await run).cancelled == tuple(range(COUNT - 1))
    assert caplog.records == []


@pytest.mark.parametrize("how", ["pause", "retry"])
async def test_very_many_that_are_due_at_one_moment_go_on_in_one_turn(engine, how):
    """Those that take one step more are behind all others: the same on both engines."""
    tries: set[int] = set()

    async def branch(item: int) -> int:
        if how == "pause":
            await sleep(1)
        elif item not in tries:
            tries.add(item)
            raise OSError
        if item < 10:
            await asyncio.sleep(0)
        return item

    split = fan_out(branch, range(300), strategy=JoinStrategy.Quorum(150), retry=Retry.fixed(1, 1), engine=engine)
    assert (await split).cancelled == (*range(10), *range(160, 300))


async def test_the_run_is_cancelled_and_again_while_they_are_told(engine):
    branches = Branches()
    split = asyncio.create_task(branches.split(engine))
    await branches.begun.wait()
    await asyncio.sleep(0)
    split.cancel()
    while len(branches.told) < 2 * IN_A_TURN:
        await asyncio.sleep(0)
    assert len(branches.told) < COUNT
    split.cancel()
    with pytest.raises(asyncio.CancelledError):
        await split
    assert branches.told == list(range(COUNT))  # each once
    assert sorted(branches.ended) == list(range(COUNT))


async def test_they_end_by_themselves_while_they_are_told_and_the_run_is_cancelled_again(engine):
    count = 4000  # more than are told, and than are looked at, in a turn
    gate = asyncio.get_running_loop().create_future()
    begun: list[int] = []
    ended: list[int] = []

    async def branch(item: int) -> None:
        begun.append(item)
        try:
            await asyncio.shield(gate)
        finally:
            ended.append(item)
            if item % 2:
                await asyncio.shield(asyncio.sleep(1))

    split = asyncio.create_task(fan_out(branch, range(count), engine=engine))
    while len(begun) < count:
        await asyncio.sleep(0)
    split.cancel()
    await asyncio.sleep(0)
    split.cancel()
    gate.set_result(None)
    await asyncio.sleep(0)
    split.cancel()
    with pytest.raises(asyncio.CancelledError):
        await split
    assert sorted(ended) == list(range(count))


@pytest.mark.parametrize("told", [0, 2 * IN_A_TURN])
async def test_the_caller_is_gone(engine, told):
    """Nobody may run the loop for long then: all are told at once."""
    branches = Branches()
    split = branches.split(engine)
    split.send(None)
    await branches.begun.wait()
    if told:
        branches.may_win.set_result(None)
        while len(branches.told) < told:
            await asyncio.sleep(0)
        assert len(branches.told) < COUNT - IN_A_TURN
    split.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(branches.told) == list(range(COUNT - bool(told)))
    await asyncio.sleep(2)
    assert sorted(branches.ended) == sorted(branches.told)


async def test_one_whose_cancellation_raises_does_not_keep_the_others_from_theirs(engine):
    class Raises(asyncio.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            raise OSError("not now")

    waits = [Raises() for _ in range(2)]

    class Some(Branches):
        async def wait(self, item: int) -> None:
            if item in (300, 301):
                await waits[item - 300]
            else:
                await super().wait(item)

    complaints: list[BaseException] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    branches = Some()
    split = asyncio.create_task(branches.split(engine))
    await branches.begun.wait()
    await asyncio.sleep(0)
    branches.may_win.set_result(None)
    await asyncio.sleep(10)
    assert sorted(branches.ended) == [item for item in range(COUNT - 1) if item not in (300, 301)]
    assert [type(error) for error in complaints] == [OSError, OSError]
    for wait in waits:
        wait.set_result(None)
    result = await split
    assert result.cancelled == tuple(range(COUNT - 1))


@pytest.mark.alone
@pytest.mark.real_time
async def test_sync_work_that_waits_for_a_thread_does_not_begin_any_more(engine):
    """Between the decision and its turn to be told, neither."""
    held = threading.Event()
    begun = threading.Semaphore(0)
    ran: list[int] = []
    decide = asyncio.get_running_loop().create_future()

    def work(item: int) -> None:
        ran.append(item)
        begun.release()
        held.wait(60)

    async def wins() -> None:
        await decide

    branches: list[Any] = [partial(work, item) for item in range(COUNT)]
    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register_split("split", [*branches, wins], JoinConfig(JoinStrategy.Any, "end")).add_exit_state("end")
    run = asyncio.create_task(workflow.orchestrate("split"))
    for _ in range(pool.limit):
        assert await asyncio.to_thread(begun.acquire, timeout=60)
    decide.set_result(None)
    assert await run == "end"
    held.set()
    await fan_out(lambda _: None, range(2 * pool.limit), engine=engine)  # queued behind what there was
    assert len(ran) == pool.limit


async def test_one_whose_cancellation_raises_where_the_first_steps_decide(engine):
    """The run waits for it, and for all others."""

    class Raises(asyncio.Future[None]):
        def cancel(self, msg: Any = None) -> bool:
            raise OSError("not now")

    loop = asyncio.get_running_loop()
    complaints: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context["exception"]))
    wait = Raises()
    loop.call_later(5, wait.set_result, None)
    living: set[int] = set()
    told: list[int] = []

    async def branch(item: int) -> int:
        if item == 9:
            return item
        living.add(item)
        try:
            await (wait if item == 2 else asyncio.sleep(1000))
        except asyncio.CancelledError:
            told.append(item)
            raise
        finally:
            living.discard(item)
        return item

    result = await fan_out(branch, range(10), strategy=JoinStrategy.Any, engine=engine)
    assert (result.outputs(), living, sorted(told)) == ([9], set(), list(range(9)))
    assert [type(error) for error in complaints] == [OSError]


class AtOnce:
    """Looks like a future, and calls back from `cancel` itself, where a future has the loop do so."""

    _asyncio_future_blocking = False

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._callbacks: list[Any] = []
        self._cancelled = False

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return self._cancelled

    def add_done_callback(self, function: Any, *, context: Any = None) -> None:
        self._callbacks.append((function, context))

    def cancel(self, msg: Any = None) -> bool:
        self._cancelled = True
        for function, context in self._callbacks:
            context.run(function, self)
        return True

    def result(self) -> None:
        raise asyncio.CancelledError

    def __await__(self) -> Any:
        self._asyncio_future_blocking = True
        yield self
        return self.result()


async def test_what_a_loser_waits_for_calls_back_as_it_is_cancelled(engine):
    """Where a branch may not go on at once, it does in the loop's next turn. (With tasks asyncio raises at it.)"""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    win = loop.create_future()
    loop.call_later(1, win.set_result, None)
    told: list[int] = []

    async def branch(item: int) -> int:
        if item == 3:
            await win
            return item
        try:
            await AtOnce()  # type: ignore[misc]
        except asyncio.CancelledError:
            told.append(item)
            raise
        return item

    result = await fan_out(branch, range(4), strategy=JoinStrategy.Any, engine=engine)
    assert (result.outputs(), told) == ([3], [0, 1, 2])
    assert loop.time() == 1

"""Workflows of every shape, for tests that disturb a run at each of its turns; and what must hold whatever was done.

A turn is one round of the event loop. Where nothing depends on real time, a run takes the same turns each time, so "for
every turn" reaches every place at which anything from outside can happen to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

from tests.contract.given import Boom, Observer, S, join

import cano
from cano import CancelToken, JoinStrategy, Retry, TaskResult, Workflow


class Trace:
    """Who is at work; what a finished run may not leave behind.

    Attributes:
        swallows: Whether whoever is at work takes no notice of its cancellation, once it has cleaned up.
        token: What ends the runs of workflows, where the test has one.
        observer: Who is told of them, likewise.
    """

    def __init__(self, swallows: bool = False) -> None:
        self.begun = 0
        self.ended = 0
        self.cleaned = 0
        self.swallows = swallows
        self.token: CancelToken | None = None
        self.observer: Observer | None = None

    async def work(self, seconds: float, value: Any = None, clean_up: float = 0) -> Any:
        self.begun += 1
        try:
            await asyncio.sleep(seconds)
            await asyncio.sleep(0)
            await cano.sleep(seconds)
            return value
        except asyncio.CancelledError:
            if clean_up:
                await asyncio.sleep(clean_up)
                self.cleaned += 1
            if not self.swallows:
                raise
            await asyncio.sleep(0)
            return value
        finally:
            self.ended += 1


def chain(trace: Trace, workflow: Workflow[Any]) -> None:
    workflow.register(S.START, lambda: trace.work(1, S.WORK), inline=True)
    workflow.register(S.WORK, lambda: trace.work(0, S.DONE), inline=True)


def retried(trace: Trace, workflow: Workflow[Any]) -> None:
    tries: list[int] = []

    async def flaky() -> Any:
        tries.append(1)
        await trace.work(1)
        if len(tries) % 3:
            raise Boom
        return S.DONE

    workflow.register(S.START, flaky, retry=Retry.fixed(2, 1), attempt_timeout=10)


def timed_out(trace: Trace, workflow: Workflow[Any]) -> None:
    tries: list[int] = []

    async def slow_at_first() -> Any:
        tries.append(1)
        return await trace.work(5 if len(tries) % 2 else 1, S.DONE, clean_up=0.5)

    workflow.register(S.START, slow_at_first, retry=Retry.fixed(1, 0), attempt_timeout=4)


def fan(trace: Trace, workflow: Workflow[Any]) -> None:
    async def branch(item: int) -> int:
        await trace.work(item, clean_up=item)
        return item

    workflow.register_map(S.START, branch, [1, 2, 0, 3], join(S.JOINED, store_partial_results=True))
    workflow.register(S.JOINED, lambda: trace.work(1, S.DONE), inline=True)


def bulkhead(trace: Trace, workflow: Workflow[Any]) -> None:
    workflow.register_map(
        S.START, lambda item: trace.work(item % 2), lambda: iter(range(5)), join(bulkhead=2), inline=True
    )


def quorum(trace: Trace, workflow: Workflow[Any]) -> None:
    async def branch(item: int) -> int:
        await trace.work(item, clean_up=1)
        if item == 2:
            raise Boom
        return item

    workflow.register_map(S.START, branch, [1, 2, 3, 9, 9], join(strategy=JoinStrategy.Quorum(2)))


def hedged(trace: Trace, workflow: Workflow[Any]) -> None:
    config = join(strategy=JoinStrategy.Any, hedge_delay=1)
    workflow.register_map(S.START, lambda item: trace.work(item, clean_up=0.5), [5, 4, 1], config, inline=True)


def partial(trace: Trace, workflow: Workflow[Any]) -> None:
    config = join(strategy=JoinStrategy.PartialTimeout, timeout=3)
    workflow.register_map(S.START, lambda item: trace.work(item, clean_up=1), [1, 9, 9], config, inline=True)


def retried_branches(trace: Trace, workflow: Workflow[Any]) -> None:
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        await trace.work(1)
        if tries.count(item) % 2:
            raise Boom
        return item

    workflow.register_map(S.START, branch, range(3), join(bulkhead=2), retry=Retry.fixed(1, 2), attempt_timeout=9)


def lazy(trace: Trace, workflow: Workflow[Any]) -> None:
    async def source() -> Any:
        trace.begun += 1
        try:
            for number in range(3):
                await asyncio.sleep(1)
                yield number
        finally:
            trace.ended += 1

    workflow.register_map(S.START, lambda item: trace.work(item), source, join(bulkhead=2), inline=True)


def at_run_time(trace: Trace, workflow: Workflow[Any]) -> None:
    async def choose() -> Any:
        await trace.work(1)
        return TaskResult.Split([lambda: trace.work(1), lambda: trace.work(2, clean_up=1)], join(S.DONE))

    workflow.register(S.START, choose)


def nested(trace: Trace, workflow: Workflow[Any]) -> None:
    inner = Workflow(engine=workflow.engine).add_exit_state(S.DONE)
    inner.register_map(S.START, lambda item: trace.work(item, clean_up=1), [1, 2], join(), inline=True)

    async def branch(item: int) -> Any:
        return await inner.orchestrate(S.START, timeout=100)

    workflow.register_map(S.START, branch, range(2), join(S.WORK))
    workflow.register(S.WORK, lambda: inner.orchestrate(S.START), inline=True)


SHAPES: dict[str, Callable[[Trace, Workflow[Any]], None]] = {
    shape.__name__: shape
    for shape in (
        chain, retried, timed_out, fan, bulkhead, quorum, hedged, partial, retried_branches, lazy, at_run_time, nested,
    )
}  # fmt: skip


def build(name: str, engine: str, introspect: bool = False) -> tuple[Trace, Workflow[Any], Observer]:
    trace, observer = Trace(), Observer()
    workflow = Workflow(engine=engine, introspect=introspect).add_exit_state(S.DONE).add_observer(observer)
    SHAPES[name](trace, workflow)
    return trace, workflow, observer


class Turns:
    """Counts the turns of the running loop and does something before one of them, or some."""

    def __init__(self, at: int | tuple[int, ...] = -1, do: Callable[[], object] | None = None) -> None:
        self.count = 0
        self.times: list[float] = []
        self._at = (at,) if isinstance(at, int) else at
        self._do = do

    def __enter__(self) -> Self:
        loop: Any = asyncio.get_running_loop()
        original = self._original = loop._run_once

        def run_once() -> None:
            self.count += 1
            self.times.append(loop.time())
            if self.count in self._at and self._do is not None:
                self._do()
            original()

        loop._run_once = run_once
        return self

    def __exit__(self, *_: object) -> None:
        del asyncio.get_running_loop()._run_once  # type: ignore[attr-defined]


async def undisturbed(name: str, engine: str) -> Turns:
    """Run a shape, and count its turns."""
    _, workflow, _ = build(name, engine)
    with Turns() as turns:
        assert await asyncio.create_task(workflow.orchestrate(S.START)) is S.DONE
    return turns


async def nothing_is_left(trace: Trace, workflow: Workflow[Any], observer: Observer) -> None:
    """What holds after every run, however it ended."""
    assert trace.begun == trace.ended
    assert asyncio.all_tasks() == {asyncio.current_task()}
    before = workflow.store.snapshot()
    events = len(observer.events)
    await asyncio.sleep(1000)
    assert trace.begun == trace.ended
    assert workflow.store.snapshot() == before
    assert len(observer.events) == events
    balanced(observer)


def balanced(observer: Observer) -> None:
    """Whatever began has ended, and the end of the workflow came last."""
    if not observer.events:
        return  # the run was ended before it began
    kinds = observer.kinds
    assert kinds[0] == "workflow_start"
    assert kinds[-1] == "workflow_end"
    assert kinds.count("workflow_start") == kinds.count("workflow_end") == 1
    entered = [event.state for event in observer.of("state_enter")]
    left = [event.state for event in observer.of("state_exit")]
    if observer.one("workflow_end").error is None:
        left.append(observer.one("workflow_end").value)  # an exit state is entered and not left
    assert entered == left
    assert kinds.count("task_start") >= kinds.count("task_success") + kinds.count("task_failure")
    assert kinds.count("split_start") == kinds.count("join")
    live: set[int] = set()
    for event in observer.events:
        if event.branch is None:
            continue
        if event.kind == "branch_start":
            assert event.branch not in live
            live.add(event.branch)
        elif event.kind in ("branch_success", "branch_failure", "branch_cancelled"):
            live.discard(event.branch)
        elif event.kind == "retry":
            live.remove(event.branch)
    assert not live
    times = [event.at for event in observer.events]
    assert times == sorted(times)

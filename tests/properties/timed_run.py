"""Runs a timed split on an engine, in virtual time, and tells what the models tell."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

from tests.properties.timed_model import in_order

from cano import (
    CancelToken,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    RunCancelledError,
    SplitTimeoutError,
    Workflow,
    WorkflowTimeoutError,
    as_completed,
    fan_out,
    sleep,
)
from cano.results import SplitResult
from cano.testing import VirtualTimeLoop

if TYPE_CHECKING:
    from tests.properties.timed_splits import Attempt, Branch, TimedSplit


class Sized:
    """Items with a length, that are no sequence."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Limited:
    """A branch's task with a limit of its own."""

    def __init__(self, run: Any, limit: float) -> None:
        self.run = run
        self.config = {"attempt_timeout": limit}


class TimedRun:
    """One run of a timed split."""

    def __init__(self, split: TimedSplit, engine: str) -> None:
        self.split = split
        self.engine = engine
        self.log: list[tuple[Any, ...]] = []
        self.taken: list[tuple[Any, ...]] = []
        self.attempts: Counter[int] = Counter()
        self.token = CancelToken()

    def run(self) -> tuple[Any, ...]:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            self.loop = runner.get_loop()
            return runner.run(self.main())

    async def main(self) -> tuple[Any, ...]:
        self.began = self.loop.time()
        door = {"fan_out": self.fan, "workflow": self.workflow, "as_completed": self.stream}[self.split.door]
        task = asyncio.create_task(self.through(door))
        if self.split.stop is not None and self.split.stop[0] != "run's timeout":
            who, when = self.split.stop
            self.loop.call_later(when, task.cancel if who == "task" else self.token.cancel)
        verdict, ended, *facts = await task
        await asyncio.sleep(1000)  # whatever outlives its run is in the log
        return verdict, in_order(self.log), ended, *facts

    async def through(self, door: Callable[[], Any]) -> tuple[Any, ...]:
        """Run it, and say what came of it and when."""
        try:
            verdict, *facts = await door()
        except asyncio.CancelledError:
            verdict, facts = "stopped by the task", []
        except RunCancelledError:
            verdict, facts = "stopped by the token", []
        except WorkflowTimeoutError:
            verdict, facts = "stopped by the run's timeout", []
        if self.split.door == "as_completed":
            facts = [self.taken]
        return verdict, self.now(), *facts

    def now(self) -> float:
        return self.loop.time() - self.began

    def note(self, index: int, *facts: Any) -> None:
        self.log.append((self.now(), index, *facts))

    # --- the doors ---

    async def fan(self) -> tuple[Any, ...]:
        try:
            result = await fan_out(
                self.branch, self.source(list(range(len(self.split.branches)))), strategy=self.strategy(),
                engine=self.engine, **self.joining(), **self.options(), **self.attempting(),
            )  # fmt: skip
        except (JoinError, SplitTimeoutError) as error:
            return failed(error)
        return "proceeds", *told(result)

    async def workflow(self) -> tuple[Any, ...]:
        split = self.split
        workflow: Workflow[str] = Workflow(engine=self.engine, introspect=split.introspect).add_exit_state("end")
        join = JoinConfig(self.strategy(), "end", **self.joining(), **self.options())
        tasks = [self.task(index, branch) for index, branch in enumerate(split.branches)]
        workflow.register_split("split", self.source(tasks), join, **self.attempting())
        timeout = split.stop[1] if split.stop is not None and split.stop[0] == "run's timeout" else None
        try:
            report = await workflow.execute("split", timeout=timeout, cancel=self.token)
        except (JoinError, SplitTimeoutError) as error:
            return failed(error)
        return "proceeds", *told(report.splits[0])

    async def stream(self) -> tuple[Any, ...]:
        split = self.split
        rows = as_completed(
            self.branch, self.source(list(range(len(split.branches)))), ordered=split.ordered, buffer=split.buffer,
            engine=self.engine, **self.options(), **self.attempting(),
        )  # fmt: skip
        try:
            async for row in rows:
                self.taken.append((self.now(), *told_of(row)))
                if len(self.taken) == split.leaves:
                    return ("left",)
                slow = split.slow[len(self.taken) - 1]
                if slow:
                    await asyncio.sleep(slow)
        except SplitTimeoutError:
            return ("times out",)
        finally:
            await rows.aclose()
        return ("proceeds",)

    # --- what it is given ---

    def options(self) -> dict[str, Any]:
        return {"timeout": self.split.timeout, "bulkhead": self.split.bulkhead}

    def joining(self) -> dict[str, Any]:
        split = self.split
        needed = {"min_successes": split.need} if split.strategy == "partial timeout" else {}
        return {"hedge_delay": split.hedge_delay, "fail_fast": split.fail_fast, **needed}

    def attempting(self) -> dict[str, Any]:
        """Only what the split speaks of: an explicit None would overrule the branches' own."""
        retry = self.split.retry
        made = None
        if retry is not None and retry.kind == "fixed":
            made = Retry.fixed(retry.retries, retry.delay, max_elapsed=retry.max_elapsed)
        elif retry is not None:
            made = Retry.exponential(
                retry.retries, base=retry.delay, factor=retry.factor, max_delay=retry.most, jitter=0,
                max_elapsed=retry.max_elapsed,
            )  # fmt: skip
        options = {"retry": made, "attempt_timeout": self.split.limit}
        return {name: value for name, value in options.items() if value is not None}

    def strategy(self) -> JoinStrategy:
        split = self.split
        if split.strategy == "quorum":
            return JoinStrategy.Quorum(split.need)
        if split.strategy == "partial results":
            return JoinStrategy.PartialResults(split.need)
        if split.strategy == "percentage":
            return JoinStrategy.Percentage(split.share)
        return {"all": JoinStrategy.All, "any": JoinStrategy.Any, "partial timeout": JoinStrategy.PartialTimeout}[
            split.strategy
        ]

    def source(self, items: list[Any]) -> Any:
        gaps = self.split.gaps

        def draw() -> Iterator[Any]:
            yield from items

        async def adraw() -> AsyncIterator[Any]:
            for item, gap in zip(items, gaps, strict=False):
                await asyncio.sleep(gap)
                yield item
            await asyncio.sleep(gaps[-1])

        async def later() -> list[Any]:
            await asyncio.sleep(gaps[0])
            return items

        return {
            "list": items,
            "sized": Sized(items),
            "function": lambda: items,
            "generator": draw,
            "async generator": adraw,
            "async function": later,
        }[self.split.source]

    # --- branches ---

    def task(self, index: int, branch: Branch) -> Any:
        async def run() -> int:
            return await self.branch(index)

        return run if branch.limit is None else Limited(run, branch.limit)

    async def branch(self, index: int) -> int:
        attempt = self.split.branches[index].attempts[self.attempts[index]]
        self.attempts[index] += 1
        self.note(index, "begins", self.attempts[index])
        try:
            await self.perform(index, attempt)
        finally:
            self.note(index, "ends")
        if not attempt.succeeds:
            raise ValueError(index)
        return index

    async def perform(self, index: int, attempt: Attempt) -> None:
        try:
            await self.pause(attempt.lasts)
        except asyncio.CancelledError:
            self.note(index, "is told")
            if attempt.goes_on is None:
                await self.clean_up(index, attempt)
                raise
        else:
            return
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        try:
            await self.pause(attempt.goes_on)
        except asyncio.CancelledError:
            self.note(index, "is told")
            await self.clean_up(index, attempt)
            raise

    async def clean_up(self, index: int, attempt: Attempt) -> None:
        try:
            if attempt.cleans_up:
                await self.pause(attempt.cleans_up)
        except asyncio.CancelledError:
            self.note(index, "is told while it cleans up")
            raise

    async def pause(self, seconds: float) -> None:
        if self.split.pause == "asyncio":
            await asyncio.sleep(seconds)
        elif self.split.pause == "cano":
            await sleep(seconds)
        else:
            await asyncio.create_task(sleep(seconds))


def failed(error: JoinError | SplitTimeoutError) -> tuple[Any, ...]:
    assert error.result is not None
    return "fails" if isinstance(error, JoinError) else "times out", *told(error.result)


def told(result: SplitResult[Any]) -> tuple[Any, ...]:
    rows = sorted(told_of(row) for row in (*result.successes, *result.errors))
    ok, bad = ([row.task_index for row in ended] for ended in (result.successes, result.errors))
    return rows, ok, bad, list(result.cancelled), result.total_count


def told_of(row: Any) -> tuple[Any, ...]:
    error = None if row.error is None else type(row.error).__name__
    return row.task_index, error, row.attempts, row.duration

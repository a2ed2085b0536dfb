"""Runs a recipe on an engine in virtual time, and writes down everything that can be seen of it from outside."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.properties.recipes import Cook

from cano import (
    BranchCancelledError,
    CancelToken,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    RunEvent,
    TaskResult,
    Workflow,
    as_completed,
    fan_out,
    sleep,
)
from cano.observe import KINDS
from cano.results import SplitResult
from cano.testing import VirtualTimeLoop

Recipe = dict[str, Any]
Trace = list[tuple[Any, ...]]

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Strange(BaseException):
    """An exception that is no `Exception`."""


ERRORS: dict[str, type[BaseException]] = {
    "ValueError": ValueError,
    "KeyError": KeyError,
    "OSError": OSError,
    "StopAsyncIteration": StopAsyncIteration,
    "Strange": Strange,
    "CancelledError": asyncio.CancelledError,
    "AssertionError": AssertionError,
}


class InOrder(dict[Any, None]):
    """A set that goes through its members in the order in which they came."""

    add = dict.setdefault

    def discard(self, member: Any) -> None:
        self.pop(member, None)


class Group(asyncio.TaskGroup):
    """Keeps its children in order: in a set they would be cancelled by their addresses, differently each time."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: Any = InOrder()


def tell(value: Any) -> Any:
    """Describe a value or an error so that descriptions of equal things are equal."""
    if isinstance(value, SplitResult):
        rows = [(row.task_index, tell(row.result), row.attempts, near(row.duration)) for row in value.successes]
        errors = [(row.task_index, tell(row.error), row.attempts, near(row.duration)) for row in value.errors]
        assert len(rows) + len(errors) + len(value.cancelled) == value.total_count
        assert [row[1] for row in sorted(rows)] == [tell(output) for output in value.outputs()]
        return "split", rows, errors, value.cancelled, value.total_count
    if isinstance(value, BaseException):
        facts = {key: tell(fact) for key, fact in vars(value).items() if key not in ("result", "elapsed", "__notes__")}
        facts["notes"] = getattr(value, "__notes__", [])
        inner = tuple(tell(error) for error in getattr(value, "exceptions", ()))
        message = str(value) if "s, past its timeout" not in str(value) else "past its timeout"
        return type(value).__name__, message, sorted(facts.items()), inner, tell(value.__cause__)
    if isinstance(value, float):
        return near(value)
    if isinstance(value, list | tuple):
        return tuple(tell(part) for part in value)
    return value if isinstance(value, str | int | None) else type(value).__name__


def near(seconds: float) -> float:
    return round(seconds, 9)


class _Loop(VirtualTimeLoop):
    """Remembers which timers there were."""

    def __init__(self) -> None:
        self.timers: set[tuple[float, str]] = set()
        self.twice = False
        super().__init__()

    def call_at(self, when: float, callback: Any, *args: Any, **options: Any) -> asyncio.TimerHandle:
        timer = when, getattr(callback, "__qualname__", type(callback).__name__)
        # An engine arms one timer of the loop for the earliest of its own, often more than once for the same.
        self.twice = self.twice or (timer in self.timers and "set_result" in timer[1])
        self.timers.add(timer)
        return super().call_at(when, callback, *args, **options)

    def tied(self) -> bool:
        """Whether two timers fell on one moment, perhaps but for rounding: that is nobody's order to keep."""
        moments = sorted(self.timers)
        return self.twice or any(later[0] - earlier[0] < 1e-8 for earlier, later in itertools.pairwise(moments))


class Configured:
    """A branch's task with options of its own."""

    def __init__(self, run: Any, config: Any) -> None:
        self.run = run
        self.config = config

    def __call__(self) -> Any:  # where it is an item, and no task
        return self.run()


class World:
    """One run of a recipe: what its branches share, and the trace."""

    def __init__(self, recipe: Recipe, engine: str) -> None:
        self.recipe = recipe
        self.engine = engine
        self.trace: Trace = []
        self.tries: Counter[str] = Counter()
        self.shields = 0  # shielded tasks that have not ended

    def note(self, *facts: Any) -> None:
        self.trace.append((near(self.loop.time()), *facts))

    # --- the frame ---

    def run(self) -> Trace:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, _Loop)
            self.loop = loop
            self.loop.set_exception_handler(self._unhandled)
            handler = _LogHandler(self)
            logger = logging.getLogger("cano")
            logger.addHandler(handler)
            try:
                runner.run(self._main())
            finally:
                logger.removeHandler(handler)
                self.loop.set_exception_handler(None)
        return self.trace

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        self.note("unhandled", context["message"], tell(context.get("exception")))

    async def _main(self) -> None:
        recipe = self.recipe
        self.gates = [self.loop.create_future() for _ in recipe["gates"]]
        for gate, when in zip(self.gates, recipe["gates"], strict=True):
            self.loop.call_later(when, gate.set_result, None)
        self.lock = asyncio.Lock()
        token = CancelToken()
        workflow = self.workflow()
        run = asyncio.create_task(workflow.orchestrate("state 0", timeout=recipe["timeout"], cancel=token))
        stopper = asyncio.create_task(self._stop(run, token))
        (outcome,) = await asyncio.gather(run, return_exceptions=True)
        stopper.cancel()
        await asyncio.wait([stopper])
        self.note("outcome", tell(outcome), run.cancelled())
        # Nothing outlives its run.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not self.shields:  # what a shield holds on to is its own affair
            self.note("left", len(left))
        for key in sorted(workflow.store.keys()):
            self.note("stored", key, tell(workflow.store.get(key)))
        await asyncio.sleep(1000)  # what was shielded ends; a write of anything else would show in the trace

    async def _stop(self, run: asyncio.Task[Any], token: CancelToken) -> None:
        stop = self.recipe["stop"]
        if stop is None:
            return
        if stop[0] == "turn":
            await asyncio.sleep(stop[1])
            for _ in range(stop[2]):
                await asyncio.sleep(0)
            run.cancel("at a turn")
            return
        await asyncio.sleep(stop[1])
        if stop[0] == "token":
            token.cancel("enough")
        else:
            run.cancel("enough")
        if stop[0] == "twice":
            await asyncio.sleep(stop[2])
            run.cancel("again")

    def workflow(self) -> Workflow[str]:
        recipe = self.recipe
        workflow: Workflow[str] = Workflow(
            engine=self.engine, introspect=recipe["introspect"], max_transitions=recipe["max_transitions"]
        )
        last = len(recipe["states"])
        workflow.add_exit_state(f"state {last}")
        for index, state in enumerate(recipe["states"]):
            name = f"state {index}"
            if state["kind"] == "split":
                join = self.join(state, f"state {state['next']}")
                source = self.source(state, name)
                workflow.register_split(name, source, join, inline=state["inline"], **given(state))
            else:
                workflow.register(name, self.task(state, name), inline=state["inline"], **policy(state))
        if recipe["observer"] != "none":
            workflow.add_observer(Observer(self))
        if recipe["observer"] == "raising":
            workflow.add_observer(Raising())
        return workflow

    # --- tasks and branches ---

    def task(self, state: Recipe, name: str) -> Any:
        def answer() -> Any:
            self.tries[name] += 1
            following = state["back"] if state["back"] is not None and self.tries[name] == 1 else state["next"]
            self.note(name, "answers", following)
            if state["split"] is not None:
                join = self.join(state["split"], f"state {state['next']}")
                return TaskResult.Split(self.source(state["split"], name), join)
            return f"state {following}"

        if state["sync"]:
            return answer

        async def task() -> Any:
            await self.perform(name, state["steps"])
            return answer()

        return task

    def branch(self, place: str, branch: Recipe) -> Any:
        async def run() -> Any:
            self.tries[place] += 1
            self.note(place, "begins", variable.get())
            try:
                await self.perform(place, branch["steps"])
                if self.tries[place] <= branch["fails"]:
                    raise ValueError(place)
            except BaseException as error:
                self.note(place, "ends with", type(error).__name__)
                raise
            self.note(place, "ends")
            return place

        own = branch["own"]
        return run if own is None else Configured(run, given(own))

    def join(self, split: Recipe, following: str) -> JoinConfig[str]:
        options: Recipe = {key: split[key] for key in ("timeout", "bulkhead", "fail_fast")}
        return JoinConfig(
            self.strategy(split),
            following,
            hedge_delay=split["hedge_delay"],
            min_successes=min(split["min_successes"], len(split["branches"])),
            store_partial_results=split["stored"],
            **options,
        )

    def strategy(self, split: Recipe) -> JoinStrategy:
        kind, count = split["strategy"], len(split["branches"])
        if kind == "custom":
            answers = iter(split["answers"])

            def decide(progress: Any) -> str:
                self.note("asked", *(getattr(progress, name) for name in progress.__match_args__[:4]))
                return next(answers, "proceed")

            return JoinStrategy.Custom(decide)
        if kind == "percentage":
            return JoinStrategy.Percentage(split["share"])
        if kind == "quorum":
            return JoinStrategy.Quorum(min(split["n"], count))
        if kind == "partial_results":
            return JoinStrategy.PartialResults(min(split["n"], count))
        return {"all": JoinStrategy.All, "any": JoinStrategy.Any, "partial_timeout": JoinStrategy.PartialTimeout}[kind]

    def source(self, split: Recipe, place: str) -> Any:
        tasks = [self.branch(f"{place}/{index}", branch) for index, branch in enumerate(split["branches"])]
        kind = split["source"]
        raising = "raising" in kind and len(tasks) > 1

        def draw() -> Iterator[Any]:
            try:
                for index, task in enumerate(tasks):
                    self.note(place, "draws", index)
                    yield task
                if raising:
                    raise OSError(place)
            finally:
                self.note(place, "source closed")

        async def adraw() -> AsyncIterator[Any]:
            try:
                for index, task in enumerate(tasks):
                    self.note(place, "draws", index)
                    if index % 2:
                        await asyncio.sleep(0.123456 * (index + split["share"]))
                    yield task
                if raising:
                    raise OSError(place)
            finally:
                await asyncio.sleep(0)
                self.note(place, "source closed")

        async def later() -> list[Any]:
            await asyncio.sleep(split["share"])
            return tasks

        return {
            "list": tasks,
            "function": lambda: tasks,
            "generator": draw,
            "raising": draw,
            "async generator": adraw,
            "async raising": adraw,
            "async function": later,
        }[kind]

    # --- steps ---

    async def perform(self, place: str, steps: list[Any]) -> None:
        for number, step in enumerate(steps):
            await self.step(f"{place}.{number}", step)

    async def step(self, place: str, step: Any) -> None:
        kind = step[0]
        if kind == "sleep":
            await asyncio.sleep(step[1])
        elif kind == "pause":
            await self.pause(*step[1:])
        elif kind == "yield":
            await asyncio.sleep(0)
        elif kind == "pause 0":
            await sleep(0)
        elif kind == "log":
            pass
        elif kind == "gate":
            await asyncio.shield(self.gates[step[1]]) if len(place) % 2 else await self.wait(self.gates[step[1]])
        elif kind == "lock":
            async with self.lock_of(place):
                await asyncio.sleep(step[1])
        elif kind == "context":
            variable.set(place)
            await asyncio.sleep(0)
            self.note(place, variable.get())
        elif kind == "fail":
            if step[2] or self.tries[place.partition(".")[0]] <= 1:
                raise ERRORS[step[1]](place)
        elif kind == "handled":
            try:
                raise KeyError(place)
            except KeyError:
                await fan_out(asyncio.sleep, [0, 0], engine=self.engine)
        elif kind == "cancel oneself":
            task = asyncio.current_task()
            assert task is not None
            task.cancel(place)
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError as error:
                self.note(place, error.args == (place,))
                if task.uncancel() > 0:
                    raise
        else:
            await self.nest(place, step)
        self.note(place, kind)

    async def pause(self, seconds: float, how: str = "awaited") -> None:
        """`cano.sleep`, awaited here or handed to what makes a task of a coroutine."""
        if how == "gather":
            await asyncio.gather(sleep(seconds), sleep(seconds / 3))
        elif how == "task":
            await asyncio.create_task(sleep(seconds))
        elif how == "wait for":
            await asyncio.wait_for(sleep(seconds), seconds * 7)
        else:
            await sleep(seconds)

    def lock_of(self, place: str) -> asyncio.Lock:
        return self.lock

    async def wait(self, future: asyncio.Future[None]) -> None:
        """Wait for a shared future without cancelling it for the others."""
        if not future.done():
            mine = self.loop.create_future()
            future.add_done_callback(lambda _: mine.done() or mine.set_result(None))
            await mine

    async def nest(self, place: str, step: Any) -> None:
        kind = step[0]
        if kind == "timeout":
            try:
                async with asyncio.timeout(step[1]):
                    await self.perform(place, step[2])
            except TimeoutError:
                self.note(place, "timed out")
        elif kind == "group":
            async with Group() as group:
                for number, steps in enumerate(step[1]):
                    group.create_task(self.perform(f"{place}/{number}", steps))
        elif kind == "clean up":
            try:
                await self.perform(place, step[1])
            finally:
                await self.perform(f"{place}-", step[2])
        elif kind == "swallow":
            try:
                await self.perform(place, step[1])
            except asyncio.CancelledError:
                self.note(place, "swallowed")
        elif kind == "child":
            await asyncio.create_task(self.perform(f"{place}/0", step[1]))
        elif kind == "shield":
            self.shields += 1
            task = asyncio.create_task(self.shielded(place, step[1]))
            await asyncio.shield(task)
        elif kind == "fan":
            await self.fan(place, step[1])
        else:
            await self.collect(place, step[1])

    async def shielded(self, place: str, steps: list[Any]) -> None:
        try:
            await self.perform(f"{place}/0", steps)
        except BaseException as error:
            self.note(place, "shielded ended with", type(error).__name__)
        finally:
            self.shields -= 1

    async def fan(self, place: str, split: Recipe) -> None:
        options: Recipe = {key: split[key] for key in ("timeout", "bulkhead", "fail_fast", "hedge_delay")}
        count = len(split["branches"])
        options["min_successes"] = min(split["min_successes"], count)
        try:
            result = await fan_out(
                lambda task: task(),
                self.source(split, place),
                strategy=self.strategy(split),
                inline=True,
                engine=self.engine,
                **options,
                **policy(split),
            )
        except JoinError as error:
            self.note(place, "join failed", tell(error))
            if split["stored"]:
                raise
        else:
            self.note(place, tell(result))

    async def collect(self, place: str, split: Recipe) -> None:
        options: Recipe = {key: split[key] for key in ("timeout", "bulkhead")}
        rows = as_completed(
            lambda task: task(),
            self.source(split, place),
            ordered=split["fail_fast"],
            buffer=split["n"] or None,
            inline=True,
            engine=self.engine,
            **options,
            **policy(split),
        )
        try:
            async for row in rows:
                self.note(place, row.task_index, tell(row.result), tell(row.error), row.attempts, near(row.duration))
                if split["stored"]:
                    await asyncio.sleep(split["share"])
                if row.task_index == split["n"] and split["inline"]:
                    break
        finally:
            await rows.aclose()


class Observer:
    """Writes every event into the trace."""

    def __init__(self, world: World) -> None:
        self.world = world

    def see(self, event: RunEvent) -> None:
        self.world.note(
            "event", event.kind, event.state, event.task, event.branch, event.attempt, near(event.at),
            tell(event.value), tell(event.error),
        )  # fmt: skip


class Raising:
    """Raises at every event."""

    def see(self, event: RunEvent) -> None:
        raise RuntimeError(event.kind)


for _kind in KINDS:
    setattr(Observer, f"on_{_kind}", Observer.see)
    setattr(Raising, f"on_{_kind}", Raising.see)


class _LogHandler(logging.Handler):
    """Notes what is logged on the thread of a world: another thread may have a world of its own (`--at-once`)."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.world.note("logged", record.getMessage())


def policy(recipe: Recipe) -> Recipe:
    """The options `retry` and `attempt_timeout`."""
    retry = recipe["retry"]
    made = None
    if retry is not None and retry["kind"] == "fixed":
        made = Retry.fixed(retry["retries"], retry["delay"], max_elapsed=retry["max_elapsed"])
    elif retry is not None:
        base = retry["delay"] or 0.25
        made = Retry.exponential(retry["retries"], base=base, jitter=0, max_elapsed=retry["max_elapsed"])
    return {"retry": made, "attempt_timeout": recipe["attempt_timeout"]}


def given(recipe: Recipe) -> Recipe:
    """Those of the options that the recipe speaks of."""
    return {name: value for name, value in policy(recipe).items() if value is not None}


class Programs(World):
    """Random programs of awaits, run side by side: in the branches of an engine, or in the tasks of `gather`."""

    def __init__(self, seed: int, engine: str, *, gathered: bool) -> None:
        cook = Cook(seed)
        super().__init__({"gates": [cook.duration() for _ in range(2)]}, engine)
        self.branches = [{**cook.branch(1), "own": None} for _ in range(cook.random.randint(1, 5))]
        self.gathered = gathered
        self.locks: dict[str, asyncio.Lock] = {}
        self.outcomes: list[Any] = []

    async def _main(self) -> None:
        self.gates = [self.loop.create_future() for _ in self.recipe["gates"]]
        for gate, when in zip(self.gates, self.recipe["gates"], strict=True):
            self.loop.call_later(when, gate.set_result, None)
        tasks = [self.branch(str(index), branch) for index, branch in enumerate(self.branches)]
        if self.gathered:
            self.outcomes = await asyncio.gather(*(task() for task in tasks), return_exceptions=True)
        else:
            try:
                result = await fan_out(lambda task: task(), tasks, fail_fast=False, inline=True, engine=self.engine)
            except JoinError as error:
                assert error.result is not None
                result = error.result
            rows = [result.by_index(index) for index in range(len(tasks))]
            self.outcomes = [None if row is None else row.error or row.result for row in rows]
        self.note("ended")
        await asyncio.sleep(1000)

    def lock_of(self, place: str) -> asyncio.Lock:
        """One for each branch: who comes first differs, because a branch begins at once and a task a turn later."""
        return self.locks.setdefault(place[0], asyncio.Lock())

    def told(self) -> dict[str, Any]:
        """What each branch did and when, and what came of it."""
        self.run()
        stories: dict[str, list[Any]] = {}
        for when, place, *facts in self.trace:
            stories.setdefault(str(place)[:1], []).append((when, place, *facts))
        found: dict[str, Any] = dict(stories)
        found["outcomes"] = [_kind_of(outcome) for outcome in self.outcomes]
        return found


def _kind_of(outcome: Any) -> Any:
    if isinstance(outcome, BranchCancelledError):
        return "CancelledError"
    return type(outcome).__name__ if isinstance(outcome, BaseException) else outcome

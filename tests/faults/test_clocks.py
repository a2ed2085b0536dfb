"""Whatever the clock does, no timer is lost, none fires twice or early, durations stay sane, and every run ends.

The clock of an event loop is monotonic; one that somebody has put there, or a machine that was suspended, need not be.
Replay one history with `CANO_CLOCK_SEED`.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections import Counter
from typing import Any

import pytest
from tests.faults.clocks import DECADE, HOUR, JUMPS, BrokenClockLoop, OddClockLoop, constant_for

import cano
from cano import JoinConfig, JoinError, JoinStrategy, Retry, SplitTimeoutError, TaskError, Workflow, fan_out
from cano.testing import VirtualTimeLoop

SOAK = os.environ.get("CANO_SOAK") == "1"
HISTORIES = 10_000 if SOAK else 200
EARLY = 2e-5  # the resolution that the loops of clocks.py declare, and the last digit of their time
ENDS = (JoinError, SplitTimeoutError, TaskError, cano.WorkflowTimeoutError)

pytestmark = [pytest.mark.fault("F15"), pytest.mark.timeout(3600 if SOAK else 300)]


class History:
    """A run of random waits under a random clock, and what must be true of it."""

    def __init__(self, seed: int, engine: str) -> None:
        self.rng = random.Random(seed)
        self.engine = engine
        grain = self.rng.choice((0.0, 0.0, 0.0, 0.001, 0.016, 1.0))
        self.loop = OddClockLoop(self.rng, every=self.rng.choice((3, 20, 100)), grain=grain)
        self.woken: Counter[int] = Counter()
        self.early: list[int] = []
        self.timers = 0

    def play(self) -> int:
        """Play it; how many timers were waited for."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.run())
        return self.timers

    async def wait(self, delay: float, kind: str) -> None:
        """One timer: it wakes once, and not before the clock has shown its time."""
        self.timers += 1
        number = self.timers
        self.loop.hold_still()
        due = self.loop.time() + delay
        self.loop.highest[number] = -math.inf
        try:
            if kind == "cano":
                await cano.sleep(delay)
            elif kind == "asyncio":
                await asyncio.sleep(delay)
            else:
                try:
                    async with asyncio.timeout(delay):
                        await cano.sleep(10 * DECADE)
                except TimeoutError:
                    pass
            self.woken[number] += 1
            if self.loop.highest[number] < due - EARLY:
                self.early.append(number)  # not raised: a branch may fail, here
        finally:
            del self.loop.highest[number]

    async def branch(self, item: int) -> int:
        for delay, kind in self.waits[item]:
            await self.wait(delay, kind)
        if item in self.failing:
            raise ValueError(item)
        return item

    async def run(self) -> None:
        rng = self.rng
        count = rng.randint(1, 12)
        kinds = ("cano", "cano", "asyncio", "timeout")
        self.waits = [
            [
                (rng.choice((0.001, 0.5, 5.0, HOUR)) * rng.uniform(0.5, 1), rng.choice(kinds))
                for _ in range(rng.randint(0, 4))
            ]
            for _ in range(count)
        ]
        self.failing = {item for item in range(count) if rng.random() < 0.2}
        options: dict[str, Any] = {}
        if rng.random() < 0.3:
            options["bulkhead"] = rng.randint(1, 4)
        if rng.random() < 0.3:
            options["timeout"] = rng.choice((1.0, HOUR, DECADE))
        if rng.random() < 0.3:
            options["attempt_timeout"] = rng.choice((1.0, HOUR))
        if rng.random() < 0.3:
            options["retry"] = Retry.fixed(2, rng.choice((0, 1.0, HOUR)))
        if rng.random() < 0.2:
            options |= {"strategy": JoinStrategy.Any, "hedge_delay": rng.choice((0.5, HOUR))}
        else:
            options["fail_fast"] = rng.random() < 0.5
        try:
            result = await fan_out(self.branch, range(count), engine=self.engine, **options)
        except ENDS as error:
            result = getattr(error, "result", None)
        assert result is not None
        assert len(result.successes) + len(result.errors) + len(result.cancelled) == result.total_count == count
        for row in (*result.successes, *result.errors):
            assert row.duration >= 0
            assert math.isfinite(row.duration)
        assert max(self.woken.values(), default=1) == 1
        assert self.early == []
        # Of what has succeeded, every timer has woken: none is lost.
        if options.get("retry") is None:
            for row in result.successes:
                assert row.result == row.task_index
        await self.settled()

    async def settled(self) -> None:
        """Nothing is left, and no timer of the split fires afterwards."""
        woken = self.woken.total()
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(2 * HOUR)
        assert self.woken.total() == woken
        assert asyncio.all_tasks() == {asyncio.current_task()}


def test_random_histories(engine: str, tried: Any) -> None:
    first = int(os.environ.get("CANO_CLOCK_SEED", 0))
    count = 1 if "CANO_CLOCK_SEED" in os.environ else HISTORIES
    jumped = timers = 0
    for seed in range(first, first + count):
        history = History(seed, engine)
        try:
            timers += history.play()
        except BaseException as error:
            error.add_note(f"CANO_CLOCK_SEED={seed}")
            raise
        jumped += len(history.loop.jumps)
    assert count == 1 or (jumped > 5 * count and timers > 5 * count)
    tried(histories=count, clock_jumps=jumped, timers=timers)


def on(loop: asyncio.AbstractEventLoop, main: Any) -> Any:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)


@pytest.mark.parametrize("jump", JUMPS, ids=str)
@pytest.mark.parametrize("moment", ["while branches wait", "while they start", "in a back-off"])
def test_one_jump(engine: str, jump: float, moment: str, tried: Any) -> None:
    """Every sleeper wakes once; forwards the jump makes it wake at once, backwards it makes it wait for the rest."""
    loop = OddClockLoop()
    woken: list[int] = []
    attempts: Counter[int] = Counter()

    def shift() -> None:
        loop._virtual += jump

    async def branch(item: int) -> int:
        if moment == "while they start" and item == 5:
            shift()
        attempts[item] += 1
        await cano.sleep(10 + item)
        if moment == "in a back-off" and attempts[item] == 1:
            if item == 5:
                shift()
            raise ValueError(item)
        woken.append(item)
        return item

    async def main() -> None:
        if moment == "while branches wait":
            loop.call_soon(shift)
        result = await fan_out(branch, range(10), retry=Retry.fixed(1, 7), engine=engine)
        assert result.outputs() == list(range(10))
        assert sorted(woken) == list(range(10))
        assert all(row.duration >= 0 for row in result.successes)

    on(loop, main())
    tried(clock_jumps=1, timers=10)


@pytest.mark.parametrize("grain", [0.001, 0.016, 1.0])
def test_a_coarse_clock(engine: str, grain: float, tried: Any) -> None:
    """Nobody wakes before its time, by the clock there is, nor later than a grain."""
    loop = OddClockLoop(grain=grain)
    late: list[float] = []

    async def branch(item: int) -> None:
        delay = 0.3 * (item + 1)
        before = loop.time()
        await cano.sleep(delay)
        late.append(loop.time() - before - delay)

    on(loop, fan_out(branch, range(50), engine=engine))
    assert len(late) == 50
    assert min(late) > -1e-6
    assert max(late) <= 2 * grain + 1e-6
    tried(timers=50)


def test_a_clock_that_stands_still(engine: str, tried: Any) -> None:
    """What needs no time ends without any; slices never end by such a clock, and must not wait for it either."""

    async def branch(item: int) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return item

    async def main() -> None:
        result = await fan_out(branch, range(2000), bulkhead=100, engine=engine)
        assert result.outputs() == list(range(2000))
        assert {row.duration for row in result.successes} == {0.0}

    on(constant_for(10**9)(), main())
    tried(timers=1)


def test_a_source_without_end_under_a_clock_that_stands_still(engine: str, tried: Any) -> None:
    """The loop has its turn, though no slice is ever over by the clock: a token can end the run."""
    token = cano.CancelToken()
    seen: list[int] = []

    async def fail(item: int) -> None:
        seen.append(item)
        raise ValueError(item)

    def numbers() -> Any:
        number = 0
        while True:
            yield number
            number += 1

    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register_map("fan", fail, numbers, JoinConfig(JoinStrategy.Any, "end", bulkhead=10)).add_exit_state("end")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(token.cancel)
        with pytest.raises(cano.RunCancelledError):
            await workflow.orchestrate("fan", cancel=token)

    on(constant_for(10**9)(), main())
    assert seen
    tried(timers=1)


def test_a_clock_that_stands_still_for_many_turns(engine: str, tried: Any) -> None:
    async def branch(item: int) -> int:
        deadline = asyncio.get_running_loop().time() + item % 5
        await cano.sleep(item % 5)
        assert asyncio.get_running_loop().time() >= deadline
        return item

    async def busy() -> None:
        while True:  # the loop never waits: turns pass, and with them, sometimes, a second
            await asyncio.sleep(0)

    async def main() -> None:
        keeper = asyncio.create_task(busy())
        result = await fan_out(branch, range(100), engine=engine)
        assert result.outputs() == list(range(100))
        keeper.cancel()

    on(constant_for(7)(), main())
    tried(timers=100)


@pytest.mark.parametrize("place", ["the loop", "its class"])
def test_a_clock_put_into_a_loop_afterwards(engine: str, place: str, tried: Any, monkeypatch: Any) -> None:
    """As virtual clocks of test suites do: the engine's timers go by it, too."""
    loop = asyncio.SelectorEventLoop()
    on_loop = asyncio.SelectorEventLoop()
    on(on_loop, fan_out(asyncio.sleep, [0, 0], engine=engine))  # the class is known, with its own clock
    shown = [1000.0]

    async def branch(item: int) -> int:
        await cano.sleep(5)
        return item

    async def main() -> float:
        running = asyncio.get_running_loop()
        running.call_later(0, shown.__setitem__, 0, 1006.0)
        result = await fan_out(branch, range(3), timeout=100, engine=engine)
        assert {row.duration for row in result.successes} == {6.0}
        return running.time()

    if place == "the loop":
        monkeypatch.setattr(loop, "time", lambda: shown[0])
    else:
        monkeypatch.setattr(asyncio.SelectorEventLoop, "time", lambda _: shown[0])
    assert on(loop, main()) == 1006.0
    monkeypatch.undo()
    tried(timers=3)


@pytest.mark.parametrize("jump", [HOUR, -HOUR, DECADE, -DECADE, -0.001], ids=str)
def test_the_time_of_day_does_not_matter(engine: str, jump: float, tried: Any, monkeypatch: Any) -> None:
    """Somebody sets the clock on the wall, and every duration and timer stays what it is."""
    real = time.time
    offset = [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])

    async def branch(item: int) -> int:
        offset[0] += jump
        await cano.sleep(0.01)
        return item

    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register_map("fan", branch, range(3), JoinConfig(JoinStrategy.All, "end", timeout=50))
    workflow.add_exit_state("end")
    report = asyncio.run(workflow.execute("fan", timeout=50))
    assert 0.009 < report.elapsed < 40
    assert all(0.009 < row.duration < 40 for row in report.splits[0].successes)
    assert all(0 <= visit.duration < 40 for visit in report.visits)
    tried(clock_jumps=3, timers=3)


def test_durations_of_what_is_very_short(engine: str, tried: Any) -> None:
    """Within a time slice the native engine reads the processor's counter: the sum of two clocks is never negative."""

    async def at_once(item: int) -> int:
        return item

    async def one_turn(item: int) -> int:
        await asyncio.sleep(0)
        return item

    count = 200_000 if SOAK else 20_000
    for branch in (at_once, one_turn):
        result = asyncio.run(fan_out(branch, range(count), engine=engine))
        assert min(row.duration for row in result.successes) >= 0
    tried(timers=2)


def test_virtual_time_can_start_anywhere(engine: str, tried: Any) -> None:
    for start in (0.0, -DECADE, DECADE, 2.0**52):
        loop = VirtualTimeLoop(start)
        on(loop, fan_out(lambda item: cano.sleep(item + 1.0), range(3), inline=True, engine=engine))
        assert loop.time() == start + 3.0
    tried(timers=12)


def test_a_cycle_without_end_under_a_clock_that_stands_still(engine: str, tried: Any) -> None:
    token = cano.CancelToken()
    workflow: Workflow[str] = Workflow(engine=engine)
    workflow.register("turn", lambda: "turn", inline=True).add_exit_state("end")

    async def main() -> None:
        asyncio.get_running_loop().call_soon(token.cancel)
        with pytest.raises(cano.RunCancelledError):
            await workflow.orchestrate("turn", cancel=token)

    on(constant_for(10**9)(), main())
    tried(timers=1)


@pytest.mark.parametrize("way", ["bare yields", "timers", "a future", "threads"])
def test_a_clock_that_raises_while_many_have_their_turn(engine: str, way: str, tried: Any) -> None:
    """A time slice is over then, and whoever has not had his turn has it later: nobody is lost."""
    count = 20
    loop = BrokenClockLoop()
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    async def branch(item: int) -> int:
        if way == "bare yields":
            await asyncio.sleep(0)
        elif way == "timers":
            await cano.sleep(1)
        else:
            await shared
        loop.breaks = True  # and yield: no time is looked at for that, only for whether the slice is over
        await asyncio.sleep(0)
        return item

    def answer(item: int) -> int:
        return item

    def decide(progress: cano.JoinProgress) -> str:
        loop.breaks = progress.pending != 0
        return "wait" if progress.pending else "proceed"

    async def main() -> None:
        nonlocal shared
        shared = loop.create_future()
        loop.call_later(1, shared.set_result, None)
        if True:
            if way == "threads":
                split = await fan_out(answer, range(count), strategy=JoinStrategy.Custom(decide), engine=engine)
            else:
                split = await fan_out(branch, range(count), engine=engine)
        assert split.outputs() == list(range(count))

    shared: Any = None
    on(loop, main())
    # The pure engine wakes those of one future one by one, and so does not ask whether it takes long.
    assert loop.raised > (0 if (engine, way) != ("python", "a future") else -1)
    assert [type(error) for error in told] in ([], [OSError] * loop.raised)
    tried(clock_failures=loop.raised)


def test_a_clock_that_raises_when_timers_are_due(engine: str, tried: Any) -> None:
    """Before the first of them has fired: they are due in the next turn as well."""
    loop = BrokenClockLoop()
    told: list[Any] = []
    loop.set_exception_handler(lambda _, context: told.append(type(context["exception"])))

    async def main() -> None:
        # In one turn: the clock breaks, and then the split's timers are asked for.
        loop.call_later(0.1, loop.jump, 10)
        loop.call_later(0.5, setattr, loop, "breaks", True)
        split = await fan_out(lambda item: cano.sleep(1, item), range(20), inline=True, engine=engine)
        assert split.outputs() == list(range(20))

    on(loop, main())
    assert loop.raised == 1
    assert told == [OSError]
    tried(clock_failures=1)


@pytest.mark.parametrize("when", range(8))
@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 5}], ids=["drained", "one by one"])
def test_a_clock_that_raises_on_a_worker(engine: str, options: dict[str, Any], when: int, tried: Any) -> None:
    """What the worker has in hand is told all the same, and the worker goes on."""
    loop = BrokenClockLoop()
    loop.on_workers = True
    loop.breaks = when == 0
    called: list[int] = []

    def answer(item: int) -> int:
        called.append(item)
        loop.breaks = len(called) == when
        return item

    async def main() -> None:
        split = await fan_out(answer, range(6), engine=engine, **options)
        assert split.outputs() == list(range(6))
        assert min(row.duration for row in split.successes) >= 0

    try:
        on(loop, main())
    except OSError:
        assert when == 0  # before anything was in hand
    tried(clock_failures=1)

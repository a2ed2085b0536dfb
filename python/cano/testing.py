"""Helpers for testing workflows: time that does not pass, an observer that remembers, a task that fails on demand.

    from cano.testing import RecordingObserver, flaky, virtual_time

    @virtual_time
    async def test_two_retries_wait_three_seconds():
        seen = RecordingObserver()
        workflow = (
            Workflow()
            .register("load", flaky(2, then="done"), retry=Retry.exponential(3, base=1, jitter=0))
            .add_exit_state("done")
            .add_observer(seen)
        )
        report = await workflow.execute("load")         # returns at once
        assert report.elapsed == 3.0                    # 1 s and 2 s, exactly
        assert [event.value for event in seen.of("retry")] == [1.0, 2.0]

`@virtual_time` makes an ordinary function of an async test, so it needs no plugin, and fixtures work. A plugin that
makes the loops itself takes `VirtualTimeLoop` as its loop factory, in `conftest.py`:

    def pytest_asyncio_loop_factories(config, item):    # pytest-asyncio
        return {"virtual": VirtualTimeLoop}

    @pytest.fixture
    def anyio_backend():                                # anyio
        return "asyncio", {"loop_factory": VirtualTimeLoop}
"""

from __future__ import annotations

import asyncio
import functools
import math
import selectors
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from ._naming import type_name
from .observe import KINDS, RunEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

__all__ = ["DeadlockError", "FlakyTask", "RecordingObserver", "VirtualTimeLoop", "flaky", "run", "virtual_time"]

P = ParamSpec("P")
R = TypeVar("R")

_GLANCE = 0.005
"""Seconds between two looks at whether threads are still busy; their results wake the loop without it."""


class DeadlockError(RuntimeError):
    """Everything waits, and nothing is left that could end it: no timer, no thread, no connection."""


class _Selector(selectors.DefaultSelector):
    """Where an event loop waits. It is asked for how long; this one answers by moving the clock."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, for real only where something outside the loop is at work."""
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        began = time.monotonic()
        patience = self.loop.patience
        while True:
            # Asked before the look at the events: who has ended since has sent its result before.
            busy = self.loop.busy()
            events = super().select(0)
            if events:
                return events
            waited = time.monotonic() - began
            connected = len(self.get_map()) > 1  # more than the loop's own wake-up
            if not busy and not (connected and (timeout is None or waited < self.loop.grace)):
                break
            if timeout is not None and waited >= patience:
                break
            events = super().select(_GLANCE)
            if events:
                return events
        if timeout is None:
            raise DeadlockError(self.loop.describe_waiting())
        self.loop.jump(timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing else is left to do.

    A sleep of an hour takes no time and lasts exactly 3,600 s by the loop's clock, so a test of timeouts and delays is
    fast, and gives the same figures each time. When everything waits and there is no timer either, `DeadlockError` says
    who waits, instead of a test that hangs.

    Time stands still while sync tasks are running on their threads, and `run_in_executor` or `asyncio.to_thread` work.
    Threads the test starts itself are not known: hold the clock meanwhile, `with loop.hold(): ...`. With open
    connections the clock waits a moment (`grace`) before each jump.

    Args:
        start: What the clock shows first, in seconds.
        patience: After how many real seconds the clock moves on though threads are busy: a sync task may wait for
            something the loop does only then.
        grace: Real seconds an open connection is given before each jump.
    """

    def __init__(self, start: float = 0.0, *, patience: float = 5.0, grace: float = 0.02) -> None:
        selector = _Selector()
        selector.loop = self
        self.patience = patience
        self.grace = grace
        self._virtual = start
        self._held = 0
        self._guard = threading.Lock()
        super().__init__(selector)
        self._set_resolution()

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._virtual

    @contextmanager
    def hold(self) -> Generator[None, None, None]:
        """Keep the clock from jumping while something outside is at work; works in any thread."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def run_in_executor(self, executor: Any, func: Callable[..., R], *args: Any) -> asyncio.Future[R]:  # type: ignore[override]
        """Like any loop's, with the clock held until the result is here."""
        future: asyncio.Future[R] = super().run_in_executor(executor, func, *args)
        self._count(1)
        future.add_done_callback(lambda _: self._count(-1))
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Like any loop's: it waits for threads, so the clock is held."""
        with self.hold():
            await super().shutdown_default_executor(*args)

    def busy(self) -> bool:
        """Whether work outside the loop is known that will come back to it."""
        if self._held:
            return True
        try:
            from ._engine.threads import outstanding
        except ImportError:
            return False
        return outstanding() > 0

    def jump(self, seconds: float) -> None:
        """Move the clock on to the next timer, at most this far."""
        timers = getattr(self, "_scheduled", None)
        target = self._virtual + seconds
        if timers:
            # To the very float of the timer: now + (when - now) may fall short of it.
            when = timers[0].when()
            if abs(when - target) < 1e-6:
                target = when
        self._virtual = max(self._virtual, target)
        self._set_resolution()

    def describe_waiting(self) -> str:
        """Say which tasks wait, and where."""
        lines: list[str] = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack(limit=1)
            place = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
            coroutine = task.get_coro()
            name = getattr(coroutine, "__qualname__", None) or type_name(type(coroutine))
            lines.append(f"- {task.get_name()}: {name}{place}")
        waiting = "\n".join(sorted(lines)) or "- (no task)"
        return (
            "every task waits, and no timer, thread or connection is left that could wake one:\n"
            f"{waiting}\n"
            "If a thread of the test's own is to wake it, hold the clock meanwhile: with loop.hold()"
        )

    def _set_resolution(self) -> None:
        # asyncio runs timers that are due before the resolution of its clock is over: of the real one, 16 ms on some
        # systems. It must be more than nothing beside the time, which after 50 days takes more than a nanosecond.
        self._clock_resolution = max(1e-9, math.ulp(self._virtual))

    def _count(self, change: int) -> None:
        with self._guard:
            self._held += change


def run(main: Coroutine[Any, Any, R], *, start: float = 0.0) -> R:
    """Run a coroutine to its end in virtual time; what `asyncio.run` is in real time.

    Args:
        main: The coroutine.
        start: What the clock shows first, in seconds.

    Returns:
        What the coroutine returns.

    Raises:
        DeadlockError: Everything waits for ever; the tasks are cancelled first.
        BaseException: Whatever the coroutine raises.

    Examples:
        >>> import asyncio
        >>> from cano.testing import run
        >>> async def a_day():
        ...     await asyncio.sleep(24 * 3600)
        ...     return asyncio.get_running_loop().time()
        >>> run(a_day())
        86400.0
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(start)) as runner:
        return runner.run(main)


@overload
def virtual_time(test: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, R]: ...
@overload
def virtual_time(*, start: float = 0.0) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, R]]: ...
def virtual_time(test: Any = None, /, *, start: float = 0.0) -> Any:
    """Make of an async test a plain one that runs it in virtual time.

    Used as `@virtual_time` or `@virtual_time(start=...)`.

    Args:
        test: The test, an `async def`; its arguments (fixtures, parameters) stay.
        start: What the clock shows first, in seconds.
    """
    if test is None:
        return functools.partial(virtual_time, start=start)

    @functools.wraps(test)
    def plain(*args: Any, **kwargs: Any) -> Any:
        return run(test(*args, **kwargs), start=start)

    return plain


class RecordingObserver:
    """An observer that keeps every event, in order; give it to `Workflow.add_observer`.

    Attributes:
        events: The events so far; of several runs, if the workflow ran several times.
    """

    def __init__(self) -> None:
        self.events: list[RunEvent] = []

    def kinds(self) -> list[str]:
        """The kinds of the events, in order."""
        return [event.kind for event in self.events]

    def of(self, *kinds: str) -> list[RunEvent]:
        """The events of these kinds, in order.

        Raises:
            ValueError: There is no such kind.
        """
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"no event is of kind {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
        return [event for event in self.events if event.kind in kinds]

    def clear(self) -> None:
        """Forget the events."""
        self.events.clear()

    def __repr__(self) -> str:
        return f"<RecordingObserver {len(self.events)} events>"

    def _keep(self, event: RunEvent) -> None:
        self.events.append(event)


def _hear_everything() -> None:
    for kind in KINDS:
        setattr(RecordingObserver, f"on_{kind}", RecordingObserver._keep)


_hear_everything()


class FlakyTask(Generic[R]):
    """A task that fails a number of times and then succeeds; made by `flaky`.

    Attributes:
        calls: How often it was called.
    """

    def __init__(self, fail_times: int, then: R, error: Callable[[int], BaseException]) -> None:
        self._fail_times = fail_times
        self._then = then
        self._error = error
        self._guard = threading.Lock()
        self.calls = 0

    async def run(self) -> R:
        """Fail, or return the result."""
        with self._guard:  # one task may serve runs on several loops
            self.calls += 1
            call = self.calls
        if call <= self._fail_times:
            raise self._error(call)
        return self._then

    def __repr__(self) -> str:
        return f"<flaky task: {self._fail_times} failures, then {type_name(type(self._then))}; {self.calls} calls>"


def flaky(
    fail_times: int, then: R, error: BaseException | Callable[[int], BaseException] | None = None
) -> FlakyTask[R]:
    """Make a task that raises on its first calls, and returns a result on every later one.

    Args:
        fail_times: How many calls fail.
        then: What the later calls return: a state, or a branch's output.
        error: What is raised: an exception, or a function (or class) that makes one of the number of the call, 1 for
            the first. Default: a `RuntimeError`.

    Examples:
        >>> from cano import Retry, Workflow
        >>> from cano.testing import flaky
        >>> task = flaky(2, then="done", error=OSError("busy"))
        >>> Workflow().register("load", task, retry=Retry.fixed(5, 0)).add_exit_state("done").run("load")
        'done'
        >>> task.calls
        3
    """
    if error is None:
        return FlakyTask(fail_times, then, lambda call: RuntimeError(f"failure {call} of {fail_times}, on purpose"))
    if isinstance(error, BaseException):
        return FlakyTask(fail_times, then, lambda _: error)
    return FlakyTask(fail_times, then, error)

"""A split without a workflow: `fan_out` and `as_completed`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from datetime import timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import _checks
from ._engine import pause, resolve
from ._engine.contract import SplitPlan
from ._engine.dynamic import split_over_data
from .errors import ConfigurationError
from .join import JoinConfig, JoinStrategy
from .options import UNSET, Options
from .policy import Retry

if TYPE_CHECKING:
    from .results import SplitResult, SplitTaskResult

I = TypeVar("I")  # noqa: E741 - an item
T = TypeVar("T")
Seconds = float | timedelta
Over = Iterable[I] | AsyncIterable[I] | Callable[[], Iterable[I] | AsyncIterable[I] | Awaitable[Iterable[I]]]

# The split of a fan_out has no state to go on with; a JoinConfig needs one.
_NOWHERE = "joined"
# What most calls want; making one with all its checks costs as much as a split of ten.
_NONE_NEEDED = 0
_PLAIN = JoinConfig(JoinStrategy.All, _NOWHERE)
_NEVER = Retry.none()


@overload
async def fan_out(
    fn: Callable[[I], Awaitable[T]],
    over: Over[I],
    *,
    strategy: JoinStrategy = ...,
    bulkhead: int | None = ...,
    timeout: Seconds | None = ...,
    retry: Retry | None = ...,
    attempt_timeout: Seconds | None = ...,
    hedge_delay: Seconds | None = ...,
    fail_fast: bool = ...,
    min_successes: int = ...,
    inline: bool = ...,
    engine: str | None = ...,
) -> SplitResult[T]: ...
@overload
async def fan_out(
    fn: Callable[[I], T],
    over: Over[I],
    *,
    strategy: JoinStrategy = ...,
    bulkhead: int | None = ...,
    timeout: Seconds | None = ...,
    retry: Retry | None = ...,
    attempt_timeout: Seconds | None = ...,
    hedge_delay: Seconds | None = ...,
    fail_fast: bool = ...,
    min_successes: int = ...,
    inline: bool = ...,
    engine: str | None = ...,
) -> SplitResult[T]: ...
async def fan_out(
    fn: Any,
    over: Any,
    *,
    strategy: JoinStrategy = JoinStrategy.All,
    bulkhead: int | None = None,
    timeout: Seconds | None = None,
    retry: Retry | None = None,
    attempt_timeout: Seconds | None = None,
    hedge_delay: Seconds | None = None,
    fail_fast: bool = True,
    min_successes: int = _NONE_NEEDED,
    inline: bool = False,
    engine: str | None = None,
) -> Any:
    """Call `fn` on every item of `over`, one branch each, and join them.

    Args:
        fn: A callable or an object with `run`, sync (then on worker threads) or async, that takes an item. What such an
            object says in its `config` holds where `retry`, `attempt_timeout` and `inline` are left at their defaults.
        over: An iterable, an async iterable, or a function that returns one. Drawn lazily, an item when its branch may
            start.
        strategy: How the branches are joined. Default: all must succeed.
        bulkhead: How many branches may be live at once; those beyond it do not exist yet.
        timeout: Seconds from the call to the deadline; waiting for the bulkhead and retries count.
        retry: When a failed attempt is made again. Default: never.
        attempt_timeout: How long one attempt may take, in seconds.
        hedge_delay: Only with `Any`: start the next branch when one has not answered within so many seconds.
        fail_fast: Whether `All` fails at the first failure, or when every branch has ended.
        min_successes: How many successes `PartialTimeout` needs.
        inline: Run a sync `fn` in place instead of on worker threads.
        engine: `"native"`, `"python"` or `None`, as in `Workflow`.

    Returns:
        What came of the branches; `.outputs()` lists the results in the order of the items.

    Raises:
        ConfigurationError: An argument makes no sense.
        JoinError: The join failed: an `ExceptionGroup` of the branches' own exceptions, with `.result`.
        SplitTimeoutError: The join was undecided at its deadline (`PartialTimeout` decides there instead).
        TaskError: The source or a custom strategy raised.

    On cancellation every branch is cancelled and awaited before `CancelledError` goes on.

    Examples:
        >>> import asyncio
        >>> from cano import JoinStrategy, fan_out
        >>> async def ask(mirror):
        ...     await asyncio.sleep({"a": 5, "b": 0.1, "c": 0.2}[mirror])
        ...     return mirror
        >>> asyncio.run(fan_out(ask, "abc", strategy=JoinStrategy.Quorum(2))).outputs()
        ['b', 'c']

        Hedged: the second is asked only because the first does not answer within half a second.

        >>> split = asyncio.run(fan_out(ask, "abc", strategy=JoinStrategy.Any, hedge_delay=0.5))
        >>> split.outputs(), split.cancelled
        (['b'], (0, 2))
    """
    if strategy is JoinStrategy.All and fail_fast is True and _is_plain(bulkhead, timeout, hedge_delay, min_successes):
        join = _PLAIN
    else:
        join = JoinConfig(
            strategy,
            _NOWHERE,
            bulkhead=bulkhead,
            timeout=timeout,
            hedge_delay=hedge_delay,
            fail_fast=fail_fast,
            min_successes=min_successes,
        )
    plan = _plan(
        fn,
        over,
        join,
        retry,
        attempt_timeout,
        inline,
    )
    return await resolve(engine).fan_out(plan)


@overload
def as_completed(
    fn: Callable[[I], Awaitable[T]],
    over: Over[I],
    *,
    ordered: bool = ...,
    buffer: int | None = ...,
    bulkhead: int | None = ...,
    timeout: Seconds | None = ...,
    retry: Retry | None = ...,
    attempt_timeout: Seconds | None = ...,
    inline: bool = ...,
    engine: str | None = ...,
) -> AsyncGenerator[SplitTaskResult[T], None]: ...
@overload
def as_completed(
    fn: Callable[[I], T],
    over: Over[I],
    *,
    ordered: bool = ...,
    buffer: int | None = ...,
    bulkhead: int | None = ...,
    timeout: Seconds | None = ...,
    retry: Retry | None = ...,
    attempt_timeout: Seconds | None = ...,
    inline: bool = ...,
    engine: str | None = ...,
) -> AsyncGenerator[SplitTaskResult[T], None]: ...
def as_completed(
    fn: Any,
    over: Any,
    *,
    ordered: bool = False,
    buffer: int | None = None,
    bulkhead: int | None = None,
    timeout: Seconds | None = None,
    retry: Retry | None = None,
    attempt_timeout: Seconds | None = None,
    inline: bool = False,
    engine: str | None = None,
) -> Any:
    """Call `fn` on every item of `over` and yield each branch's outcome as it ends.

    Args:
        fn, over, bulkhead, retry, attempt_timeout, inline, engine: As in `fan_out`.
        ordered: Yield in the order of the items instead.
        buffer: How many results may wait to be taken before no more branches are started. Default: the bulkhead, or
            1,000. Branches that wait for their next attempt count as well, so that at most bulkhead + buffer are started
            and not taken.
        timeout: Seconds from the first step of the iteration to the deadline.

    Yields:
        `SplitTaskResult`: for a failed branch with its `error`; nothing is cancelled for it.

    Raises:
        ConfigurationError: An argument makes no sense; raised by the call itself.
        SplitTimeoutError: The deadline passed; raised after everything that ended in time was yielded.
        TaskError: The source raised; likewise.

    Where a result is ready each time, the iteration gives the event loop its turn now and then, after some 2 ms.
    Leaving the loop early cancels what runs and waits for it, as does cancelling the consumer. (`break` leaves the
    generator to Python, which closes it soon but not at once; `contextlib.aclosing` makes it prompt.)

    Examples:
        >>> import asyncio
        >>> from cano import as_completed
        >>> async def ask(seconds):
        ...     await asyncio.sleep(seconds)
        ...     return f"after {seconds} s"
        >>> async def main():
        ...     async for done in as_completed(ask, [0.2, 0.1]):
        ...         print(done.task_index, done.result)
        >>> asyncio.run(main())
        1 after 0.1 s
        0 after 0.2 s
    """
    _checks.boolean(ordered, "ordered")
    if buffer is not None:
        _checks.count(buffer, "buffer", 1)
    plan = _plan(
        fn,
        over,
        # Nothing is decided before every branch has ended, and then nothing is made of the verdict.
        JoinConfig(JoinStrategy.All, _NOWHERE, bulkhead=bulkhead, timeout=timeout, fail_fast=False),
        retry,
        attempt_timeout,
        inline,
    )
    size = buffer or plan.join.bulkhead or 1_000
    return _collect(plan, size, ordered, resolve(engine))


async def _collect(plan: SplitPlan, buffer: int, ordered: bool, engine: Any) -> AsyncIterator[Any]:
    from ._engine.outbox import Collector, Outbox

    outbox = Outbox(buffer, ordered)
    collector = Collector(engine.fan_out(plan, outbox), outbox)
    try:
        while (row := await collector.take()) is not None:
            yield row
    finally:
        await collector.close()


def _is_plain(bulkhead: Any, timeout: Any, hedge_delay: Any, min_successes: Any) -> bool:
    return bulkhead is None and timeout is None and hedge_delay is None and min_successes is _NONE_NEEDED


def _plan(
    fn: Any,
    over: Any,
    join: JoinConfig[str],
    retry: Retry | None,
    attempt_timeout: Seconds | None,
    inline: bool,
) -> SplitPlan:
    name = None
    if retry is None and attempt_timeout is None and type(fn) is FunctionType:  # with nothing to say of itself
        retry = _NEVER
        _checks.boolean(inline, "inline")
    else:
        options = Options.of(
            fn,
            UNSET if retry is None else retry,
            UNSET if attempt_timeout is None else attempt_timeout,
            UNSET if inline is False else inline,
            UNSET,
            UNSET,
        )
        name, retry, attempt_timeout, inline = options.name, options.retry, options.attempt_timeout, options.inline
    plan = split_over_data(
        fn,
        over,
        join,
        name=name,
        retry=retry,
        attempt_timeout=attempt_timeout,
        inline=inline,
        with_store=False,
    )
    if join is _PLAIN:
        return plan
    # How many items there are is the data's business, not a mistake of whoever wrote the call: that fails as a join.
    problems = join.problems(None)
    if problems:
        raise ConfigurationError(problems)
    return plan


@overload
def sleep(seconds: Seconds) -> Coroutine[Any, Any, None]: ...
@overload
def sleep(seconds: Seconds, result: T) -> Coroutine[Any, Any, T]: ...
def sleep(seconds: Seconds, result: Any = None) -> Coroutine[Any, Any, Any]:
    """Sleep on the engine's own timers: inside a branch cheaper than `asyncio.sleep`, elsewhere the same.

    Args:
        seconds: How long; 0 gives the loop one turn.
        result: What awaiting gives.

    Raises:
        ConfigurationError: `seconds` is negative or no number.

    What comes is awaited once, or handed to whatever takes a coroutine (`asyncio.gather`, `create_task`). It can be
    cancelled like any sleep.
    """
    return _sleep(seconds, result)


def _sleep(seconds: Seconds, result: Any) -> Coroutine[Any, Any, Any]:
    delay = seconds if type(seconds) is float and seconds >= 0.0 else _checks.seconds(seconds, "seconds", zero=True)
    slept: Coroutine[Any, Any, Any] = pause(delay, result)
    return slept

"""Where branches come from: containers, iterators, generators, functions, and their asynchronous twins."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from typing import Any

import pytest

from cano import (
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinProgress,
    JoinStrategy,
    JoinVerdict,
    Retry,
    SplitTimeoutError,
    TaskError,
    Workflow,
    fan_out,
)


class Log(list[str]):
    """What happened, in order."""

    def numbers(self, total: int, *, error: BaseException | None = None, name: str = "source"):
        """A generator that says when it is drawn from and when it is closed."""
        try:
            for index in range(total):
                self.append(f"draw {index}")
                yield index
            if error is not None:
                raise error
            self.append("exhausted")
        finally:
            self.append(f"{name} closed")

    async def anumbers(self, total: int, *, error: BaseException | None = None):
        """Likewise, asynchronous."""
        try:
            for index in range(total):
                await asyncio.sleep(0)
                self.append(f"draw {index}")
                yield index
            if error is not None:
                raise error
            self.append("exhausted")
        finally:
            await asyncio.sleep(0)
            self.append("source closed")


async def echo(item: int) -> int:
    await asyncio.sleep(item + 1)
    return item


async def hang(_: Any) -> None:
    await asyncio.get_running_loop().create_future()


class Iterable:
    def __init__(self, total: int) -> None:
        self.total = total

    def __iter__(self):
        return iter(range(self.total))


class AsyncIterable:
    def __init__(self, total: int) -> None:
        self.total = total

    def __aiter__(self):
        return self._draw()

    async def _draw(self):
        for index in range(self.total):
            yield index


async def asynchronously(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


SOURCES = {
    "list": lambda: [0, 1, 2],
    "tuple": lambda: (0, 1, 2),
    "range": lambda: range(3),
    "dict": lambda: {0: "a", 1: "b", 2: "c"},
    "iterator": lambda: iter([0, 1, 2]),
    "generator": lambda: (index for index in range(3)),
    "iterable": lambda: Iterable(3),
    "async generator": lambda: AsyncIterable(3)._draw(),
    "async iterable": lambda: AsyncIterable(3),
    "function": lambda: lambda: [0, 1, 2],
    "generator function": lambda: lambda: iter(range(3)),
    "function giving an async iterable": lambda: lambda: AsyncIterable(3),
    "async function": lambda: lambda: asynchronously([0, 1, 2]),
    "async function giving a generator": lambda: lambda: asynchronously(iter(range(3))),
    "async function giving an async iterable": lambda: lambda: asynchronously(AsyncIterable(3)),
}


@pytest.mark.parametrize("source", list(SOURCES))
@pytest.mark.parametrize("bulkhead", [None, 1, 2])
async def test_every_kind_of_source(engine, source, bulkhead):
    result = await fan_out(echo, SOURCES[source](), bulkhead=bulkhead, engine=engine)
    assert result.outputs() == [0, 1, 2]
    assert (result.total_count, result.cancelled) == (3, ())


@pytest.mark.parametrize("kind", ["numbers", "anumbers"])
async def test_an_item_is_drawn_when_its_branch_may_start(engine, kind):
    log = Log()

    async def branch(item: int) -> None:
        log.append(f"begin {item}")
        await asyncio.sleep(1)
        log.append(f"end {item}")

    await fan_out(branch, lambda: getattr(log, kind)(3), bulkhead=1, engine=engine)
    expected = [f"{word} {index}" for index in range(3) for word in ("draw", "begin", "end")]
    assert log == [*expected, "exhausted", "source closed"]


@pytest.mark.parametrize("kind", ["numbers", "anumbers"])
@pytest.mark.parametrize("made", [True, False], ids=["function", "generator"])
async def test_a_generator_is_closed_when_the_split_ends(engine, kind, made):
    log = Log()
    make = lambda: getattr(log, kind)(100)  # noqa: E731
    source = make if made else make()
    result = await fan_out(echo, source, strategy=JoinStrategy.Any, bulkhead=2, engine=engine)
    assert log == ["draw 0", "draw 1", "source closed"]
    assert (result.outputs(), result.total_count) == ([0], 2)


@pytest.mark.parametrize("kind", ["numbers", "anumbers"])
async def test_a_generator_is_closed_when_the_run_is_cancelled(engine, kind):
    log = Log()
    task = asyncio.create_task(fan_out(hang, getattr(log, kind)(9), bulkhead=2, engine=engine))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["draw 0", "draw 1", "source closed"]


@pytest.mark.parametrize("kind", ["numbers", "anumbers"])
async def test_a_generator_is_closed_when_the_split_fails(engine, kind):
    log = Log()

    async def fail(item: int) -> None:
        await asyncio.sleep(1)
        raise ValueError(item)

    with pytest.raises(JoinError):
        await fan_out(fail, getattr(log, kind)(9), bulkhead=2, engine=engine)
    assert log == ["draw 0", "draw 1", "source closed"]


def test_a_generator_is_closed_when_the_split_is_interrupted_before_it_has_begun(engine):
    class Interrupts:
        def on_split_start(self, event):
            raise KeyboardInterrupt

    numbers = (number for number in range(3))
    workflow = Workflow(engine=engine).register_map("fan", echo, numbers, JoinConfig(JoinStrategy.All, "end"))
    workflow.add_exit_state("end").add_observer(Interrupts())
    with pytest.raises(KeyboardInterrupt):
        workflow.run("fan")
    assert inspect.getgeneratorstate(numbers) == inspect.GEN_CLOSED


async def test_losers_have_ended_before_a_generator_is_closed(engine):
    """A branch may use what the generator holds open: a file, a connection."""
    log = Log()

    async def branch(item: int) -> int:
        try:
            await asyncio.sleep(1 + 9 * item)
        finally:
            await asyncio.sleep(1)
            log.append(f"branch {item} over")
        return item

    await fan_out(branch, lambda: log.numbers(9), strategy=JoinStrategy.Any, bulkhead=2, engine=engine)
    assert log[-2:] == ["branch 1 over", "source closed"]


async def test_an_iterator_of_somebody_elses_is_not_closed(engine, tmp_path):
    path = tmp_path / "lines"
    path.write_text("1\n2\n3\n")

    async def branch(line: str) -> int:
        return int(line)

    with path.open() as lines:
        result = await fan_out(branch, lines, engine=engine)
        assert not lines.closed
    assert result.outputs() == [1, 2, 3]


async def test_an_error_while_closing_changes_nothing(engine, caplog):
    def source():
        try:
            yield from range(100)
        finally:
            raise OSError("secret")

    result = await fan_out(echo, source, strategy=JoinStrategy.Any, bulkhead=1, engine=engine)
    assert result.outputs() == [0]
    (record,) = [record for record in caplog.records if record.name == "cano"]
    assert "OSError" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_sources_are_called_on_the_loops_thread(engine):
    import threading

    seen: set[int] = set()

    def source():
        seen.add(threading.get_ident())
        for index in range(3):
            seen.add(threading.get_ident())
            yield index

    def branch(item: int) -> int:
        return item

    result = await fan_out(branch, source, bulkhead=1, engine=engine)
    assert result.outputs() == [0, 1, 2]
    assert seen == {threading.get_ident()}


# --- one-shot iterators ---


@pytest.mark.parametrize("make", [lambda: iter([0, 1]), lambda: AsyncIterable(2)._draw()], ids=["iterator", "async"])
async def test_a_one_shot_iterator_serves_one_run(engine, make):
    workflow = Workflow(engine=engine).add_exit_state("end")
    workflow.register_map("fan", echo, make(), JoinConfig(JoinStrategy.All, "end", store_partial_results=True))
    assert await workflow.orchestrate("fan") == "end"
    assert workflow.store.get("split_results").outputs() == [0, 1]
    with pytest.raises(ConfigurationError, match="has already served a run"):
        await workflow.orchestrate("fan")


async def test_a_one_shot_iterator_of_tasks_serves_one_run(engine):
    async def task() -> int:
        return 1

    workflow = Workflow(engine=engine).add_exit_state("end")
    workflow.register_split("fan", iter([task, task]), JoinConfig(JoinStrategy.All, "end"))
    assert await workflow.orchestrate("fan") == "end"
    with pytest.raises(ConfigurationError, match="has already served a run"):
        await workflow.orchestrate("fan")


@pytest.mark.parametrize("source", ["list", "range", "iterable", "async iterable", "function", "async function"])
async def test_a_source_that_can_begin_again_serves_any_number_of_runs(engine, source):
    workflow = Workflow(engine=engine).add_exit_state("end")
    join = JoinConfig(JoinStrategy.All, "end", store_partial_results=True)
    workflow.register_map("fan", echo, SOURCES[source](), join)
    for _ in range(3):
        await workflow.orchestrate("fan")
        assert workflow.store.get("split_results").outputs() == [0, 1, 2]


# --- errors of a source ---


@pytest.mark.parametrize("kind", ["numbers", "anumbers"])
async def test_an_error_of_the_source_fails_the_state_after_its_branches_ended(engine, kind):
    log = Log()
    trouble = OSError("disk")

    async def branch(item: int) -> int:
        try:
            await asyncio.sleep(99)
        finally:
            await asyncio.sleep(1)
            log.append(f"branch {item} over")
        return item

    with pytest.raises(TaskError) as caught:
        await fan_out(branch, getattr(log, kind)(2, error=trouble), engine=engine)
    assert caught.value.__cause__ is trouble
    assert not isinstance(caught.value, JoinError)
    # A generator that has raised is over; only its branches are left to wait for.
    assert log[-2:] == ["branch 0 over", "branch 1 over"]


@pytest.mark.parametrize("kind", ["numbers", "anumbers"])
async def test_an_error_of_the_source_after_the_decision_changes_nothing(engine, kind):
    """It is not even asked any more; what it raises while it is closed is logged."""
    log = Log()
    source = getattr(log, kind)(2, error=OSError())
    result = await fan_out(echo, source, strategy=JoinStrategy.Any, bulkhead=1, engine=engine)
    assert result.outputs() == [0]
    assert log == ["draw 0", "source closed"]


@pytest.mark.parametrize(
    "source",
    [
        lambda: (_ for _ in ()).throw(OSError()),
        lambda: asynchronously(5),
        lambda: 5,
    ],
    ids=["raises", "async gives no iterable", "gives no iterable"],
)
async def test_a_source_function_that_fails(engine, source):
    with pytest.raises((TaskError, ConfigurationError)) as caught:
        await fan_out(echo, source, engine=engine)
    if isinstance(caught.value, ConfigurationError):
        assert "draws its branches from an iterable" in str(caught.value)
    else:
        assert isinstance(caught.value.__cause__, OSError)


async def test_an_async_source_function_that_fails(engine):
    async def source() -> list[int]:
        await asyncio.sleep(1)
        raise OSError

    with pytest.raises(TaskError) as caught:
        await fan_out(echo, source, engine=engine)
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_cancelled_error_of_the_source_is_an_error_like_any(engine):
    def source():
        yield 0
        raise asyncio.CancelledError

    async def asource():
        yield 0
        raise asyncio.CancelledError

    for over in (source, asource):
        with pytest.raises(TaskError) as caught:
            await fan_out(hang, over, engine=engine)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_what_is_no_source_is_refused(engine):
    with pytest.raises(ConfigurationError, match="branches come from"):
        await fan_out(echo, 5, engine=engine)  # type: ignore[arg-type]


async def test_a_bad_task_drawn_late_fails_its_branch_only(engine):
    async def task() -> int:
        return 1

    workflow = Workflow(engine=engine).add_exit_state("end")
    join = JoinConfig(JoinStrategy.PartialResults(1), "end", store_partial_results=True)
    workflow.register_split("fan", lambda: iter([5, task]), join)
    await workflow.orchestrate("fan")
    result = workflow.store.get("split_results")
    assert result.outputs() == [1]
    assert isinstance(result.errors[0].error, ConfigurationError)


# --- N of a lazy source ---


def lazily(*items: Any):
    def source():
        yield from items

    return source


def alazily(*items: Any):
    async def source():
        for item in items:
            yield item

    return source


both = pytest.mark.parametrize("make", [lazily, alazily], ids=["sync", "async"])


async def play(outcome: float) -> float:
    """Positive: succeed after so many seconds; negative: fail."""
    await asyncio.sleep(abs(outcome))
    if outcome < 0:
        raise ValueError(outcome)
    return outcome


@both
@pytest.mark.parametrize(
    ("strategy", "items", "ended", "total"),
    [
        (JoinStrategy.Any, [-1, 2, 1e9], 2, 3),
        (JoinStrategy.Quorum(2), [1, -2, 3, 1e9], 3, 4),
        (JoinStrategy.PartialResults(2), [1, -2, 3, 1e9], 3, 4),
    ],
)
async def test_successes_decide_without_n(engine, make, strategy, items, ended, total):
    result = await fan_out(play, make(*items), strategy=strategy, engine=engine)
    assert (result.completed_count, result.total_count) == (ended, total)


@both
async def test_a_failure_decides_all_without_n(engine, make):
    log: list[float] = []

    def note(item: float) -> float:
        log.append(item)
        return item

    with pytest.raises(JoinError) as caught:
        await fan_out(play, make(*map(note, [1, -2, 3, 4])), bulkhead=2, engine=engine)
    result = caught.value.result
    assert result is not None
    # 1 was replaced by 3; 4 was never drawn, so N is 3.
    assert (result.total_count, result.cancelled) == (3, (2,))


@both
async def test_a_share_waits_until_n_is_known(engine, make):
    """Half of two is one, and that many succeeded long ago: it is decided when the source turns out to be empty."""
    began = asyncio.get_running_loop().time()
    result = await fan_out(play, make(1, 2, 5), strategy=JoinStrategy.Percentage(0.3), bulkhead=1, engine=engine)
    # 0.3 of 3 is 1: known when the third was drawn and the fourth was looked for, at 3 + 5.
    assert asyncio.get_running_loop().time() - began == 8
    assert result.completed_count == 3


@both
async def test_all_proceeds_when_the_source_is_exhausted(engine, make):
    result = await fan_out(play, make(2, 1), engine=engine)
    assert (result.outputs(), result.total_count) == ([2, 1], 2)


@both
@pytest.mark.parametrize("strategy", [JoinStrategy.Any, JoinStrategy.Quorum(1), JoinStrategy.PartialResults(1)])
async def test_failures_alone_decide_only_with_n(engine, make, strategy):
    began = asyncio.get_running_loop().time()
    with pytest.raises(JoinError):
        await fan_out(play, make(-1, -1, -1), strategy=strategy, bulkhead=1, engine=engine)
    assert asyncio.get_running_loop().time() - began == 3


@both
async def test_partial_timeout_proceeds_when_a_lazy_source_has_ended(engine, make):
    began = asyncio.get_running_loop().time()
    result = await fan_out(play, make(1, -2), strategy=JoinStrategy.PartialTimeout, timeout=9, engine=engine)
    assert asyncio.get_running_loop().time() - began == 2
    assert (result.completed_count, result.total_count) == (2, 2)


@both
async def test_a_source_slower_than_the_deadline(engine, make):
    with pytest.raises(SplitTimeoutError) as caught:
        await fan_out(play, make(1, 1, 1, 1), bulkhead=1, timeout=2.5, engine=engine)
    assert caught.value.result is not None
    assert caught.value.result.total_count == 3  # what was drawn


async def test_a_deadline_while_the_source_is_awaited(engine):
    log = Log()

    async def source():
        try:
            yield 1
            await asyncio.sleep(99)
        finally:
            log.append("closed")

    with pytest.raises(SplitTimeoutError):
        await fan_out(play, source, timeout=2.5, engine=engine)
    assert log == ["closed"]


async def test_a_decision_while_the_source_is_awaited(engine):
    log = Log()

    async def source():
        try:
            yield 1
            await asyncio.sleep(99)
            yield 2
        finally:
            log.append("closed")

    result = await fan_out(play, source, strategy=JoinStrategy.Any, engine=engine)
    assert (result.outputs(), result.total_count) == ([1], 1)
    assert log == ["closed"]


@both
async def test_custom_strategy_without_n(engine, make):
    asked: list[JoinProgress] = []

    def decide(progress: JoinProgress) -> JoinVerdict:
        asked.append(progress)
        return JoinVerdict.WAIT if progress.total is None else JoinVerdict.PROCEED

    await fan_out(play, make(1, -1), strategy=JoinStrategy.Custom(decide), bulkhead=1, engine=engine)
    assert asked == [
        JoinProgress(1, 0, None, None, 1.0),
        JoinProgress(1, 1, None, None, 2.0),
        JoinProgress(1, 1, 0, 2, 2.0),  # once more when the source has ended
    ]


async def test_a_source_that_is_shorter_than_its_length(engine):
    class Liar:
        def __len__(self) -> int:
            return 5

        def __iter__(self):
            return iter([1, 2])

    result = await fan_out(play, Liar(), engine=engine)
    assert (result.outputs(), result.total_count) == ([1, 2], 2)


async def test_a_branch_does_not_see_the_exception_of_the_source(engine):
    """A generator that yields from inside `except` is handling an exception; its branches are not."""
    seen: list[BaseException | None] = []

    def source():
        try:
            raise ValueError
        except ValueError:
            yield from range(3)

    async def branch(item: int) -> None:
        seen.append(sys.exception())
        await asyncio.sleep(0)
        seen.append(sys.exception())

    await fan_out(branch, source, engine=engine)
    assert seen == [None] * 6


@both
@pytest.mark.parametrize("bulkhead", [1, 2])
async def test_a_source_goes_on_after_retries(engine, make, bulkhead):
    """A retry that is due takes the permit; when it has ended at once, the source gets its turn again."""
    tries: list[int] = []

    async def branch(item: int) -> int:
        tries.append(item)
        if item == 0 and tries.count(0) == 1:
            raise ValueError(item)
        if item == 1:
            await asyncio.sleep(2)
        return item

    result = await fan_out(branch, make(0, 1, 2, 3), bulkhead=bulkhead, retry=Retry.fixed(1, 1), engine=engine)
    assert result.outputs() == [0, 1, 2, 3]


@pytest.mark.alone
async def test_a_source_that_is_never_awaited_is_closed(engine):
    """Decided by its numbers alone: the coroutine that would have given the items must not complain."""
    for _ in range(2):
        result = await fan_out(echo, lambda: asynchronously([1]), strategy=JoinStrategy.Quorum(0), engine=engine)
        assert result.total_count == 0
        gc.collect()


async def test_a_type_error_of_the_source_itself_is_its_own(engine):
    class Rows:
        def __iter__(self) -> Any:
            return iter("a" + 1)  # type: ignore[operator]

    with pytest.raises(TaskError) as caught:
        await fan_out(len, Rows(), engine=engine)
    assert isinstance(caught.value.__cause__, TypeError)


async def test_a_cancellation_that_the_source_raises_keeps_its_words(engine):
    async def source() -> Any:
        yield 1
        raise asyncio.CancelledError("of mine")

    with pytest.raises(TaskError, match="CancelledError: of mine") as caught:
        await fan_out(asyncio.sleep, source(), engine=engine)
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.args == ("of mine",)

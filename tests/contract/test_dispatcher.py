"""How events reach observers, and what observers cannot do to a run."""

from __future__ import annotations

import asyncio
import logging
import pickle
from typing import Any

import pytest

from cano import ConfigurationError, RunEvent
from cano.observe import KINDS, Dispatcher, check_observer
from cano.testing import RecordingObserver

pytestmark = pytest.mark.fault("F3")

CANARY = "canary-55d0"


class Starts:
    def __init__(self) -> None:
        self.seen: list[RunEvent] = []

    def on_task_start(self, event: RunEvent) -> None:
        self.seen.append(event)


def test_an_event_has_all_its_fields() -> None:
    observer = Starts()
    dispatcher = Dispatcher([observer], "r1")
    dispatcher.emit("task_start", at=0.5, state="s", task="load", branch=3, attempt=2, value=7)
    (event,) = observer.seen
    assert (event.kind, event.run_id, event.at) == ("task_start", "r1", 0.5)
    assert (event.state, event.task, event.branch, event.attempt) == ("s", "load", 3, 2)
    assert (event.value, event.error) == (7, None)
    assert pickle.loads(pickle.dumps(event)) == event
    with pytest.raises(AttributeError, match="immutable"):
        event.at = 0.0  # type: ignore[misc]


def test_an_event_shows_no_value() -> None:
    event = RunEvent("branch_success", "r1", "s", branch=3, at=0.5, value=CANARY, error=ValueError(CANARY))
    assert repr(event) == "<RunEvent 0.500000 s branch_success state=s branch=3 error=ValueError>"


def test_wants_is_what_anybody_handles() -> None:
    assert Dispatcher([], "r1").wants == frozenset()
    assert Dispatcher([Starts()], "r1").wants == {"task_start"}
    assert Dispatcher([Starts(), RecordingObserver()], "r1").wants == frozenset(KINDS)


def test_observers_are_called_in_their_order() -> None:
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_join(self, event: RunEvent) -> None:
            order.append(self.name)

    Dispatcher([Named("a"), Named("b")], "r1").emit("join", at=0)
    assert order == ["a", "b"]


def test_what_nobody_wants_is_nothing() -> None:
    observer = Starts()
    Dispatcher([observer], "r1").emit("join", at=0, value="x")
    assert observer.seen == []


# --- what observers cannot do ---


class Breaks:
    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def on_task_start(self, event: RunEvent) -> None:
        self.calls += 1
        raise self.error


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise OSError("no words")


@pytest.mark.parametrize(
    "error",
    [
        ValueError(CANARY),
        StopIteration(CANARY),
        asyncio.CancelledError(CANARY),
        GeneratorExit(CANARY),
        BaseException(CANARY),
        UnspeakableError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_observer_that_raises_is_logged_once_and_changes_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = Breaks(error), Starts()
    dispatcher = Dispatcher([broken, other], "r1")
    with caplog.at_level(logging.WARNING, "cano"):
        for _ in range(3):
            dispatcher.emit("task_start", at=0, value=CANARY)
    assert broken.calls == 3
    assert len(other.seen) == 3
    (record,) = caplog.records
    assert "Breaks.on_task_start" in record.getMessage()
    assert type(error).__name__ in record.getMessage()
    assert "test_dispatcher.py" in record.getMessage()
    assert CANARY not in caplog.text


def test_each_run_and_each_observer_has_its_line(caplog: pytest.LogCaptureFixture) -> None:
    observers = [Breaks(ValueError()), Breaks(ValueError())]
    with caplog.at_level(logging.WARNING, "cano"):
        for run_id in ("r1", "r2"):
            dispatcher = Dispatcher(observers, run_id)
            dispatcher.emit("task_start", at=0)
            dispatcher.emit("task_start", at=1)
    assert len(caplog.records) == 4


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_only_interrupts_come_through(error: type[BaseException]) -> None:
    with pytest.raises(error):
        Dispatcher([Breaks(error())], "r1").emit("task_start", at=0)


def test_a_log_handler_that_raises_changes_nothing() -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise OSError("disk full")

    logger, handler = logging.getLogger("cano"), Broken()
    logger.addHandler(handler)
    try:
        Dispatcher([Breaks(ValueError())], "r1").emit("task_start", at=0)
    finally:
        logger.removeHandler(handler)


def test_an_awaitable_is_closed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def later() -> None:
        pytest.fail("it is not awaited")

    class Hidden:
        def on_join(self, event: RunEvent) -> object:
            return later()

    with caplog.at_level(logging.WARNING, "cano"):
        Dispatcher([Hidden()], "r1").emit("join", at=0)
    (record,) = caplog.records
    assert "awaitable" in record.getMessage()


def test_observers_may_come_and_go_meanwhile() -> None:
    observers: list[Any] = []

    class Leaves:
        calls = 0

        def on_join(self, event: RunEvent) -> None:
            self.calls += 1
            observers.clear()

    observers += [Leaves(), Leaves()]
    both = list(observers)
    Dispatcher(observers, "r1").emit("join", at=0)
    assert [one.calls for one in both] == [1, 1]


# --- what is no observer ---


def refused(observer: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check_observer(observer)
    return str(caught.value)


def test_good_observers_pass() -> None:
    check_observer(Starts())
    check_observer(RecordingObserver())


def test_an_object_without_any_method() -> None:
    assert "on_workflow_start" in refused(object())


def test_a_misspelt_name_gets_a_hint() -> None:
    class Misspelt:
        def on_task_sucess(self, event: RunEvent) -> None: ...

    assert "did you mean on_task_success?" in refused(Misspelt())


def test_a_method_that_means_something_else_is_left_alone() -> None:
    class Widget(Starts):
        def on_click(self) -> None: ...

    check_observer(Widget())


def test_an_async_method_is_refused() -> None:
    class Async:
        async def on_join(self, event: RunEvent) -> None: ...

    assert "plain method" in refused(Async())


def test_a_class_is_refused() -> None:
    assert "add Starts()" in refused(Starts).replace(Starts.__module__ + ".", "")


def test_what_cannot_be_called_is_refused() -> None:
    class Odd:
        on_join = 5

    assert "on_join must be a method" in refused(Odd())


def test_every_problem_is_told() -> None:
    class Bad:
        on_join = 5

        async def on_retry(self, event: RunEvent) -> None: ...

        def on_task_strt(self, event: RunEvent) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        check_observer(Bad())
    assert len(caught.value.problems) == 3

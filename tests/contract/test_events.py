"""What observers are told, in which order, and that they change nothing: contract section 8."""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import Any

import pytest
from tests.contract.given import Boom, Observer, S, join, never, sleeper, to
from tests.contract.shapes import SHAPES, build

from cano import (
    CancelToken,
    CanoError,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Retry,
    RunEvent,
    SplitTimeoutError,
    TaskError,
    TaskResult,
    Workflow,
    WorkflowError,
)
from cano.observe import KINDS
from cano.results import SplitResult
from cano.testing import flaky


def told(observer: Observer) -> list[str]:
    """Every event as a line: kind, state, branch, attempt, where they apply."""
    lines = []
    for event in observer.events:
        parts = [event.kind]
        if event.state is not None:
            parts.append(event.state.name)
        if event.branch is not None:
            parts.append(f"b{event.branch}")
        if event.attempt is not None:
            parts.append(f"a{event.attempt}")
        lines.append(" ".join(parts))
    return lines


async def watch(workflow: Workflow[Any], initial: Any = S.START, **options: Any) -> tuple[Observer, Any]:
    observer = Observer()
    workflow.add_observer(observer)
    try:
        return observer, await workflow.orchestrate(initial, **options)
    except (CanoError, asyncio.CancelledError) as error:
        return observer, error


# --- exact lists --------------------------------------------------------------------------------------------------


async def test_a_linear_run(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, sleeper(1, S.WORK), name="first").add_exit_state(S.DONE)
    observer, _ = await watch(workflow.register(S.WORK, to(S.DONE), name="second"))
    assert told(observer) == [
        "workflow_start",
        "state_enter START",
        "task_start START a1",
        "task_success START a1",
        "state_exit START a1",
        "state_enter WORK",
        "task_start WORK a1",
        "task_success WORK a1",
        "state_exit WORK a1",
        "state_enter DONE",
        "workflow_end",
    ]
    assert [event.at for event in observer.events] == [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert [event.task for event in observer.of("task_start")] == ["first", "second"]
    assert [event.value for event in observer.of("task_success")] == [S.WORK, S.DONE]
    assert [event.value for event in observer.of("state_exit")] == [1, 0]
    assert observer.one("workflow_start").value is S.START
    assert observer.one("workflow_end").value is S.DONE
    assert all(event.error is None for event in observer.events)
    assert len({event.run_id for event in observer.events}) == 1


async def test_a_run_that_begins_at_its_end(engine: str) -> None:
    observer, _ = await watch(Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE), S.DONE)
    assert told(observer) == ["workflow_start", "state_enter DONE", "workflow_end"]


async def test_a_split(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [sleeper(2, "a"), sleeper(1, "b"), to("c")], join(), name="three")
    observer, _ = await watch(workflow)
    assert told(observer) == [
        "workflow_start",
        "state_enter START",
        "split_start START",
        "branch_start START b0 a1",
        "branch_start START b1 a1",
        "branch_start START b2 a1",
        "branch_success START b2 a1",
        "branch_success START b1 a1",
        "branch_success START b0 a1",
        "join START",
        "state_exit START a1",
        "state_enter DONE",
        "workflow_end",
    ]
    assert observer.one("split_start").value == 3
    assert [event.value for event in observer.of("branch_success")] == ["c", "b", "a"]
    assert isinstance(observer.one("join").value, SplitResult)
    assert observer.one("join").error is None
    assert {event.task for event in observer.events if event.branch is not None} == {"three"}


async def test_a_join_that_fails(engine: str) -> None:
    async def bad() -> None:
        await asyncio.sleep(1)
        raise Boom

    workflow = Workflow(engine=engine).register_split(S.START, [never, bad, never], join()).add_exit_state(S.DONE)
    observer, error = await watch(workflow)
    assert isinstance(error, JoinError)
    assert told(observer) == [
        "workflow_start",
        "state_enter START",
        "split_start START",
        "branch_start START b0 a1",
        "branch_start START b1 a1",
        "branch_start START b2 a1",
        "branch_failure START b1 a1",
        "branch_cancelled START b0",
        "branch_cancelled START b2",
        "join START",
        "state_exit START a1",
        "workflow_end",
    ]
    assert isinstance(observer.one("branch_failure").error, Boom)
    assert observer.one("join").error is error
    assert observer.one("state_exit").error is error
    assert observer.one("workflow_end").error is error
    assert observer.one("workflow_end").value is None


async def test_a_branch_that_was_never_started_has_no_events(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [to(1), never, never], join(strategy=JoinStrategy.Any, bulkhead=1))
    observer, _ = await watch(workflow)
    assert [event.branch for event in observer.events if event.branch is not None] == [0, 0]
    assert observer.one("join").value.cancelled == (1, 2)


async def test_a_lazy_source_hides_how_many_branches_there_are(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_map(S.START, str, lambda: iter([1, 2]), join(), inline=True)
    observer, _ = await watch(workflow)
    assert observer.one("split_start").value is None


async def test_retries_of_a_branch(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    workflow.register_split(S.START, [flaky(1, "a"), flaky(9, "b")], join(), retry=Retry.fixed(2, 1))
    observer, _ = await watch(workflow)
    assert told(observer)[3:] == [
        "branch_start START b0 a1",
        "retry START b0 a1",
        "branch_start START b1 a1",
        "retry START b1 a1",
        "branch_start START b0 a2",
        "branch_success START b0 a2",
        "branch_start START b1 a2",
        "retry START b1 a2",
        "branch_start START b1 a3",
        "branch_failure START b1 a3",
        "join START",
        "state_exit START a1",
        "workflow_end",
    ]
    assert [event.value for event in observer.of("retry")] == [1, 1, 1]


async def test_a_split_that_runs_out_of_time(engine: str) -> None:
    workflow = Workflow(engine=engine).register_split(S.START, [never], join(timeout=2)).add_exit_state(S.DONE)
    observer, error = await watch(workflow)
    assert isinstance(error, SplitTimeoutError)
    assert told(observer)[3:] == [
        "branch_start START b0 a1",
        "branch_cancelled START b0",
        "timeout START",
        "join START",
        "state_exit START a1",
        "workflow_end",
    ]
    assert observer.one("timeout").value == 2


async def test_a_split_chosen_at_run_time(engine: str) -> None:
    async def choose() -> Any:
        return TaskResult.Split([to(1)], join(S.DONE))

    workflow = Workflow(engine=engine).register(S.START, choose, name="choose").add_exit_state(S.DONE)
    observer, _ = await watch(workflow)
    assert told(observer) == [
        "workflow_start",
        "state_enter START",
        "task_start START a1",
        "task_success START a1",
        "split_start START",
        "branch_start START b0 a1",
        "branch_success START b0 a1",
        "join START",
        "state_exit START a1",
        "state_enter DONE",
        "workflow_end",
    ]


async def test_a_run_that_is_cancelled(engine: str) -> None:
    observer = Observer()
    workflow = Workflow(engine=engine).register_split(S.START, [never], join()).add_exit_state(S.DONE)
    task = asyncio.create_task(workflow.add_observer(observer).orchestrate(S.START))
    await asyncio.sleep(1)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told(observer)[3:] == [
        "branch_start START b0 a1",
        "branch_cancelled START b0",
        "join START",
        "state_exit START a1",
        "cancelled START",
        "workflow_end",
    ]
    assert observer.one("cancelled").value == "enough"
    assert isinstance(observer.one("join").error, asyncio.CancelledError)
    assert isinstance(observer.one("workflow_end").error, asyncio.CancelledError)


async def test_an_error_from_the_source(engine: str) -> None:
    def source() -> Any:
        yield 1
        raise Boom

    workflow = Workflow(engine=engine).register_map(S.START, asyncio.sleep, source, join()).add_exit_state(S.DONE)
    observer, error = await watch(workflow)
    assert isinstance(error, TaskError)
    assert told(observer)[2:] == [
        "split_start START",
        "branch_start START b0 a1",
        "branch_cancelled START b0",
        "join START",
        "state_exit START a1",
        "workflow_end",
    ]


async def test_a_state_without_handler(engine: str) -> None:
    workflow = Workflow(engine=engine, max_transitions=1).register(S.START, to(S.WORK)).add_exit_state(S.DONE)
    observer, error = await watch(workflow.register(S.WORK, to(S.START)))
    assert isinstance(error, WorkflowError)
    assert told(observer)[-4:] == ["task_start WORK a1", "task_success WORK a1", "state_exit WORK a1", "workflow_end"]
    assert observer.of("state_exit")[-1].error is error


# --- an event -----------------------------------------------------------------------------------------------------


async def test_the_fields_of_an_event(engine: str) -> None:
    observer, _ = await watch(Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE))
    event = observer.one("task_start")
    assert isinstance(event, RunEvent)
    assert event == RunEvent("task_start", event.run_id, S.START, event.task, None, 1, 0.0, None, None)
    assert event.task is not None
    with pytest.raises(AttributeError, match="immutable"):
        event.kind = "other"  # type: ignore[misc]
    assert repr(event).startswith("<RunEvent 0.000000 s task_start state=S.START task=")


async def test_runs_can_be_told_apart(engine: str) -> None:
    observer = Observer()
    workflow = Workflow(engine=engine).register(S.START, sleeper(1)).add_exit_state(S.DONE).add_observer(observer)
    await asyncio.gather(*(workflow.orchestrate(S.START) for _ in range(3)))
    assert len({event.run_id for event in observer.events}) == 3
    for run in {event.run_id for event in observer.events}:
        kinds = [event.kind for event in observer.events if event.run_id == run]
        assert kinds == [
            "workflow_start", "state_enter", "task_start", "task_success", "state_exit", "state_enter", "workflow_end",
        ]  # fmt: skip


async def test_at_counts_from_the_beginning_of_the_run(engine: str) -> None:
    await asyncio.sleep(1000)
    observer, _ = await watch(Workflow(engine=engine).register(S.START, sleeper(2.5)).add_exit_state(S.DONE))
    assert observer.one("workflow_start").at == 0
    assert observer.one("workflow_end").at == 2.5


# --- observers ----------------------------------------------------------------------------------------------------


async def test_an_observer_may_have_any_of_the_methods(engine: str) -> None:
    class OnlyEnds:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_workflow_end(self, event: RunEvent) -> None:
            self.seen.append(event.value)

        def unrelated(self) -> None:
            raise AssertionError

    observer = OnlyEnds()
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE).add_observer(observer)
    await workflow.orchestrate(S.START)
    assert observer.seen == [S.DONE]


async def test_several_observers_are_told_in_the_order_they_were_added(engine: str) -> None:
    log: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def on_task_start(self, event: RunEvent) -> None:
            log.append(self.name)

    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)
    await workflow.add_observer(Named("a")).add_observer(Named("b")).orchestrate(S.START)
    assert log == ["a", "b"]


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (object(), "needs at least one of these methods"),
        (Observer, "an observer is an object, not a class; add"),
        ("word", "needs at least one"),
        (None, "needs at least one"),
    ],
)
def test_what_is_no_observer_is_refused(engine: str, observer: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Workflow(engine=engine).add_observer(observer)


def test_a_misspelt_or_async_method_is_refused(engine: str) -> None:
    class Misspelt:
        def on_task_sucess(self, event: RunEvent) -> None: ...

    class Async:
        async def on_task_success(self, event: RunEvent) -> None: ...

    class NoMethod:
        on_join = 5

    for observer, message in (
        (Misspelt(), "did you mean on_task_success"),
        (Async(), "must be a plain method"),
        (NoMethod(), "must be a method; got int"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            Workflow(engine=engine).add_observer(observer)


class Hostile(Observer):
    """Raises at one kind of event."""

    def __init__(self, kind: str, error: BaseException) -> None:
        super().__init__()
        self.raised = 0

        def fail(event: RunEvent) -> None:
            self.raised += 1
            raise error

        setattr(self, f"on_{kind}", fail)


ERRORS = [Boom("a secret"), StopIteration(1), asyncio.CancelledError("x"), GeneratorExit(), BaseException("base")]


@pytest.mark.fault("F3")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_observer_that_raises_is_logged_and_never_changes_the_run_at_every_site(
    engine: str, kind: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    reached = 0
    for shape in ("retried", "timed_out", "quorum", "at_run_time"):
        _, plain, expected = build(shape, engine)
        result = await plain.orchestrate(S.START)
        caplog.clear()
        _, workflow, observer = build(shape, engine)
        hostile = Hostile(kind, error)
        workflow._observers.insert(0, hostile)
        assert await workflow.orchestrate(S.START) is result
        assert told(observer) == told(expected)
        ours = [record for record in caplog.records if record.name == "cano" and "observer" in record.getMessage()]
        assert len(ours) == (1 if hostile.raised else 0)  # once in a run, however often it raises
        if ours:
            assert "secret" not in ours[0].getMessage()
            assert f"on_{kind} raised" in ours[0].getMessage()
            assert ours[0].levelno == logging.WARNING
        reached += hostile.raised
    if kind not in ("cancelled", "branch_failure", "task_failure"):
        assert reached


@pytest.mark.fault("F3")
@pytest.mark.parametrize("kind", ["task_failure", "branch_failure", "cancelled", "workflow_end", "state_exit", "join"])
async def test_nor_a_run_that_fails(engine: str, kind: str) -> None:
    async def bad() -> Any:
        raise Boom

    for make in (
        lambda: Workflow(engine=engine).register(S.START, bad),
        lambda: Workflow(engine=engine).register_split(S.START, [bad, never], join()),
    ):
        workflow = make().add_exit_state(S.DONE).add_observer(Hostile(kind, Boom("mine")))
        with pytest.raises((TaskError, JoinError)) as caught:
            await workflow.orchestrate(S.START)
        assert "mine" not in str(caught.value)
        token = CancelToken()
        token.cancel()
        with pytest.raises(CanoError):
            await workflow.orchestrate(S.START, cancel=token)


@pytest.mark.fault("F3")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["KeyboardInterrupt", "SystemExit"])
def test_keyboard_interrupt_and_system_exit_of_an_observer_go_through(engine: str, error: BaseException) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)
    workflow.add_observer(Hostile("task_start", error))
    with pytest.raises(type(error)):
        workflow.run(S.START)


@pytest.mark.fault("F3")
async def test_an_observer_that_answers_with_an_awaitable_is_logged(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Sneaky:
        def on_task_start(self, event: RunEvent) -> Any:
            return never()

    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE).add_observer(Sneaky())
    await workflow.orchestrate(S.START)
    assert "returned an awaitable, which is not awaited" in caplog.text


@pytest.mark.fault("F3")
async def test_an_observer_added_during_a_run_sees_the_next_one(engine: str) -> None:
    late = Observer()

    class Adds:
        def on_task_start(self, event: RunEvent) -> None:
            workflow.add_observer(late)

    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE).add_observer(Adds())
    await workflow.orchestrate(S.START)
    assert late.events == []
    await workflow.orchestrate(S.START)
    assert late.kinds[0] == "workflow_start"


@pytest.mark.fault("F3")
async def test_an_observer_may_cancel_the_run(engine: str) -> None:
    token = CancelToken()

    class Stops(Observer):
        def on_branch_success(self, event: RunEvent) -> None:
            token.cancel("seen enough")

    workflow = Workflow(engine=engine).register_split(S.START, [to(1), never], join()).add_exit_state(S.DONE)
    with pytest.raises(CanoError, match="seen enough"):
        await workflow.add_observer(Stops()).orchestrate(S.START, cancel=token)


@pytest.mark.parametrize("shape", SHAPES)
async def test_both_ways_of_running_tell_the_same(engine: str, shape: str) -> None:
    """With real tasks for branches the first steps come a turn later; what is told of each branch is the same."""
    _, plain, one = build(shape, engine)
    _, introspected, other = build(shape, engine, introspect=True)
    await plain.orchestrate(S.START)
    await introspected.orchestrate(S.START)
    assert sorted(told(one)) == sorted(told(other))


async def test_what_nobody_observes_is_not_made(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import cano.observe

    def refuse(*_: object) -> None:
        raise AssertionError("an event was made for nobody")

    monkeypatch.setattr(cano.observe, "RunEvent", refuse)
    _, workflow, _ = build("quorum", engine)
    workflow._observers.clear()
    assert await workflow.orchestrate(S.START) is S.DONE


class Strange(BaseException):
    pass


@pytest.mark.parametrize("kind", ["cancelled", "strange", "strange, at once", "error"])
async def test_an_error_is_seen_with_its_traceback(engine: str, kind: str) -> None:
    """By an observer, and by whoever decides about a retry: where it happened."""

    def deeper() -> None:
        raise {"cancelled": asyncio.CancelledError, "error": OSError}.get(kind, Strange)

    async def fail() -> None:
        await asyncio.sleep(0)
        deeper()

    def frames(error: BaseException | None) -> set[str]:
        assert error is not None
        return {frame.name for frame in traceback.extract_tb(error.__traceback__)}

    asked: list[set[str]] = []

    def wants(error: BaseException) -> bool:
        asked.append(frames(error))
        return False

    seen: list[tuple[str, set[str]]] = []

    class Looks:
        def on_task_failure(self, event: RunEvent) -> None:
            seen.append((event.kind, frames(event.error)))

        on_workflow_end = on_state_exit = on_task_failure

    workflow = Workflow[str](engine=engine).add_exit_state("end").add_observer(Looks())
    task = deeper if kind == "strange, at once" else fail
    workflow.register("a", task, inline=True, retry=Retry.fixed(1, 0, retry_on=wants))
    with pytest.raises((asyncio.CancelledError, Strange, TaskError)):
        await workflow.orchestrate("a")
    if kind == "error":
        assert [kind for kind, _ in seen] == ["task_failure", "state_exit", "workflow_end"]
        assert "deeper" in seen[0][1]
        assert ["deeper" in names for names in asked] == [True]
    else:
        events = (
            ["state_exit", "workflow_end"] if kind == "cancelled" else ["task_failure", "state_exit", "workflow_end"]
        )
        assert [kind for kind, names in seen if "deeper" in names] == events


@pytest.mark.parametrize("what", ["task", "split", "back-off"])
async def test_a_run_whose_coroutine_is_closed(engine: str, what: str) -> None:
    """Nothing has failed: whoever awaited it is gone."""
    observer = Observer()
    workflow = Workflow[str](engine=engine).add_exit_state("end").add_observer(observer)
    if what == "split":
        workflow.register_split("a", [never], JoinConfig(JoinStrategy.All, "end"))
    else:
        workflow.register("a", never if what == "task" else flaky(1, then="end"), retry=Retry.fixed(1, 99))
    run = workflow.orchestrate("a")
    run.send(None)
    run.close()
    await asyncio.sleep(0)
    kinds = {
        "task": ["task_start"],
        "split": ["split_start", "branch_start", "join"],
        "back-off": ["task_start", "retry"],
    }[what]
    kinds = ["workflow_start", "state_enter", *kinds, "state_exit", "workflow_end"]
    assert [event.kind for event in observer.events] == kinds + ["branch_cancelled"] * (what == "split")
    ended = [event.error for event in observer.events if event.kind in ("state_exit", "workflow_end")]
    assert [type(error) for error in ended] == [GeneratorExit] * 2


async def test_a_task_that_awaits_while_its_run_is_closed(engine: str) -> None:
    """It is told as any coroutine would be, and that is no failure of the task's either."""
    observer = Observer()

    async def stubborn() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
        raise AssertionError

    workflow = Workflow[str](engine=engine).add_exit_state("end").add_observer(observer).register("a", stubborn)
    run = workflow.orchestrate("a")
    run.send(None)
    with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
        run.close()
    assert "task_failure" not in [event.kind for event in observer.events]


@pytest.mark.parametrize("limit", [None, 99])
async def test_a_run_whose_clean_up_raises_when_it_is_closed(engine: str, limit: float | None) -> None:
    observer = Observer()

    async def fails() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            raise OSError
        raise AssertionError

    workflow = Workflow[str](engine=engine).add_exit_state("end").add_observer(observer)
    run = workflow.register("a", fails, attempt_timeout=limit).orchestrate("a")
    run.send(None)
    with pytest.raises(OSError):
        run.close()
    ended = {event.kind: type(event.error) for event in observer.events if event.error is not None}
    assert ended == {"state_exit": GeneratorExit, "workflow_end": GeneratorExit}

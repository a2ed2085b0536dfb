"""Declared transitions: by `next=`, by annotation; checked, drawn, enforced."""

from __future__ import annotations

import enum
from typing import Any, Literal

import pytest
from tests.contract.given import Observer, S, join, to

from cano import ConfigurationError, Node, Retry, Task, TaskError, TaskResult, Workflow, WorkflowError


async def literal() -> Literal[S.WORK, S.DONE]:
    return S.WORK


async def literal_result() -> TaskResult[Literal[S.WORK]]:
    return TaskResult.Single(S.WORK)


async def whole_enum() -> S:
    return S.WORK


async def union() -> Literal[S.WORK] | TaskResult[Literal[S.DONE]]:
    return S.WORK


async def unknown() -> Any:
    return S.WORK


async def with_none() -> Literal[S.WORK] | None:
    return S.WORK


class WithRun(Task[S]):
    async def run(self, store: Any) -> Literal[S.WORK]:
        return S.WORK


class WithPost(Node[S, Any, Any]):
    def post(self, store: Any, value: Any) -> Literal[S.WORK]:
        return S.WORK


def edges(engine: str, task: Any, **options: Any) -> list[str]:
    """The transitions drawn for a task."""
    workflow = Workflow(engine=engine).register(S.START, task, **options)
    workflow.register(S.WORK, to(S.DONE)).add_exit_states([S.DONE, S.FAILED])
    names = {"s0": "START", "s1": "WORK", "s2": "DONE", "s3": "FAILED"}
    lines = [line.split() for line in workflow.to_mermaid().splitlines() if "-->" in line]
    return [f"{names[source]} {names[target]}" for source, _, target in lines if source in names]


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        ({"next": S.WORK}, ["START WORK"]),
        ({"next": [S.WORK, S.DONE]}, ["START WORK", "START DONE"]),
        ({"next": {S.WORK}}, ["START WORK"]),
        ({"next": frozenset({S.WORK})}, ["START WORK"]),
        ({"next": S}, ["START START", "START WORK", "START DONE", "START FAILED"]),
        ({"next": []}, []),
        ({}, []),
    ],
)
async def test_next_takes_one_state_or_a_list_set_or_enum_class(
    engine: str, options: dict[str, Any], drawn: list[str]
) -> None:
    assert edges(engine, to(S.WORK), **options) == drawn


async def test_a_tuple_is_one_state(engine: str) -> None:
    where = ("part", 1)
    workflow = Workflow(engine=engine).register("begin", to(where), next=where).add_exit_state(where)
    assert await workflow.orchestrate("begin") == where
    workflow.register("begin", to("elsewhere"), next=where, replace=True).register("elsewhere", to(where))
    with pytest.raises(WorkflowError, match=r"declared: \('part', 1\)"):
        await workflow.orchestrate("begin")


@pytest.mark.parametrize(
    ("task", "drawn"),
    [
        (literal, ["START WORK", "START DONE"]),
        (literal_result, ["START WORK"]),
        (union, ["START WORK", "START DONE"]),
        (whole_enum, ["START START", "START WORK", "START DONE", "START FAILED"]),
        (WithRun(), ["START WORK"]),
        (WithPost(), ["START WORK"]),
        (unknown, []),
        (to(S.WORK), []),
    ],
)
async def test_the_return_annotation_declares(engine: str, task: Any, drawn: list[str]) -> None:
    assert edges(engine, task) == drawn


def test_next_wins_over_the_annotation(engine: str) -> None:
    assert edges(engine, literal, next=S.FAILED) == ["START FAILED"]
    assert edges(engine, literal, next=None) == []


def test_an_annotation_that_means_nothing_here_declares_nothing(engine: str) -> None:
    def words() -> Literal["a word"]:
        return "a word"

    def missing() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError

    assert edges(engine, missing) == []
    with pytest.raises(ConfigurationError, match="declares a transition to 'a word'"):
        Workflow(engine=engine).register(S.START, words).add_exit_state(S.DONE).validate()


@pytest.mark.parametrize("how", ["next", "annotation", "config"])
async def test_declared_transitions_are_enforced(engine: str, how: str) -> None:
    async def lie() -> Any:
        return S.FAILED

    async def annotated() -> Literal[S.DONE]:
        return S.FAILED  # type: ignore[return-value]

    class Configured(Task[S]):
        name = "lie"
        config = {"next": [S.DONE]}  # noqa: RUF012

        async def run(self, store: Any) -> S:
            return S.FAILED

    workflow = Workflow(engine=engine).add_exit_states([S.DONE, S.FAILED])
    workflow.register(S.WORK, to(S.FAILED))
    if how == "next":
        workflow.register(S.START, lie, next=S.DONE)
    else:
        workflow.register(S.START, annotated if how == "annotation" else Configured())
    observer = Observer()
    message = r"returned S\.FAILED, which its declared transitions do not name; declared: S\.DONE"
    with pytest.raises(WorkflowError, match=message) as caught:
        await workflow.add_observer(observer).orchestrate(S.START)
    assert caught.value.state is S.START
    assert caught.value.path == (S.START,)
    assert S.FAILED not in [event.state for event in observer.events]


async def test_an_undeclared_transition_is_not_retried(engine: str) -> None:
    calls: list[int] = []

    async def lie() -> Any:
        calls.append(1)
        return S.FAILED

    workflow = Workflow(engine=engine).add_exit_states([S.DONE, S.FAILED]).register(S.WORK, to(S.FAILED))
    workflow.register(S.START, lie, next=S.DONE, retry=Retry.fixed(3, 0))
    with pytest.raises(WorkflowError):
        await workflow.orchestrate(S.START)
    assert calls == [1]


async def test_a_whole_enum_means_any_of_its_members(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, whole_enum).register(S.WORK, to(S.DONE)).add_exit_state(S.DONE)
    workflow.validate()  # its other members may have no handler
    assert await workflow.orchestrate(S.START) is S.DONE


async def test_a_declared_self_loop(engine: str, store: Any) -> None:
    workflow = Workflow(store, engine=engine).add_exit_state(S.DONE)

    async def again(store: Any) -> Literal[S.START, S.DONE]:
        store.append("n", 1)
        return S.START if len(store.get("n")) < 3 else S.DONE

    workflow.register(S.START, again)
    assert (await workflow.execute(S.START)).path == (S.START, S.START, S.START, S.DONE)


async def test_a_split_chosen_at_run_time_has_to_go_where_the_task_declared(engine: str) -> None:
    def fan_out() -> Any:
        return TaskResult.Split([to(1)], join(S.FAILED))

    workflow = Workflow(engine=engine).add_exit_states([S.DONE, S.FAILED]).register(S.WORK, to(S.FAILED))
    workflow.register(S.START, fan_out, next=S.DONE)
    with pytest.raises(WorkflowError, match="do not name"):
        await workflow.orchestrate(S.START)


def test_a_class_that_is_no_enum_is_one_state(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE).register(S.START, to(S.DONE), next=int)
    with pytest.raises(ConfigurationError, match="declares a transition to int, which has no handler"):
        workflow.validate()


@pytest.mark.parametrize("bad", [[None], [S.DONE, []], {None}])
def test_bad_declarations_are_refused_where_they_are_written(engine: str, bad: Any) -> None:
    workflow = Workflow(engine=engine).add_exit_state(S.DONE)
    with pytest.raises(ConfigurationError, match=r"None is no state|must be hashable"):
        workflow.register(S.START, to(S.DONE), next=bad)


def test_a_split_declares_its_join_state(engine: str) -> None:
    workflow = Workflow(engine=engine).add_exit_states([S.DONE, S.FAILED]).register(S.WORK, to(S.FAILED))
    workflow.register_split(S.START, [to(1)], join(S.DONE), next=S.DONE).validate()
    workflow.register_split(S.START, [to(1)], join(S.DONE), next=S.FAILED, replace=True)
    with pytest.raises(ConfigurationError, match=r"joins at S\.DONE, which its next= does not name"):
        workflow.validate()


async def test_an_enum_with_aliases_and_an_empty_one(engine: str) -> None:
    class Alias(enum.Enum):
        ONE = 1
        FIRST = 1  # noqa: PIE796 - that is the point
        END = 2

    class Empty(enum.Enum):
        pass

    workflow = Workflow(engine=engine).register(Alias.ONE, to(Alias.END), next=Alias).add_exit_state(Alias.END)
    workflow.register("more", to(Alias.END))
    assert await workflow.orchestrate(Alias.FIRST) is Alias.END
    workflow.register(Alias.ONE, to(Alias.END), next=Empty, replace=True)
    with pytest.raises(WorkflowError, match="declared: none"):
        await workflow.orchestrate(Alias.ONE)


async def test_a_failing_task_is_no_matter_of_its_declaration(engine: str) -> None:
    async def fail() -> Literal[S.DONE]:
        raise RuntimeError

    with pytest.raises(TaskError):
        await Workflow(engine=engine).register(S.START, fail).add_exit_state(S.DONE).orchestrate(S.START)

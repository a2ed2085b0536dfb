"""`Node`: a task in three phases, prep, exec and post."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from tests.contract.given import Boom, S, join

from cano import ConfigurationError, Node, Retry, RetryExhaustedError, TaskError, TaskResult, Workflow


def workflow_of(engine: str, node: Any, store: Any = None, **options: Any) -> Workflow[Any]:
    return Workflow(store, engine=engine).register(S.START, node, **options).add_exit_state(S.DONE)


class Phases(Node[S, int, int]):
    def prep(self, store: Any) -> int:
        store.append("log", ("prep", threading.current_thread()))
        return 20

    def exec(self, value: int) -> int:
        return value + 1

    def post(self, store: Any, value: int) -> S:
        store.append("log", ("post", value))
        return S.DONE


class AsyncPhases(Node[S, int, int]):
    async def prep(self, store: Any) -> int:
        await asyncio.sleep(1)
        store.append("log", "prep")
        return 20

    async def exec(self, value: int) -> int:
        await asyncio.sleep(1)
        return value + 1

    async def post(self, store: Any, value: int) -> S:
        await asyncio.sleep(1)
        store.append("log", ("post", value))
        return S.DONE


async def test_a_node_runs_prep_exec_post(engine: str, store: Any) -> None:
    await workflow_of(engine, Phases(), store).orchestrate(S.START)
    (prep, thread), post = store.get("log")
    assert (prep, *post) == ("prep", "post", 21)
    assert thread is not threading.current_thread()  # sync phases run on a thread, like any sync task


async def test_an_inline_node_runs_in_place(engine: str, store: Any) -> None:
    await workflow_of(engine, Phases(), store, inline=True).orchestrate(S.START)
    assert store.get("log") == [("prep", threading.current_thread()), ("post", 21)]


async def test_phases_may_be_async(engine: str, store: Any) -> None:
    report = await workflow_of(engine, AsyncPhases(), store).execute(S.START)
    assert store.get("log") == ["prep", ("post", 21)]
    assert report.elapsed == pytest.approx(3)


@pytest.mark.parametrize("inline", [False, True])
async def test_sync_and_async_phases_mix(engine: str, store: Any, inline: bool) -> None:
    here = threading.current_thread()
    threads: list[bool] = []

    class Mixed(Node[S, int, int]):
        async def prep(self, store: Any) -> int:
            return 1

        def exec(self, value: int) -> int:
            threads.append(threading.current_thread() is here)
            return value + 1

        async def post(self, store: Any, value: int) -> S:
            store.put("value", value)
            return S.DONE

    await workflow_of(engine, Mixed(), store, inline=inline).orchestrate(S.START)
    assert store.get("value") == 2
    assert threads == [inline]


async def test_prep_and_exec_have_defaults(engine: str, store: Any) -> None:
    class OnlyPost(Node[S, None, None]):
        def post(self, store: Any, value: None) -> TaskResult[S]:
            store.put("value", value)
            return TaskResult.Single(S.DONE)

    await workflow_of(engine, OnlyPost(), store).orchestrate(S.START)
    assert store.get("value") is None


async def test_a_node_must_define_post(engine: str) -> None:
    class Nothing(Node[S, None, None]):
        pass

    with pytest.raises(TaskError, match="must define post") as caught:
        await workflow_of(engine, Nothing()).orchestrate(S.START)
    assert isinstance(caught.value.__cause__, NotImplementedError)


@pytest.mark.parametrize("phase", ["prep", "exec", "post"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_failure_in_any_phase_repeats_the_whole_cycle(engine: str, phase: str, kind: str) -> None:
    log: list[str] = []

    def note(name: str) -> None:
        log.append(name)
        if name == phase and log.count(name) < 3:
            raise Boom

    class Sync(Node[S, None, None]):
        def prep(self, store: Any) -> None:
            note("prep")

        def exec(self, value: None) -> None:
            note("exec")

        def post(self, store: Any, value: None) -> S:
            note("post")
            return S.DONE

    class Async(Node[S, None, None]):
        async def prep(self, store: Any) -> None:
            note("prep")

        async def exec(self, value: None) -> None:
            note("exec")

        async def post(self, store: Any, value: None) -> S:
            note("post")
            return S.DONE

    node = Sync() if kind == "sync" else Async()
    await workflow_of(engine, node, retry=Retry.fixed(2, 0)).orchestrate(S.START)
    whole = ["prep", "exec", "post"]
    failed = whole[: whole.index(phase) + 1]
    assert log == failed * 2 + whole


async def test_a_node_without_a_retry_left_fails_like_any_task(engine: str) -> None:
    class Bad(Phases):
        name = "bad node"
        config = {"retry": Retry.fixed(1, 0)}  # noqa: RUF012

        def exec(self, value: int) -> int:
            raise Boom

    with pytest.raises(RetryExhaustedError, match="task bad node of state") as caught:
        await workflow_of(engine, Bad()).orchestrate(S.START)
    assert (caught.value.attempts, caught.value.task) == (2, "bad node")


@pytest.mark.parametrize("node", [Phases(), AsyncPhases()])
async def test_a_node_can_be_a_branch(engine: str, store: Any, node: Any) -> None:
    workflow = Workflow(store, engine=engine).register_split(S.START, [node, node], join()).add_exit_state(S.DONE)
    assert (await workflow.execute(S.START)).splits[0].outputs() == [S.DONE, S.DONE]
    assert len(store.get("log")) == 4


async def test_one_node_serves_many_runs_at_once(engine: str) -> None:
    workflow = workflow_of(engine, AsyncPhases())
    assert await asyncio.gather(*(workflow.orchestrate(S.START) for _ in range(10))) == [S.DONE] * 10


def test_the_class_instead_of_an_object_is_refused(engine: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the class Phases came; try Phases\(\)"):
        workflow_of(engine, Phases)
    with pytest.raises(ConfigurationError, match=r"a branch must be an object.*try Phases\(\)"):
        Workflow(engine=engine).register_split(S.START, [Phases], join())


class Answers(Node[S, Any, Any]):
    """Plain functions, of which one answers with a coroutine."""

    def __init__(self, which: str) -> None:
        self.which = which

    def _maybe(self, phase: str, value: Any) -> Any:
        async def later() -> Any:
            await asyncio.sleep(0)
            return value

        return later() if phase == self.which else value

    def prep(self, store: Any) -> Any:
        return self._maybe("prep", 1)

    def exec(self, value: Any) -> Any:
        return self._maybe("exec", value + 1)

    def post(self, store: Any, value: Any) -> Any:
        store.put("value", value)
        return self._maybe("post", S.DONE)


class AsyncAnswers(Answers):
    async def prep(self, store: Any) -> Any:
        return 1


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("kind", [Answers, AsyncAnswers])
@pytest.mark.parametrize("which", ["prep", "exec", "post", "none"])
async def test_a_plain_phase_may_answer_with_an_awaitable(engine, which, kind, inline):
    workflow = workflow_of(engine, kind(which), inline=inline)
    assert await workflow.orchestrate(S.START) is S.DONE
    assert workflow.store["value"] == 2

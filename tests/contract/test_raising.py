"""What a run calls of the user's raises, anywhere: the run ends once, with the right error, and nothing else is touched."""

from __future__ import annotations

import asyncio
import gc
import pickle
from typing import Any

import pytest
from tests.contract.given import Observer, S, to
from tests.contract.raising import RAISED, SITES, Base

from cano import (
    CanoError,
    Workflow,
)

pytestmark = pytest.mark.fault("F2")

ok = to(S.DONE)


@pytest.mark.parametrize("name", SITES)
@pytest.mark.parametrize("kind", RAISED)
async def test_an_exception_at_any_site_ends_the_run_once_and_nothing_else(engine: str, name: str, kind: str) -> None:
    loop = asyncio.get_running_loop()
    unhandled: list[Any] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))

    def fail(*_: Any) -> Any:
        error = RAISED[kind]()
        raise error

    workflow = Workflow(engine=engine).register(S.START, ok).add_exit_state(S.DONE)
    workflow.store.put("key", 1)
    SITES[name](fail)(workflow)
    observer = Observer()
    workflow.add_observer(observer)
    try:
        outcome: Any = await asyncio.create_task(workflow.orchestrate(S.START))
    except BaseException as error:
        outcome = error
    allowed: tuple[type[BaseException], ...] = (CanoError,)
    if kind == "CancelledError":
        allowed = (CanoError, asyncio.CancelledError)
    elif kind in ("BaseException", "GeneratorExit"):
        allowed = (CanoError, Base, GeneratorExit)
    if name in ("closing_of_a_source", "clean_up_of_a_loser") and outcome is S.DONE:
        pass
    elif name in ("source_iterator", "async_source_iterator") and outcome is S.DONE:
        assert kind in ("StopIteration", "StopAsyncIteration")  # which is how a source ends
    else:
        assert isinstance(outcome, allowed)
        # A GeneratorExit on its way through a generator is taken for its closing, and made anew.
        assert observer.one("workflow_end").error is outcome or kind == "GeneratorExit"
    if isinstance(outcome, CanoError):
        pickle.loads(pickle.dumps(outcome))
        assert isinstance(str(outcome), str)
    assert observer.kinds[-1] == "workflow_end"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    outcome = None
    gc.collect(0)  # what was never retrieved is told of when it is collected
    assert unhandled == []
    workflow.register(S.START, ok, replace=True)
    assert await workflow.orchestrate(S.START) is S.DONE  # and another run is not touched


# --- KeyboardInterrupt and SystemExit -----------------------------------------------------------------------------

FATAL_SITES = [
    "async_task", "thread_task", "inline_task", "async_branch", "eager_branch", "thread_branch", "inline_branch",
    "source_function", "async_source_function", "source_iterator", "async_source_iterator", "strategy", "retry_on",
    "retry_on_of_a_branch", "store_update", "clean_up_of_a_loser",
]  # fmt: skip


@pytest.mark.parametrize("name", FATAL_SITES)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_keyboard_interrupt_and_system_exit_go_through_after_clean_up(
    engine: str, name: str, kind: type[BaseException]
) -> None:
    def fail(*_: Any) -> Any:
        raise kind("stop")

    workflow = Workflow(engine=engine).register(S.START, ok).add_exit_state(S.DONE)
    workflow.store.put("key", 1)
    SITES[name](fail)(workflow)
    observer = Observer()
    workflow.add_observer(observer)
    with pytest.raises(kind, match="stop"):
        workflow.run(S.START)
    assert observer.kinds[-1] == "workflow_end"
    ends = sum(observer.kinds.count(end) for end in ("branch_success", "branch_failure", "branch_cancelled"))
    assert observer.kinds.count("branch_start") - ends in (0, 1)  # the branch it came from has no end of its own
    assert observer.kinds.count("split_start") == observer.kinds.count("join")
    workflow.register(S.START, ok, replace=True)
    assert workflow.run(S.START) is S.DONE

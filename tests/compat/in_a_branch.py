"""Running somebody else's coroutine tests inside a branch: the middle one of three."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cano import JoinConfig, JoinError, JoinProgress, JoinStrategy, JoinVerdict, TaskError, Workflow


async def _neighbour() -> None:
    await asyncio.get_running_loop().create_future()


def _judge(progress: JoinProgress) -> JoinVerdict:
    if progress.succeeded:
        return JoinVerdict.PROCEED
    return JoinVerdict.FAIL if progress.failed else JoinVerdict.WAIT


async def in_a_branch(test: Callable[[], Awaitable[Any]], engine: str, *, introspect: bool) -> Any:
    """Run `test` between two branches that wait until it has ended; gives what it returns, raises what it raises.

    The test is the branch's own callable, with no coroutine of ours around: some tests want to be their task's outermost.
    """
    join = JoinConfig(JoinStrategy.Custom(_judge), "end", store_partial_results=True)
    workflow: Workflow[str] = Workflow(engine=engine, introspect=introspect).add_exit_state("end")
    try:
        await workflow.register_split("fan", [_neighbour, test, _neighbour], join).orchestrate("fan")
    except JoinError as error:
        (failure,) = error.exceptions
        # What is no Exception (pytest's Skipped, say) cannot be in an ExceptionGroup: it is a TaskError's cause.
        if isinstance(failure, TaskError) and not isinstance(failure.__cause__, Exception | None):
            raise failure.__cause__ from None
        raise failure from None
    (success,) = workflow.store.get("split_results").successes
    assert success.task_index == 1
    return success.result

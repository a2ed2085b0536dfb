"""Running somebody else's coroutine tests inside a branch: the last of three, so that both others are there."""

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
    """Run `test` beside two branches that wait until it has ended; gives what it returns, raises what it raises.

    The test is the branch's own callable, with no coroutine of ours around: some tests want to be their task's outermost. And
    it is the last: on a busy machine the engine gives the loop a turn between two branches, and a test that counts tasks would
    see one come that it knows nothing of.
    """
    join = JoinConfig(JoinStrategy.Custom(_judge), "end", store_partial_results=True)
    workflow: Workflow[str] = Workflow(engine=engine, introspect=introspect).add_exit_state("end")
    try:
        await workflow.register_split("fan", [_neighbour, _neighbour, test], join).orchestrate("fan")
    except JoinError as error:
        (failure,) = error.exceptions
        # What is no Exception (pytest's Skipped, say) cannot be in an ExceptionGroup: it is a TaskError's cause.
        if isinstance(failure, TaskError) and not isinstance(failure.__cause__, Exception | None):
            raise failure.__cause__ from None
        raise failure from None
    (success,) = workflow.store.get("split_results").successes
    assert success.task_index == 2
    return success.result

"""`All`: every branch has to succeed. For work of which no part may be missing.

The join fails at the first branch that fails, and cancels the others; with `fail_fast=False` it waits for all of them
first, so that every failure is known.

Run it: python examples/document/join_all.py
"""

import asyncio
import enum

from cano import JoinConfig, JoinError, JoinStrategy, MemoryStore, SplitResult, Workflow


class State(enum.Enum):
    """The states of the workflow."""

    PROCESSING = "processing"
    AGGREGATE = "aggregate"
    COMPLETE = "complete"


class Processor:
    """Takes a while, then returns its output, or fails if it was told to."""

    def __init__(self, task_id: int, *, broken: bool = False) -> None:
        self.task_id = task_id
        self.broken = broken

    async def run(self) -> int:
        await asyncio.sleep(0.02 * self.task_id)
        if self.broken:
            raise ValueError(f"processor {self.task_id} cannot read its input")
        return 100 * self.task_id


async def aggregate(store: MemoryStore) -> State:
    """Add up what the branches returned: the split's result is in the store because the join was told to put it."""
    split = store.get("split_results", SplitResult[int])
    print("outputs, in the order of the branches:", split.outputs())
    return State.COMPLETE


def build(processors: list[Processor], *, fail_fast: bool = True) -> Workflow[State]:
    join = JoinConfig(JoinStrategy.All, State.AGGREGATE, timeout=10, fail_fast=fail_fast, store_partial_results=True)
    return (
        Workflow[State]()
        .register_split(State.PROCESSING, processors, join)
        .register(State.AGGREGATE, aggregate)
        .add_exit_state(State.COMPLETE)
    )


async def attempt(workflow: Workflow[State]) -> None:
    try:
        await workflow.orchestrate(State.PROCESSING)
    except JoinError as error:  # an ExceptionGroup of the branches' own exceptions
        print("failed:", ", ".join(str(one) for one in error.exceptions))
        print("  ", error.result)


async def main() -> None:
    print("all three succeed")
    await attempt(build([Processor(1), Processor(2), Processor(3)]))

    print("the first fails: the others are cancelled at once")
    await attempt(build([Processor(1, broken=True), Processor(2), Processor(3, broken=True)]))

    print("the same with fail_fast=False: all are waited for")
    await attempt(build([Processor(1, broken=True), Processor(2), Processor(3, broken=True)], fail_fast=False))


if __name__ == "__main__":
    asyncio.run(main())

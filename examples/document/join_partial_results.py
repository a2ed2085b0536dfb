"""`PartialResults(n)`: go on after n successes and cancel the rest, with every outcome on record.

It decides like `Quorum(n)`; the name says what it is for: take the fastest answers, and look at what the others did.

Run it: python examples/document/join_partial_results.py
"""

import asyncio
import enum

from cano import JoinConfig, JoinStrategy, MemoryStore, SplitResult, Workflow


class State(enum.Enum):
    """The states of the workflow."""

    PREPARE = "prepare"
    CALL = "call"
    MERGE = "merge"
    COMPLETE = "complete"


class ServiceCall:
    """Asks a service that takes `delay` seconds."""

    def __init__(self, service: str, delay: float) -> None:
        self.service = service
        self.delay = delay

    async def run(self) -> str:
        await asyncio.sleep(self.delay)
        if self.service == "broken service":
            raise RuntimeError("the broken service is what its name says")
        return f"answer of the {self.service}"


async def prepare() -> State:
    """Nothing to prepare."""
    return State.CALL


async def merge(store: MemoryStore) -> State:
    """Use what came: `split_results` is in the store before this runs."""
    split = store.get("split_results", SplitResult[str])
    print("merging:", " + ".join(split.outputs()))
    return State.COMPLETE


async def main() -> None:
    store = MemoryStore()
    calls = [
        ServiceCall("slow service", 0.50),
        ServiceCall("medium service", 0.06),
        ServiceCall("broken service", 0.03),
        ServiceCall("fast service", 0.01),
        ServiceCall("backup service", 0.60),
    ]
    join = JoinConfig(JoinStrategy.PartialResults(2), State.MERGE).with_timeout(5).with_store_partial_results()
    workflow = (
        Workflow[State](store)
        .register(State.PREPARE, prepare)
        .register_split(State.CALL, calls, join)
        .register(State.MERGE, merge)
        .add_exit_state(State.COMPLETE)
    )
    await workflow.orchestrate(State.PREPARE)

    # The three lists add up to the number of branches, always. Successes and errors are in order of completion.
    split = store.get("split_results", SplitResult[str])
    for row in split.successes:
        print(f"success: {calls[row.task_index].service} after {row.duration:.2f} s")
    for row in split.errors:
        print(f"error: {calls[row.task_index].service}: {row.error!r}")
    for index in split.cancelled:
        print(f"cancelled: {calls[index].service}")


if __name__ == "__main__":
    asyncio.run(main())

"""`Quorum(n)`: n branches have to succeed. For consensus and replicated writes.

The run goes on at the n-th success; it fails as soon as too many have failed for n to be reached. (examples/replicas
does this with real database files.)

Run it: python examples/document/join_quorum.py
"""

import asyncio
import enum

from cano import JoinConfig, JoinError, JoinStrategy, MemoryStore, SplitResult, Workflow


class State(enum.Enum):
    """The states of the workflow."""

    PREPARE = "prepare"
    WRITE = "write"
    CONFIRM = "confirm"
    COMPLETE = "complete"


class WriteReplica:
    """Writes to one of five replicas; those in `down` cannot be reached."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def run(self, store: MemoryStore) -> str:
        await asyncio.sleep(0.01 * self.number)
        if self.number in store.get("down", set):
            raise ConnectionError(f"replica {self.number} cannot be reached")
        return f"replica {self.number}"


async def prepare() -> State:
    """Nothing to prepare."""
    return State.WRITE


async def confirm(store: MemoryStore) -> State:
    """Tell which replicas confirmed; they are three, never more: at the third the join is decided."""
    split = store.get("split_results", SplitResult[str])
    print("  confirmed by", ", ".join(split.outputs()))
    print(f"  failed: {len(split.errors)}, cancelled: {len(split.cancelled)}")
    return State.COMPLETE


async def main() -> None:
    join = JoinConfig(JoinStrategy.Quorum(3), State.CONFIRM, timeout=5, store_partial_results=True)
    workflow = (
        Workflow[State]()
        .register(State.PREPARE, prepare)
        .register_split(State.WRITE, [WriteReplica(number) for number in range(1, 6)], join)
        .register(State.CONFIRM, confirm)
        .add_exit_state(State.COMPLETE)
    )
    for down in (set[int](), {1, 4}, {1, 2, 3}):
        store = MemoryStore()
        store.put("down", down)
        print("replicas down:", sorted(down) or "none")
        try:
            await workflow.orchestrate(State.PREPARE, store=store)
        except JoinError as error:
            print("  no quorum:", error.result)


if __name__ == "__main__":
    asyncio.run(main())

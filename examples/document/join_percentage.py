"""`Percentage(p)`: a share of the branches has to succeed. For batches in which some records may be bad.

`register_map` is the split over data: one branch per record, and with a bulkhead only so many at once. Records beyond
it are not even drawn from their source yet.

Run it: python examples/document/join_percentage.py
"""

import asyncio
import enum
from collections.abc import Iterator

from cano import JoinConfig, JoinStrategy, MemoryStore, SplitResult, Workflow


class State(enum.Enum):
    """The states of the workflow."""

    LOAD = "load"
    PROCESS = "process"
    SUMMARIZE = "summarize"
    COMPLETE = "complete"


async def load(store: MemoryStore) -> State:
    """Put a hundred records into the store; every tenth is bad."""
    store.put("records", [{"id": number, "amount": -1 if number % 10 == 9 else number} for number in range(100)])
    return State.PROCESS


def records(store: MemoryStore) -> list[dict[str, int]]:
    """Where the branches come from. A list has a length, so the join knows from the start what 75 % are."""
    return store.get("records", list[dict[str, int]])


async def process(record: dict[str, int]) -> int:
    """One branch: work on one record."""
    await asyncio.sleep(0.001)
    if record["amount"] < 0:
        raise ValueError(f"record {record['id']} has a negative amount")
    return record["amount"]


async def summarize(store: MemoryStore) -> State:
    """At the 75th success the join was decided: what had failed until then is known, the rest was cancelled."""
    split = store.get("split_results", SplitResult[int])
    print(f"{len(split.successes)} records done, {sum(split.outputs())} in total")
    for row in split.errors:
        print(f"  branch {row.task_index} failed: {row.error}")
    print(f"{len(split.cancelled)} records were not needed any more")
    return State.COMPLETE


def double(number: int) -> int:
    """One branch; a plain function, which `inline=True` runs in place instead of on a worker thread."""
    return 2 * number


def branches(count: int) -> Iterator[int]:
    """Yield numbers, and tell when the last was asked for."""
    yield from range(count)
    print("the source is exhausted: only now 75 % of its items can be told")


async def main() -> None:
    join = JoinConfig(
        JoinStrategy.Percentage(0.75), State.SUMMARIZE, timeout=10, bulkhead=8, store_partial_results=True
    )
    workflow = (
        Workflow[State]()
        .register(State.LOAD, load)
        .register_map(State.PROCESS, process, records, join)
        .register(State.SUMMARIZE, summarize)
        .add_exit_state(State.COMPLETE)
    )
    print(await workflow.orchestrate(State.LOAD))

    # A generator has no length. Where the number of branches is not known, nothing that needs it is decided.
    lazy = (
        Workflow[State]()
        .register_map(State.PROCESS, double, lambda: branches(20), join, inline=True)
        .register(State.SUMMARIZE, summarize)
        .add_exit_state(State.COMPLETE)
    )
    print(await lazy.orchestrate(State.PROCESS))


if __name__ == "__main__":
    asyncio.run(main())

"""Closures as tasks: whatever can be called is a task, and a small workflow needs no classes.

Run it: python examples/document/closures.py
"""

import asyncio
import enum
from functools import partial

from cano import JoinConfig, JoinStrategy, MemoryStore, SplitResult, Workflow


class State(enum.Enum):
    """The states of the workflow."""

    START = "start"
    FETCH = "fetch"
    GREET = "greet"
    COUNT = "count"
    COMPLETE = "complete"


def greeter(greeting: str) -> Workflow[State]:
    """Build a workflow around a value; its tasks close over it."""
    workflow = Workflow[State](name="greeter")

    # A lambda, or any plain function, runs on a worker thread, so that it may block without holding up the event loop;
    # inline=True runs it in place, which is cheaper for one that does not block.
    workflow.register(State.START, lambda: State.FETCH, inline=True)

    # The decorator registers a function where it is written.
    @workflow.state(State.GREET)
    async def greet(store: MemoryStore) -> State:
        split = store.get("split_results", SplitResult[str])
        for name in split.outputs():
            print(f"{greeting}, {name}!")
        return State.COUNT

    # An argument is bound with functools.partial, or with a default: the store goes to what is left.
    def count(limit: int, store: MemoryStore, *, word: str = "guests") -> State:
        split = store.get("split_results", SplitResult[str])
        print(f"{len(split.successes)} {word}, and room for {limit}")
        return State.COMPLETE

    workflow.register(State.COUNT, partial(count, 10))

    # Branches are closures too. Without the default argument every one of them would see the last name: a closure looks
    # its variables up when it runs.
    async def fetch(name: str) -> str:
        await asyncio.sleep(0.01)
        return name.title()

    branches = [partial(fetch, name) for name in ("ada", "grace", "barbara")]
    join = JoinConfig(JoinStrategy.All, State.GREET, store_partial_results=True)
    return workflow.register_split(State.FETCH, branches, join).add_exit_state(State.COMPLETE)


if __name__ == "__main__":
    # run() is orchestrate() for code that has no event loop.
    print(greeter("Good morning").run(State.START))

"""`PartialTimeout`: take what is there at the deadline. For answers that are worth nothing when they come late.

Run it: python examples/document/join_partial_timeout.py
"""

import asyncio
import enum
import time

from cano import JoinConfig, JoinError, JoinStrategy, MemoryStore, SplitResult, Workflow


class State(enum.Enum):
    """The states of the workflow."""

    LOAD_USER = "load user"
    RECOMMEND = "recommend"
    AGGREGATE = "aggregate"
    COMPLETE = "complete"


class RecommendationEngine:
    """One way to find recommendations, each slower than the one before."""

    def __init__(self, kind: str, delay: float) -> None:
        self.kind = kind
        self.delay = delay

    async def run(self, store: MemoryStore) -> list[str]:
        await asyncio.sleep(self.delay)
        return [f"{self.kind} pick for {store.get('user', str)}"]


ENGINES = [
    RecommendationEngine("collaborative", 0.02),
    RecommendationEngine("content-based", 0.05),
    RecommendationEngine("trending", 0.08),
    RecommendationEngine("personalized", 5.0),
]


async def load_user(store: MemoryStore) -> State:
    """Say for whom the recommendations are."""
    store.put("user", "Ada")
    return State.RECOMMEND


async def aggregate(store: MemoryStore) -> State:
    """Aggregate whatever came within the deadline."""
    split = store.get("split_results", SplitResult[list[str]])
    picks = [pick for output in split.outputs() for pick in output]
    print(f"{len(split.successes)} of {split.total_count} engines answered in time: {', '.join(picks)}")
    return State.COMPLETE


def build(deadline: float, min_successes: int) -> Workflow[State]:
    join = JoinConfig(
        JoinStrategy.PartialTimeout,
        State.AGGREGATE,
        timeout=deadline,  # validate() refuses a PartialTimeout without one
        min_successes=min_successes,
        store_partial_results=True,
    )
    return (
        Workflow[State]()
        .register(State.LOAD_USER, load_user)
        .register_split(State.RECOMMEND, ENGINES, join)
        .register(State.AGGREGATE, aggregate)
        .add_exit_state(State.COMPLETE)
    )


async def main() -> None:
    began = time.perf_counter()
    await build(deadline=0.3, min_successes=1).orchestrate(State.LOAD_USER)
    print(f"after {time.perf_counter() - began:.1f} s, though one engine needs 5 s")

    # Too little at the deadline: then the join fails, and says what it had.
    try:
        await build(deadline=0.3, min_successes=4).orchestrate(State.LOAD_USER)
    except JoinError as error:
        print("four answers are asked for:", error.result)


if __name__ == "__main__":
    asyncio.run(main())

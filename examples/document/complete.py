"""The complete example: load numbers, work on them in three parallel branches, add up what the branches found.

Three processors multiply the numbers 1 to 10 by 1, 2 and 3, and take 0.1, 0.2 and 0.3 s over it. Run in parallel they
need 0.3 s together, and the total is 55 + 110 + 165 = 330.

Run it: python examples/document/complete.py
"""

import asyncio
import enum
import time

from cano import JoinConfig, JoinStrategy, MemoryStore, TaskResult, Workflow


class DataState(enum.Enum):
    """The states of the workflow."""

    START = "start"
    PARALLEL_PROCESSING = "parallel processing"
    AGGREGATE = "aggregate"
    COMPLETE = "complete"


class DataLoader:
    """Puts the input into the store."""

    async def run(self, store: MemoryStore) -> TaskResult[DataState]:
        print("loading the data")
        store.put("input_data", list(range(1, 11)))
        return TaskResult.Single(DataState.PARALLEL_PROCESSING)


class ProcessorTask:
    """One branch. Its state, if it returned one, would not steer the run: the join's state does."""

    def __init__(self, task_id: int) -> None:
        self.task_id = task_id

    async def run(self, store: MemoryStore) -> None:
        print(f"processor {self.task_id} starts")
        data = store.get("input_data", list[int])
        await asyncio.sleep(0.1 * self.task_id)
        result = sum(number * self.task_id for number in data)
        store.put(f"result_{self.task_id}", result)  # the store is safe to use from every branch
        print(f"processor {self.task_id} is done: {result}")


class Aggregator:
    """Runs once the join has let the run go on: no branch is still running, and none writes to the store any more."""

    async def run(self, store: MemoryStore) -> TaskResult[DataState]:
        results = [store.get(f"result_{task_id}", int) for task_id in (1, 2, 3)]
        store.put("final_result", sum(results))
        store.put("processor_count", len(results))
        return TaskResult.Single(DataState.COMPLETE)


async def main() -> None:
    store = MemoryStore()
    join = JoinConfig(JoinStrategy.All, DataState.AGGREGATE).with_timeout(5)
    workflow = (
        Workflow[DataState](store)
        .register(DataState.START, DataLoader())
        .register_split(DataState.PARALLEL_PROCESSING, [ProcessorTask(i) for i in (1, 2, 3)], join)
        .register(DataState.AGGREGATE, Aggregator())
        .add_exit_state(DataState.COMPLETE)
    )
    began = time.perf_counter()
    state = await workflow.orchestrate(DataState.START)
    elapsed = time.perf_counter() - began
    print(f"{state} after {elapsed:.1f} s, {store.get('processor_count')} processors")
    print("final result:", store.get("final_result", int))


if __name__ == "__main__":
    asyncio.run(main())

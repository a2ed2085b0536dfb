"""A linear workflow: one task per state, one state after the other, until an exit state is reached.

Run it: python examples/document/linear.py
"""

import asyncio
import enum

from cano import MemoryStore, Task, TaskResult, Workflow


class OrderState(enum.Enum):
    """Where an order stands. Members that nothing registers are fine."""

    START = "start"
    VALIDATE = "validate"
    PROCESS = "process"
    COMPLETE = "complete"
    FAILED = "failed"


class ValidateTask:
    """Any object with `run` is a task; it is given the store if it asks for one."""

    async def run(self, store: MemoryStore) -> OrderState:
        order = store.get("order", dict[str, float])  # checked: an order that is no dict is an error here
        print(f"validating {order['items']} items")
        return OrderState.PROCESS if order["items"] > 0 else OrderState.FAILED


class ProcessTask(Task[OrderState]):
    """The same with the base class, which gives a task a name for messages, events and pictures."""

    name = "process the order"

    async def run(self, store: MemoryStore) -> TaskResult[OrderState]:
        total = store.update("order", lambda order: {**order, "total": order["items"] * 9.5})["total"]
        print(f"processing: {total:.2f} to pay")
        return TaskResult.Single(OrderState.COMPLETE)  # what returning the bare state means as well


async def start() -> OrderState:
    """Begin; a task that needs no store asks for none."""
    return OrderState.VALIDATE


async def main() -> None:
    # The store is shared, not copied: whoever made it reads from it after the run.
    store = MemoryStore()
    store.put("order", {"items": 3})

    # Every method changes the workflow and returns it, so a chain of calls is kept even if its result is not.
    workflow = Workflow[OrderState](store, name="order")
    workflow.register(OrderState.START, start).register(OrderState.VALIDATE, ValidateTask())
    workflow.register(OrderState.PROCESS, ProcessTask())
    workflow.add_exit_states([OrderState.COMPLETE, OrderState.FAILED])

    print("final state:", await workflow.orchestrate(OrderState.START))
    print("paid:", store.get("order", dict[str, float])["total"])

    # One workflow runs as often as you like; this run has a store of its own, and ends elsewhere.
    empty = MemoryStore()
    empty.put("order", {"items": 0})
    print("final state of an empty order:", await workflow.orchestrate(OrderState.START, store=empty))


if __name__ == "__main__":
    asyncio.run(main())

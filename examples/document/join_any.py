"""`Any`: the first success is enough. For redundant sources, where the fastest wins.

The other branches are cancelled and waited for before the run goes on. A branch that fails does not matter as long as
another one succeeds.

Run it: python examples/document/join_any.py
"""

import asyncio
import enum

from cano import JoinConfig, JoinStrategy, MemoryStore, Workflow


class State(enum.Enum):
    """The states of the workflow."""

    START = "start"
    ASKING = "asking"
    COMPLETE = "complete"


class ApiCall:
    """Asks one provider. Cancellation reaches a branch as `asyncio.CancelledError`, as in any asyncio task."""

    def __init__(self, provider: str, delay: float, *, down: bool = False) -> None:
        self.provider = provider
        self.delay = delay
        self.down = down

    async def run(self, store: MemoryStore) -> str:
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            print(f"{self.provider}: cancelled, another was faster")
            raise  # clean up if you must, then let it go on
        if self.down:
            print(f"{self.provider}: down")
            raise ConnectionError(f"{self.provider} is down")
        print(f"{self.provider}: answered")
        store.put("rate", (self.provider, 1.0834))
        return self.provider


async def start() -> State:
    """Nothing to prepare."""
    return State.ASKING


async def main() -> None:
    store = MemoryStore()
    calls = [ApiCall("provider 1", 0.30), ApiCall("provider 2", 0.02, down=True), ApiCall("provider 3", 0.05)]
    workflow = (
        Workflow[State](store)
        .register(State.START, start)
        # The join may lead straight to an exit state.
        .register_split(State.ASKING, calls, JoinConfig(JoinStrategy.Any, State.COMPLETE))
        .add_exit_state(State.COMPLETE)
    )
    report = await workflow.execute(State.START)  # like orchestrate, and tells what happened
    print(f"{report.state} after {report.elapsed:.2f} s: {report.splits[0]}")
    print("the rate and who gave it:", store.get("rate"))


if __name__ == "__main__":
    asyncio.run(main())

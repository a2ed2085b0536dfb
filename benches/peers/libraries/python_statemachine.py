from __future__ import annotations

from benches.peers import jobs as j

PACKAGE, NAME = "python-statemachine", "python-statemachine"


def jobs():
    from statemachine import State, StateMachine

    class Counter(StateMachine):
        start = State(initial=True)
        step = State()
        other = State()
        advance = start.to(step) | step.to(other) | other.to(step)

        def __init__(self) -> None:
            self.count = 0
            super().__init__()

        async def on_enter_step(self) -> None:
            self.count += 1

        async def on_enter_other(self) -> None:
            self.count += 1

    async def chain() -> int:
        machine = Counter()
        await machine.activate_initial_state()
        for _ in range(j.STEPS):
            await machine.advance()
        return machine.count

    return {j.CHAIN: chain}

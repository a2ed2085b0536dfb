from __future__ import annotations

from benches.peers import jobs as j

PACKAGE, NAME = "transitions", "transitions"


def jobs():
    from transitions.extensions.asyncio import AsyncMachine

    class Counter:
        count = 0

        async def on_enter_step(self) -> None:
            self.count += 1

        on_enter_other = on_enter_step

    model = Counter()
    machine = AsyncMachine(model, states=["start", "step", "other"], initial="start", auto_transitions=False)
    machine.add_transition("advance", ["start", "other"], "step")
    machine.add_transition("advance", "step", "other")

    async def chain() -> int:
        model.count = 0
        machine.set_state("start", model)
        for _ in range(j.STEPS):
            await model.advance()
        return model.count

    return {j.CHAIN: chain}

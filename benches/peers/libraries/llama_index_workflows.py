from __future__ import annotations

from benches.peers import jobs as j

PACKAGE, NAME = "llama-index-workflows", "llama-index-workflows"


def jobs():
    from workflows import Context, Workflow, step
    from workflows.events import Event, StartEvent, StopEvent

    class Next(Event):
        count: int

    class Chain(Workflow):
        @step
        async def begin(self, ev: StartEvent) -> Next:
            return Next(count=0)

        @step
        async def count(self, ev: Next) -> Next | StopEvent:
            count = ev.count + 1
            return Next(count=count) if count < j.STEPS else StopEvent(result=count)

    class Item(Event):
        item: int

    class Done(Event):
        value: int

    def fan(fn):
        class Fan(Workflow):
            @step
            async def spread(self, ctx: Context, ev: StartEvent) -> Item | None:
                for item in range(j.BRANCHES):
                    ctx.send_event(Item(item=item))
                return None

            @step(num_workers=j.BRANCHES)
            async def branch(self, ev: Item) -> Done:
                return Done(value=await fn(ev.item))

            @step
            async def join(self, ctx: Context, ev: Done) -> StopEvent | None:
                found = ctx.collect_events(ev, [Done] * j.BRANCHES)
                return None if found is None else StopEvent(result=sum(done.value for done in found))

        workflow = Fan(timeout=60)

        async def job() -> int:
            return await workflow.run()

        return job

    chain_workflow = Chain(timeout=60)

    async def chain() -> int:
        return await chain_workflow.run()

    return {j.CHAIN: chain, j.FAN_OUT: fan(j.returns), j.FAN_OUT_WAIT: fan(j.waits)}

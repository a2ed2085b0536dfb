"""Checked and never run: mistakes that both checkers must find, each on its line. See test_types.py."""

from __future__ import annotations

import enum

from cano import (
    JoinConfig,
    JoinProgress,
    JoinStrategy,
    MemoryStore,
    Retry,
    TaskResult,
    Workflow,
    as_completed,
    fan_out,
    sleep,
)


class S(enum.Enum):
    START = "start"
    DONE = "done"


class Other(enum.Enum):
    START = "start"


async def fetch(item: int) -> str:
    return str(item)


def report(store: MemoryStore) -> S:
    number: str = store.get("n", int)  # expect-error: the store gives an int
    store.put(1, number)  # expect-error: keys are strings
    store["k"] = store.get(2)  # expect-error: keys are strings
    return S.DONE


def wrong_answer() -> TaskResult[S]:
    return TaskResult.Single(Other.START)  # expect-error: a state of another enum


join = JoinConfig(JoinStrategy.All, S.DONE)
JoinConfig(JoinStrategy.All)  # expect-error: no join state
JoinConfig("all", S.DONE)  # expect-error: a strategy is no string
JoinConfig(JoinStrategy.All, S.DONE, 5)  # expect-error: options are keywords
JoinConfig(JoinStrategy.All, S.DONE, timeout="5 s")  # expect-error: seconds or a timedelta
JoinConfig(JoinStrategy.All, S.DONE, bulkhead=1.5)  # expect-error: a whole number
join.bulkhead = 3  # expect-error: immutable
JoinStrategy.Quorum("half")  # expect-error: a number
JoinStrategy.Custom(lambda progress: progress.succeeded)  # expect-error: an int is no verdict

workflow = Workflow[S]()
workflow.register(Other.START, report)  # expect-error: a state of another enum
workflow.register(S.START)  # expect-error: no task
workflow.register(S.START, report, retry=3)  # expect-error: retries are a Retry
workflow.register(S.START, report, attempts=3)  # expect-error: no such option
workflow.register_split(S.START, [report])  # expect-error: no join
workflow.register_split(S.START, [report], JoinStrategy.All)  # expect-error: a strategy is no JoinConfig
workflow.register_split(S.START, [report], JoinConfig(JoinStrategy.All, Other.START))  # expect-error: another enum
workflow.add_exit_state("done")  # expect-error: a string is no state of this workflow
workflow.add_exit_states(S.DONE)  # expect-error: one is not several
workflow.run("start")  # expect-error: a string is no state of this workflow
workflow.store = MemoryStore()  # expect-error: given when the workflow is made
Workflow[list[int]]()  # expect-error: a state is hashable


async def running() -> None:
    other: Other = await workflow.orchestrate(S.START)  # expect-error: the state is an S
    print(other)
    await workflow.orchestrate(S.START, 5)  # expect-error: options are keywords
    await workflow.orchestrate(S.START, cancel=True)  # expect-error: a CancelToken
    report = await workflow.execute(S.START)
    report.state = S.DONE  # expect-error: immutable
    for event in workflow.stream(S.START):  # expect-error: async for
        print(event)


async def splitting() -> None:
    texts: list[int] = (await fan_out(fetch, [1])).outputs()  # expect-error: they are strings
    print(texts)
    await fan_out(fetch, ["1"])  # expect-error: fetch takes an int
    await fan_out(fetch, 3)  # expect-error: an int is no source of items
    await fan_out(fetch, [1], strategy="any")  # expect-error: a strategy is no string
    await fan_out(fetch, [1], retry=Retry.fixed(2))  # expect-error: fixed needs its delay
    async for row in as_completed(fetch, [1], strategy=JoinStrategy.All):  # expect-error: it has no strategy
        print(row)
    number: int = await sleep(1, "late")  # expect-error: it gives what it was given
    print(number)
    await sleep("1 s")  # expect-error: seconds or a timedelta


def deciding(progress: JoinProgress) -> int:
    progress.succeeded = 1  # expect-error: immutable
    return progress.pending  # expect-error: None while a source is not exhausted

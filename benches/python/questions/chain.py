"""What does a transition cost, beside the `while` loop over a dict of functions that one would write by hand?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from benches.python.harness import Budget, Case
from benches.python.questions.common import NATIVE, PURE

from cano import Workflow

BY_HAND = "while loop by hand"


def _workflow(tasks: dict[str, Any], engine: str, **options: Any) -> Workflow[str]:
    workflow = Workflow[str](engine=engine)
    for state, task in tasks.items():
        workflow.register(state, task, **options)
    return workflow.add_exit_state("end")


def cases(budget: Budget) -> Iterator[Case]:
    n = 20_000 // budget.shrink
    route: dict[str, Iterator[str]] = {}

    def restart() -> None:
        # Two states in turn, n transitions; what a task answers costs it one step of an iterator.
        route["next"] = itertools.chain(itertools.islice(itertools.cycle("ba"), n - 1), ["end"])

    async def step() -> str:
        return next(route["next"])

    def plain_step() -> str:
        return next(route["next"])

    async def by_hand() -> None:
        restart()
        tasks = {"a": step, "b": step}
        state = "a"
        while state != "end":
            state = await tasks[state]()

    def with_engine(engine: str, task: Any, **options: Any) -> Any:
        workflow = _workflow({"a": task, "b": task}, engine, **options)

        async def job() -> None:
            restart()
            await workflow.orchestrate("a")

        return job

    contenders = {NATIVE: with_engine("native", step), PURE: with_engine("python", step), BY_HAND: by_hand}
    yield Case("async states", n, "transition", contenders)

    async def by_hand_plain() -> None:
        restart()
        tasks = {"a": plain_step, "b": plain_step}
        state = "a"
        while state != "end":
            state = tasks[state]()

    yield Case(
        "sync states, inline=True",
        n,
        "transition",
        {
            NATIVE: with_engine("native", plain_step, inline=True),
            PURE: with_engine("python", plain_step, inline=True),
            BY_HAND: by_hand_plain,
        },
    )

    def counting(engine: str) -> Any:
        async def count(store: Any) -> str:
            done = store.get("done") + 1
            store.put("done", done)
            return "end" if done == n else "b" if done % 2 else "a"

        workflow = _workflow({"a": count, "b": count}, engine)

        async def job() -> None:
            workflow.store.put("done", 0)
            await workflow.orchestrate("a")

        return job

    async def counting_by_hand() -> None:
        store = {"done": 0}

        async def count(store: dict[str, int]) -> str:
            done = store["done"] + 1
            store["done"] = done
            return "end" if done == n else "b" if done % 2 else "a"

        tasks = {"a": count, "b": count}
        state = "a"
        while state != "end":
            state = await tasks[state](store)

    contenders = {NATIVE: counting("native"), PURE: counting("python"), BY_HAND: counting_by_hand}
    yield Case("async states that count in the store", n, "transition", contenders)

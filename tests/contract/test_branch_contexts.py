"""The context variables of a branch are its own, as those of an `asyncio.Task` are, whoever else runs in between."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from cano import fan_out, sleep

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default="unset")

pytestmark = pytest.mark.every_loop


@pytest.mark.parametrize("suspend", [False, True])
async def test_context_variables_are_ones_own(engine, suspend):
    async def scenario(item: int) -> list[Any]:
        seen = [variable.get()]
        variable.set(item)
        if suspend:
            await asyncio.sleep(1)
            await sleep(1)
        return [*seen, variable.get()]

    token = variable.set("caller")
    try:
        answers = (await fan_out(scenario, range(3), engine=engine)).outputs()
        assert variable.get() == "caller"
    finally:
        variable.reset(token)
    assert answers == [["caller", item] for item in range(3)]


async def test_a_token_of_a_branch_resets_in_it(three):
    async def scenario(item: int) -> Any:
        token = variable.set(item)
        await asyncio.sleep(1)
        await sleep(0)
        variable.reset(token)
        return variable.get()

    assert await three(scenario) == ["unset"] * 3


async def test_children_of_a_branch_inherit_its_context(three):
    async def child() -> Any:
        await asyncio.sleep(0)
        return variable.get()

    async def scenario(item: int) -> Any:
        variable.set(item)
        called: list[Any] = []
        asyncio.get_running_loop().call_soon(lambda: called.append(variable.get()))
        answer = await asyncio.create_task(child())
        return [answer, *called]

    assert await three(scenario) == [[item, item] for item in range(3)]


async def test_a_context_outlives_its_branch(engine):
    """A callback that a branch that never suspended left behind runs in that branch's context, not in the next one's."""
    seen: list[Any] = []

    async def scenario(item: int) -> None:
        variable.set(item)
        asyncio.get_running_loop().call_soon(lambda: seen.append(variable.get()))

    await fan_out(scenario, range(3), engine=engine)
    await asyncio.sleep(0)
    assert seen == [0, 1, 2]


WAYS = {
    "at once": lambda: None,
    "a turn": lambda: asyncio.sleep(0),
    "a future": lambda: asyncio.sleep(1),
    "the engine's timers": lambda: sleep(1),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_variable_set_to_an_equal_value_is_set(engine, way):
    """Equal is not the same: who sets a variable to another empty list has a list of its own."""

    async def scenario(item: int) -> bool:
        found = variable.get()
        if item % 2:
            variable.set([])
        waiting = WAYS[way]()
        if waiting is not None:
            await waiting
        return found is callers and (variable.get() is callers) == (item % 2 == 0)

    callers: list[Any] = []
    token = variable.set(callers)
    try:
        assert (await fan_out(scenario, range(6), engine=engine)).outputs() == [True] * 6
    finally:
        variable.reset(token)


@pytest.mark.parametrize("inline", [False, True])
async def test_a_sync_branch_that_sets_an_equal_value(engine, inline):
    def scenario(item: int) -> bool:
        found = variable.get()
        if item % 2 == 0:
            variable.set([])
        return found is callers

    callers: list[Any] = []
    token = variable.set(callers)
    try:
        assert (await fan_out(scenario, range(6), inline=inline, engine=engine)).outputs() == [True] * 6
    finally:
        variable.reset(token)


async def test_a_sync_branch_that_answers_with_an_awaitable_has_one_context(engine):
    """What it sets before it returns the awaitable is seen in there, and nowhere else."""

    async def rest() -> Any:
        await asyncio.sleep(0)
        return variable.get()

    def scenario(item: int) -> Any:
        found = variable.get()
        if item % 2 == 0:
            variable.set((found, item))
        return rest()

    answers = (await fan_out(scenario, range(4), inline=True, engine=engine)).outputs()
    assert answers == [("unset", 0), "unset", ("unset", 2), "unset"]


@pytest.mark.parametrize("way", list(WAYS)[1:])
async def test_a_variable_set_between_two_waits_stays_there(engine, way):
    async def scenario(item: int) -> list[Any]:
        seen = []
        for turn in range(4):
            await WAYS[way]()
            seen.append(variable.get())
            if turn == item:
                variable.set(item)
        return seen

    answers = (await fan_out(scenario, range(4), engine=engine)).outputs()
    assert answers == [["unset"] * (item + 1) + [item] * (3 - item) for item in range(4)]


async def test_a_token_that_is_reset_in_the_same_step_leaves_no_trace(engine):
    async def scenario(item: int) -> Any:
        token = variable.set(item)
        variable.reset(token)
        await sleep(0)
        return variable.get()

    assert (await fan_out(scenario, range(3), engine=engine)).outputs() == ["unset"] * 3


async def test_the_context_a_branch_is_asked_for_is_the_one_it_runs_in(engine):
    async def scenario(item: int) -> list[Any]:
        branch: Any = asyncio.current_task()
        context = branch.get_context()
        with pytest.raises(RuntimeError, match="already entered"):
            context.run(print)
        variable.set(item)
        seen = [context[variable]]
        await asyncio.sleep(0)
        variable.set(item + 10)
        seen.append(context[variable])
        await sleep(1)
        return [*seen, context[variable], branch.get_context() is context]

    answers = (await fan_out(scenario, range(3), engine=engine)).outputs()
    assert answers == [[item, item + 10, item + 10, True] for item in range(3)]


@pytest.mark.parametrize("way", list(WAYS)[1:])
async def test_the_context_of_a_branch_that_waits(engine, way):
    """Whoever asks for it while the branch waits holds the context that it goes on in."""
    branches: dict[int, Any] = {}
    contexts: dict[int, contextvars.Context] = {}

    async def scenario(item: int) -> Any:
        branches[item] = asyncio.current_task()
        if item == 2:
            contexts[0] = branches[0].get_context()
            contexts[0].run(variable.set, "from outside")
        await WAYS[way]()
        if item == 1:
            variable.set("its own")
        return variable.get()

    answers = (await fan_out(scenario, range(3), engine=engine)).outputs()
    assert answers == ["from outside", "its own", "unset"]
    assert [branches[item].get_context().get(variable, "unset") for item in range(3)] == answers
    assert branches[0].get_context() is contexts[0]


async def test_a_callback_left_behind_by_a_branch_that_waits(three):
    """What the loop calls for a branch sees the variables of that branch as they were when it was scheduled."""
    seen: list[Any] = []

    async def scenario(item: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: seen.append((item, variable.get())))
        await asyncio.sleep(0)
        variable.set(item)
        loop.call_soon(lambda: seen.append((item, variable.get())))
        await asyncio.sleep(1)

    await three(scenario)
    assert sorted(seen, key=str) == sorted([(item, at) for item in range(3) for at in ("unset", item)], key=str)


async def test_a_split_inside_sees_what_its_branch_has_set(three, engine):
    async def inner(_item: int) -> Any:
        found = variable.get()
        await asyncio.sleep(0)
        variable.set("inner")
        await sleep(1)
        return found

    async def scenario(item: int) -> list[Any]:
        variable.set(item)
        found = (await fan_out(inner, range(2), engine=engine)).outputs()
        await asyncio.sleep(0)
        return [*found, variable.get()]

    assert await three(scenario) == [[item, item, item] for item in range(3)]

"""CancelToken by itself: set once, from anywhere, heard by everybody."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from cano import CancelToken
from cano.testing import run


def test_the_first_call_wins() -> None:
    token = CancelToken()
    assert (token.cancelled, token.reason) == (False, None)
    assert token.cancel("first") is True
    assert token.cancel("second") is False
    assert (token.cancelled, token.reason) == (True, "first")


def test_a_reason_is_not_needed() -> None:
    token = CancelToken()
    token.cancel()
    assert token.cancelled
    assert token.reason is None


def test_reprs() -> None:
    token = CancelToken()
    assert repr(token) == "<CancelToken not set>"
    token.cancel("shutting down")
    assert repr(token) == "<CancelToken set: 'shutting down'>"


def test_subscribers_are_told_once() -> None:
    token, told = CancelToken(), []
    token._subscribe(lambda: told.append(token.reason))
    assert told == []
    token.cancel("now")
    token.cancel("again")
    assert told == ["now"]


def test_a_late_subscriber_is_told_at_once() -> None:
    token, told = CancelToken(), []
    token.cancel()
    unsubscribe = token._subscribe(lambda: told.append(1))
    assert told == [1]
    unsubscribe()


def test_unsubscribing() -> None:
    token, told = CancelToken(), []
    unsubscribe = token._subscribe(lambda: told.append(1))
    unsubscribe()
    unsubscribe()
    token.cancel()
    assert told == []


def test_a_callback_that_raises_is_logged_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    token, told = CancelToken(), []

    def broken() -> None:
        raise ValueError("canary-31aa")

    token._subscribe(broken)
    token._subscribe(lambda: told.append(1))
    with caplog.at_level(logging.WARNING, "cano"):
        assert token.cancel() is True
    assert told == [1]
    assert "ValueError" in caplog.text
    assert "canary-31aa" not in caplog.text


def test_an_interrupt_comes_through_after_everybody_was_told() -> None:
    token, told = CancelToken(), []
    child = token.child()

    def interrupted() -> None:
        raise KeyboardInterrupt

    token._subscribe(interrupted)
    token._subscribe(lambda: told.append(1))
    with pytest.raises(KeyboardInterrupt):
        token.cancel()
    assert told == [1]
    assert token.cancelled
    assert child.cancelled


def test_a_child_follows_its_parent() -> None:
    parent = CancelToken()
    child = parent.child()
    told: list[str | None] = []
    child._subscribe(lambda: told.append(child.reason))
    parent.cancel("all of you")
    assert child.cancelled
    assert told == ["all of you"]


def test_a_parent_does_not_follow_its_child() -> None:
    parent = CancelToken()
    one, other = parent.child(), parent.child()
    one.cancel("alone")
    assert not parent.cancelled
    assert not other.cancelled
    parent.cancel("all")
    assert (one.reason, other.reason) == ("alone", "all")


def test_a_child_of_a_set_token_is_set() -> None:
    parent = CancelToken()
    parent.cancel("before")
    assert parent.child().reason == "before"


def test_a_long_line_of_children() -> None:
    first = last = CancelToken()
    for _ in range(5000):
        last = last.child()
    first.cancel("down there")
    assert last.reason == "down there"


def test_a_parent_does_not_keep_its_children() -> None:
    parent = CancelToken()
    gone = weakref.ref(parent.child())
    gc.collect()
    assert gone() is None
    assert not parent._children


def test_a_child_keeps_its_parents() -> None:
    child = CancelToken().child().child()
    gc.collect()
    assert child._parent is not None
    assert child._parent._parent is not None


def test_a_token_belongs_to_its_process() -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="CancelToken"):
            attempt(CancelToken())


# --- waiting ---


def test_waiting_gives_the_reason() -> None:
    async def scenario() -> str | None:
        token = CancelToken()
        asyncio.get_running_loop().call_later(3, token.cancel, "time is up")
        return await token.wait()

    assert run(scenario()) == "time is up"


def test_waiting_for_a_set_token_does_not_wait() -> None:
    async def scenario() -> str | None:
        token = CancelToken()
        token.cancel("long ago")
        return await token.wait()

    assert run(scenario()) == "long ago"


def test_waiting_can_be_cancelled() -> None:
    async def scenario() -> None:
        token = CancelToken()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(token.wait(), 1)
        assert not token.cancelled
        assert not token._callbacks
        token.cancel()

    run(scenario())


def test_it_is_set_from_another_thread() -> None:
    async def scenario() -> str | None:
        token = CancelToken()
        loop = asyncio.get_running_loop()
        waiting = [asyncio.create_task(token.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        await loop.run_in_executor(None, token.cancel, "from outside")
        assert set(await asyncio.gather(*waiting)) == {"from outside"}
        return token.reason

    assert asyncio.run(scenario()) == "from outside"


def test_a_waiter_on_a_closed_loop_disturbs_nobody() -> None:
    token, told = CancelToken(), []
    loop = asyncio.new_event_loop()
    waiter = token.wait()
    task = loop.create_task(waiter)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    token._subscribe(lambda: told.append(1))
    token.cancel()
    assert told == [1]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    waiter.close()


# --- threads ---


@pytest.mark.parametrize("_", range(50))
def test_of_many_threads_one_wins_and_all_callbacks_run_once(_: int) -> None:
    token, told, won = CancelToken(), [], []
    barrier = threading.Barrier(6)
    unsubscribes = [token._subscribe(lambda i=i: told.append(i)) for i in range(20)]  # type: ignore[misc]

    def cancel(number: int) -> None:
        barrier.wait(10)
        if token.cancel(str(number)):
            won.append(str(number))

    def subscribe() -> None:
        barrier.wait(10)
        token._subscribe(lambda: told.append("late"))

    def unsubscribe() -> None:
        barrier.wait(10)
        for one in unsubscribes[:10]:
            one()

    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(cancel, i) for i in range(4)] + [pool.submit(subscribe), pool.submit(unsubscribe)]
        for job in jobs:
            job.result(20)
    assert won == [token.reason]
    assert told.count("late") == 1
    assert set(range(10, 20)) <= set(told)
    assert len(told) == len(set(told))

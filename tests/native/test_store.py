"""What is true of the native store only: its lock, and the collector's view of it."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

core = pytest.importorskip("cano._core", reason="the native engine is not built here")


@contextmanager
def update_running(store: Any, key: str) -> Iterator[None]:
    """Keep an update of `key` half-way, on another thread; it adds 1 in the end."""
    inside, leave = threading.Event(), threading.Event()

    def add_one(value: int) -> int:
        inside.set()
        leave.wait()
        return value + 1

    thread = threading.Thread(target=store.update, args=(key, add_one))
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a signal that comes by itself")
def test_a_signal_interrupts_the_waiting_for_an_update() -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    store = core.MemoryStore()
    store["k"] = 1
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with update_running(store, "k"), pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            store.put("k", 100)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert store["k"] == 2


@pytest.mark.fault("F5")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    store = core.MemoryStore()
    store["k"] = 1
    with update_running(store, "k"):
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            store.put("k", 7)
            os._exit(0 if store.update("k", lambda value: value + 1) == 8 else 1)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert store["k"] == 2


def test_a_cycle_through_a_store_is_collected() -> None:
    class Holder:
        store: Any

    holder = Holder()
    holder.store = core.MemoryStore()
    holder.store["me"] = holder
    holder.store.scoped("a")["scope"] = holder.store.scoped("a")
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


def test_a_collected_scope_leaves_its_parent_alone() -> None:
    store = core.MemoryStore()
    for number in range(3):
        scope = store.scoped(f"part{number}")
        cycle: list[Any] = [scope]
        cycle.append(cycle)
        scope["x"] = number
        del scope, cycle
    gc.collect()
    assert store.snapshot() == {"part0/x": 0, "part1/x": 1, "part2/x": 2}


def test_references_are_counted_right() -> None:
    store = core.MemoryStore()
    value, key = object(), str(object())
    before = sys.getrefcount(value), sys.getrefcount(key)
    for _ in range(100):
        store.put(key, value)
        store.get(key, object)
        store.update(key, lambda old: old)
        store.setdefault(key, None)
        store.scoped("s").put("x", value)
        store.snapshot()
        assert store.pop(key) is value
        store.append(key, value)
        store.clear()
    assert (sys.getrefcount(value), sys.getrefcount(key)) == before


def test_an_old_value_is_let_go_of_after_the_lock() -> None:
    """A finaliser waits for another thread that writes to the store: a deadlock, were the lock still held."""
    store = core.MemoryStore()
    done: list[str] = []

    class Old:
        def __init__(self, name: str) -> None:
            self.name = name

        def __del__(self) -> None:
            thread = threading.Thread(target=store.put, args=("seen", self.name))
            thread.start()
            thread.join(200)
            done.append("deadlock" if thread.is_alive() else self.name)

    for way in (
        lambda: store.put("k", 1),
        lambda: store.update("k", lambda _old: 1),
        lambda: store.remove("k"),
        lambda: store.pop("k"),
        lambda: store.clear(),
        lambda: store.popitem(),
    ):
        store.clear()
        store["k"] = Old("old")
        way()
        gc.collect()
    assert done == ["old"] * 6

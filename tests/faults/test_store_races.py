"""Eight threads at one store: whatever they do to a key could have been done one after the other, and sums are exact."""

from __future__ import annotations

import itertools
import os
import random
import sys
import sysconfig
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from tests.faults.linearisable import ABSENT, Operation, linearisable

SOAK = os.environ.get("CANO_SOAK") == "1"
THREADS = 8
OPERATIONS = 1_000_000 if SOAK else 20_000
PER_KEY = 48  # operations, of all threads together: what a checker in Python can decide

pytestmark = [pytest.mark.fault("F10"), pytest.mark.timeout(1800 if SOAK else 300)]


@pytest.fixture(autouse=True)
def _many_switches() -> Any:
    """With a GIL, threads take turns; here very short ones. Without one, it must stay away."""
    assert not (sysconfig.get_config_var("Py_GIL_DISABLED") and sys._is_gil_enabled())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], Any], count: int = THREADS) -> None:
    """Run something in so many threads at once; what one raises is raised here."""
    start = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            start.wait()
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class Tickets:
    """Hands out operation numbers; all threads work on the same few keys at the same time."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.numbers = iter(range(count))
        self.guard = threading.Lock()

    def __iter__(self) -> Tickets:
        return self

    def __next__(self) -> int:
        with self.guard:
            return next(self.numbers)


def give_way(rng: random.Random) -> None:
    """Let others have their turn in the middle of an operation."""
    if rng.random() < 0.05:
        time.sleep(0)


def do(store: Any, key: str, name: str, argument: Any, rng: random.Random) -> Any:
    if name == "get":
        return store.get(key, default=ABSENT)
    if name == "put":
        return store.put(key, argument)
    if name == "pop":
        return store.pop(key, ABSENT)
    if name == "setdefault":
        return store.setdefault(key, argument)
    if name == "contains":
        return store.contains_key(key)

    def add(value: Any) -> Any:
        give_way(rng)
        return value + argument

    try:
        return store.update(key, add)
    except KeyError:
        return ABSENT


KINDS = {
    "registers": ("get", "get", "put", "put", "contains", "pop", "setdefault"),
    "counters": ("get", "update", "update", "put"),
    "everything": ("get", "put", "pop", "setdefault", "contains", "update"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_history_is_linearisable(store: Any, kind: str, tried: Any) -> None:
    count = OPERATIONS // len(KINDS)
    tickets = Tickets(count)
    histories: list[dict[str, list[Operation]]] = [defaultdict(list) for _ in range(THREADS)]
    clock = time.perf_counter_ns

    def work(number: int) -> None:
        rng = random.Random(number)
        mine = histories[number]
        scope = store.scoped("scope")
        for ticket in tickets:
            key = f"scope/{ticket // PER_KEY}"
            name = rng.choice(KINDS[kind])
            argument = ticket  # no two are the same: a value says who put it there
            scoped = rng.random() < 0.5  # the same key, seen through a scope
            began = clock()
            give_way(rng)
            answer = do(scope if scoped else store, key[6:] if scoped else key, name, argument, rng)
            give_way(rng)
            mine[key].append(Operation(began, clock(), name, argument, answer))

    in_threads(work)
    merged: dict[str, list[Operation]] = defaultdict(list)
    for history in histories:
        for key, operations in history.items():
            merged[key].extend(operations)
    assert sum(map(len, merged.values())) == count
    for key, operations in merged.items():
        assert linearisable(operations), (key, sorted(operations))
    # Threads did meet: in a fair part of the keys somebody began before another had ended.
    overlaps = sum(
        any(one.ended > two.began for one, two in itertools.pairwise(sorted(operations)))
        for operations in merged.values()
    )
    assert overlaps > len(merged) // 10
    tried(operations=count, keys=len(merged), overlapping_keys=overlaps)


def test_a_counter_counts_in_the_order_of_time(store: Any, tried: Any) -> None:
    """Each `update` answers a number of its own; none that began after another had ended answers less."""
    store.put("hits", 0)
    each = OPERATIONS // THREADS // 2
    answers: list[list[tuple[int, int, int]]] = [[] for _ in range(THREADS)]
    clock = time.perf_counter_ns

    def work(number: int) -> None:
        for _ in range(each):
            began = clock()
            value = store.update("hits", lambda hits: hits + 1)
            answers[number].append((value, began, clock()))

    in_threads(work)
    told = sorted(itertools.chain.from_iterable(answers))
    assert [value for value, _, _ in told] == list(range(1, each * THREADS + 1))
    assert store.get("hits") == each * THREADS
    latest_begin = 0
    for _, began, ended in told:
        assert ended >= latest_begin
        latest_begin = max(latest_begin, began)
    tried(operations=each * THREADS)


def test_appends_keep_every_item_and_the_order_of_each_thread(store: Any, tried: Any) -> None:
    each = OPERATIONS // THREADS // 2
    keys = ("one", "two", "three")

    def work(number: int) -> None:
        rng = random.Random(number)
        longest = dict.fromkeys(keys, 0)
        for item in range(each):
            key = rng.choice(keys)
            store.append(key, (number, item))
            length = len(store.get(key))
            assert length > longest[key]  # never shorter than one has seen it
            longest[key] = length

    in_threads(work)
    found = [store.get(key) for key in keys]
    assert sorted(itertools.chain.from_iterable(found)) == sorted(itertools.product(range(THREADS), range(each)))
    for items in found:
        for number in range(THREADS):
            own = [item for who, item in items if who == number]
            assert own == sorted(own)
    tried(operations=each * THREADS)


def test_a_snapshot_shows_one_moment(store: Any, tried: Any) -> None:
    """Keys that are put one after the other: no later one is newer than an earlier one in any snapshot."""
    names = [f"key {number}" for number in range(8)]
    for name in names:
        store.put(name, 0)
    rounds = OPERATIONS // 100
    over = threading.Event()
    looks = [0] * THREADS

    def work(number: int) -> None:
        if number == 0:
            for value in range(1, rounds + 1):
                for name in names:
                    store.put(name, value)
            over.set()
            return
        while not over.is_set():
            seen = [store.snapshot()[name] for name in names[:1]]
            shot = store.snapshot()
            values = [shot[name] for name in names]
            assert values == sorted(values, reverse=True)
            assert values[0] - values[-1] in (0, 1)
            assert seen[0] <= values[0]
            looks[number] += 1

    in_threads(work)
    assert store.get(names[-1]) == rounds
    tried(operations=rounds * len(names), snapshots=sum(looks))


def test_the_checker_finds_what_is_not_linearisable() -> None:
    """Each of these could only happen to a store that loses a write, reads an old value, or updates in two steps."""
    put, get = (lambda t, v: Operation(t, t + 1, "put", v, None)), (lambda t, v: Operation(t, t + 1, "get", None, v))
    assert linearisable([put(0, 1), get(2, 1), put(4, 2), get(6, 2)])
    assert not linearisable([put(0, 1), get(2, ABSENT)])
    assert not linearisable([put(0, 1), put(2, 2), get(4, 1)])
    assert not linearisable([put(0, 1), Operation(2, 9, "update", 5, 6), Operation(3, 9, "update", 5, 6)])
    assert linearisable([put(0, 1), Operation(2, 9, "update", 5, 6), Operation(3, 9, "update", 5, 11)])
    assert linearisable([Operation(0, 9, "put", 1, None), Operation(1, 8, "get", None, ABSENT), get(10, 1)])
    assert not linearisable([Operation(0, 5, "pop", None, 1), Operation(1, 5, "pop", None, 1), put(-2, 1)])


class Broken(dict[str, Any]):
    """A store that reads and writes in two steps."""

    def update(self, key: str, fn: Any) -> Any:  # type: ignore[override]
        value = self[key]
        time.sleep(0)
        self[key] = new = fn(value)
        return new


def test_the_checker_finds_a_store_that_updates_in_two_steps() -> None:
    store = Broken(hits=0)
    answers: list[Operation] = [Operation(0, 0, "put", 0, None)]

    def work(_: int) -> None:
        for _ in range(3):
            began = time.perf_counter_ns()
            value = store.update("hits", lambda hits: hits + 1)
            answers.append(Operation(began, time.perf_counter_ns(), "update", 1, value))

    for _ in range(1000):
        store["hits"] = 0
        del answers[1:]
        in_threads(work)
        if not linearisable(answers):
            return
    raise AssertionError("nothing found in 1,000 rounds")

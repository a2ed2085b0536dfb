"""The worker pool's count of itself: work that waits always finds a worker, whatever happens to the limit."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator

import pytest

from cano._engine.threads import Pool

PATIENCE = 200  # seconds until a test that hangs gives up


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def workers(count: int) -> Pool:
    """A pool that has that many idle workers."""
    pool, all_there = Pool(), threading.Barrier(count + 1)
    for _ in range(count):
        pool.submit(lambda: all_there.wait(PATIENCE) and None)
    all_there.wait(PATIENCE)
    return pool


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_raised_while_surplus_workers_leave(seed: int) -> None:
    """Those that are about to leave still count as idle, so nobody else is started for the job that waits."""
    pool = workers(8)
    pool.set_limit(1)
    both, done = threading.Barrier(2), threading.Semaphore(0)

    def meet() -> None:
        both.wait(PATIENCE)
        done.release()

    if seed % 2:
        pool.submit_many([meet, meet])
    else:
        pool.submit(meet)
        pool.submit(meet)
    pool.set_limit(2)
    assert done.acquire(timeout=PATIENCE)
    assert done.acquire(timeout=PATIENCE)
    pool.set_limit(1)


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_that_never_rests(seed: int) -> None:
    chance, done, pool = random.Random(seed), threading.Semaphore(0), workers(5)
    for _ in range(50):
        pool.set_limit(chance.randrange(1, 6))
        pool.submit(done.release)
    assert all(done.acquire(timeout=PATIENCE) for _ in range(50))
    pool.set_limit(1)


def test_the_limit_is_kept_after_it_was_lowered() -> None:
    pool = workers(6)
    pool.set_limit(2)
    lock, done = threading.Lock(), threading.Semaphore(0)
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.001)
        with lock:
            inside -= 1
        done.release()

    # The first ones may still meet workers that have not heard of the new limit; when as many workers are left as the
    # limit allows, it holds.
    for _ in range(10):
        pool.submit(work)
    assert all(done.acquire(timeout=PATIENCE) for _ in range(10))
    most = 0
    for _ in range(20):
        pool.submit(work)
    assert all(done.acquire(timeout=PATIENCE) for _ in range(20))
    assert most <= 2


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any worker the caller hears of it; with one, that one does the work."""
    pool, done = Pool(), threading.Semaphore(0)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.submit(done.release)
    pool.submit(done.release)
    assert all(done.acquire(timeout=PATIENCE) for _ in range(2))
    busy, leave = threading.Event(), threading.Event()
    pool.submit(lambda: busy.set() or (leave.wait(PATIENCE) and None))
    assert busy.wait(PATIENCE)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        pool.submit(done.release)
    leave.set()
    assert done.acquire(timeout=PATIENCE)

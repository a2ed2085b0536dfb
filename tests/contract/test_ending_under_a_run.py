"""A program, a thread or a loop that ends under a run: nothing hangs, is lost, or comes out of nowhere."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest
from tests.contract.given import Boom, S, join, never, simple, to

from cano import (
    CancelToken,
    JoinStrategy,
    Retry,
    Workflow,
)

pytestmark = pytest.mark.fault("F2")


def script(engine: str, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own that uses the package."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    program = f"ENGINE = {engine!r}\n{textwrap.dedent(code)}"
    return subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=250, check=False
    )


@pytest.mark.alone
@pytest.mark.parametrize("place", ["state", "branch", "thread"])
def test_sys_exit_in_a_program(engine: str, place: str) -> None:
    done = script(
        engine,
        f"""
        import asyncio, sys
        from cano import *

        async def leave(): sys.exit(3)
        def leave_thread(): sys.exit(3)
        async def other():
            try: await asyncio.sleep(60)
            finally: print("cleaned")

        workflow = Workflow(engine=ENGINE).add_exit_state("end")
        if {place!r} == "state": workflow.register("begin", leave)
        elif {place!r} == "branch":
            workflow.register_split("begin", [other, leave], JoinConfig(JoinStrategy.All, "end"))
        else: workflow.register_split("begin", [other, leave_thread], JoinConfig(JoinStrategy.All, "end"))
        try: workflow.run("begin")
        finally: print("over")
        """,
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.split() == (["over"] if place == "state" else ["cleaned", "over"])


@pytest.mark.alone
@pytest.mark.skipif(sys.platform == "win32", reason="signals work in another way there")
def test_ctrl_c_in_a_program(engine: str) -> None:
    done = script(
        engine,
        """
        import asyncio, signal
        from cano import *

        async def press():
            await asyncio.sleep(0.01)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)
        async def other():
            try: await asyncio.sleep(60)
            finally: print("cleaned", flush=True)

        Workflow(engine=ENGINE).add_exit_state("end").register_split(
            "begin", [other, press], JoinConfig(JoinStrategy.All, "end")).run("begin")
        """,
    )
    assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert done.stdout.split() == ["cleaned"]
    assert "KeyboardInterrupt" in done.stderr
    assert "never awaited" not in done.stderr


@pytest.mark.alone
def test_a_program_may_end_while_a_thread_is_at_work(engine: str) -> None:
    done = script(
        engine,
        """
        import threading
        from cano import *

        entered = threading.Event()
        def block():
            entered.set()
            threading.Event().wait(60)
        async def enough():
            import asyncio
            while not entered.is_set(): await asyncio.sleep(0.001)

        Workflow(engine=ENGINE).add_exit_state("end").register_split(
            "begin", [block, enough], JoinConfig(JoinStrategy.Any, "end")).run("begin")
        print("over")
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")


ok = to(S.DONE)


LEFT = [
    lambda w: w.register(S.START, never, attempt_timeout=250, replace=True),
    lambda w: w.register_split(S.START, [never, to(1)], join(timeout=250), attempt_timeout=60, replace=True),
    lambda w: w.register_split(S.START, [never, never], join(strategy=JoinStrategy.Any, hedge_delay=9), replace=True),
    lambda w: w.register(S.START, flaky_for_ever, retry=Retry.fixed(9, 60), replace=True),
    lambda w: w.register_split(S.START, [flaky_for_ever], join(), retry=Retry.fixed(9, 60), replace=True),
    lambda w: w.register_map(S.START, str, endless, join(bulkhead=1), replace=True),
]


async def flaky_for_ever() -> None:
    raise Boom


async def endless() -> Any:
    yield 1
    await never()


@pytest.mark.alone
@pytest.mark.parametrize("left", LEFT)
def test_timeouts_on_a_loop_that_is_closed_under_the_run(engine: str, left: Any) -> None:
    """Nothing can be awaited any more; but nothing hangs, raises out of nowhere, or ends the process."""
    workflow = Workflow(engine=engine).register(S.START, ok).add_exit_state(S.DONE)
    left(workflow)
    token = CancelToken()
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio says of every task that it was destroyed while pending
    task = loop.create_task(workflow.orchestrate(S.START, timeout=100, cancel=token))

    async def some_turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(some_turns())
    assert not task.done()
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert token.cancel()
    with Quiet():
        del task, loop
        gc.collect()
    workflow.register(S.START, ok, replace=True)
    assert workflow.run(S.START) is S.DONE


class Quiet:
    """What asyncio itself says of coroutines whose loop is gone is not looked at."""

    def __enter__(self) -> None:
        self.hook = sys.unraisablehook
        sys.unraisablehook = lambda _: None

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self.hook


def test_a_branch_that_stops_the_loop(engine: str) -> None:
    async def stop() -> int:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0)
        return 1

    async def go_on() -> int:  # one stop only: on a slow machine a second branch may begin in the loop's next turn
        await asyncio.sleep(0)
        return 2

    workflow = Workflow(engine=engine).register_split(S.START, [stop, go_on], join()).add_exit_state(S.DONE)
    loop = asyncio.new_event_loop()
    task = loop.create_task(workflow.orchestrate(S.START))
    with pytest.raises(RuntimeError, match="Event loop stopped before Future completed"):
        loop.run_until_complete(task)
    assert loop.run_until_complete(task) is S.DONE  # nothing is lost when it goes on
    loop.close()


def test_a_main_that_ends_before_its_run(engine: str) -> None:
    ended: list[int] = []

    async def branch(item: int) -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(0)
            ended.append(item)

    workflow = Workflow(engine=engine).register_map(S.START, branch, range(3), join()).add_exit_state(S.DONE)
    tasks = []

    async def main() -> None:
        tasks.append(asyncio.create_task(workflow.orchestrate(S.START)))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert ended == [0, 1, 2]
    assert tasks[0].cancelled()


def test_a_thread_that_ends_after_its_loop_was_closed(engine: str) -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> S:
        entered.set()
        release.wait(200)
        return S.DONE

    for register in (
        lambda w: w.register(S.START, block, replace=True),
        lambda w: w.register_split(S.START, [block], join(), replace=True),
    ):
        entered.clear()
        release.clear()
        workflow = Workflow(engine=engine).add_exit_state(S.DONE)
        register(workflow)

        async def start(workflow: Any = workflow) -> None:
            task = asyncio.create_task(workflow.orchestrate(S.START))
            while not entered.is_set():
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(start())
        release.set()
    assert simple(engine, ok).run(S.START) is S.DONE


@pytest.mark.alone
def test_a_run_awaited_on_one_loop_and_resumed_on_another(engine: str) -> None:
    workflow = Workflow(engine=engine).register_split(S.START, [never], join()).add_exit_state(S.DONE)

    async def begin() -> Any:
        run = workflow.orchestrate(S.START)
        run.send(None)
        return run

    run = asyncio.run(begin())
    with Quiet():
        try:
            run.close()
        except RuntimeError as error:  # what asyncio says when something is cancelled that belongs to a closed loop
            closed = str(error)
            assert closed == "Event loop is closed"
        del run
        gc.collect()
    assert simple(engine, ok).run(S.START) is S.DONE


async def test_one_run_cannot_be_awaited_twice(engine: str) -> None:
    run = simple(engine, ok).orchestrate(S.START)
    assert await run is S.DONE
    with pytest.raises(RuntimeError):
        await run

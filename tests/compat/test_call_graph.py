"""What asyncio's own tools for looking at tasks show of branches (Python 3.14 and later).

By default they show the run's task and break on nothing; with `introspect=True` they show the branches too.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import subprocess
import sys
from typing import Any

import pytest

from cano import JoinConfig, JoinStrategy, Workflow

pytestmark = [
    pytest.mark.fault("libraries"),
    pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio has call graphs since Python 3.14"),
]


def workflow(engine: str, branch: Any, *, introspect: bool) -> Workflow[str]:
    join = JoinConfig(JoinStrategy.All, "end")
    made: Workflow[str] = Workflow(engine=engine, introspect=introspect).add_exit_state("end")
    return made.register_map("fan", branch, range(3), join, name="look")


async def test_inside_a_branch_by_default(engine: str) -> None:
    """A limit of Python: a call graph is made of tasks, and says so; nothing else is harmed."""
    seen: list[Any] = []

    async def branch(item: int) -> None:
        await asyncio.sleep(0)
        with pytest.raises(TypeError):
            asyncio.capture_call_graph()  # type: ignore[attr-defined]
        child = asyncio.create_task(asyncio.sleep(0.01))
        await asyncio.sleep(0)
        seen.append(asyncio.capture_call_graph(child))  # type: ignore[attr-defined]
        await child

    await workflow(engine, branch, introspect=False).orchestrate("fan")
    assert [graph.awaited_by for graph in seen] == [()] * 3


async def test_inside_a_branch_that_is_a_task(engine: str) -> None:
    seen: list[Any] = []

    async def look(child: Any, branch: Any) -> None:
        graph = asyncio.capture_call_graph(child)  # type: ignore[attr-defined]
        assert [waiter.future for waiter in graph.awaited_by] == [branch]

    async def branch(item: int) -> None:
        await asyncio.sleep(0)
        graph = asyncio.capture_call_graph()  # type: ignore[attr-defined]
        assert graph.future is asyncio.current_task()
        names = [entry.frame.f_code.co_name for entry in graph.call_stack]
        assert "branch" in names
        child = asyncio.create_task(asyncio.sleep(0.01))
        waiting = asyncio.create_task(look(child, asyncio.current_task()))
        await child
        await waiting
        printed = io.StringIO()
        asyncio.print_call_graph(file=printed)  # type: ignore[attr-defined]
        seen.append(printed.getvalue())

    await workflow(engine, branch, introspect=True).orchestrate("fan")
    assert len(seen) == 3
    assert all(f"cano-look-{number}" in text for number, text in enumerate(seen))


PROGRAM = """
import asyncio, sys
from cano import JoinConfig, JoinStrategy, Workflow

async def branch(item):
    if item == 2:
        await asyncio.sleep(0)
        print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline) if item == 2 else await asyncio.sleep(60)

workflow = Workflow(engine=sys.argv[1], introspect=sys.argv[2] == "True").add_exit_state("end")
workflow.register_map("fan", branch, range(3), JoinConfig(JoinStrategy.Any, "end"), name="look")

async def main():
    asyncio.current_task().set_name("the-run")
    await workflow.orchestrate("fan")

asyncio.run(main())
"""


@pytest.mark.parametrize("introspect", [False, True])
def test_asyncio_ps(engine: str, introspect: bool) -> None:
    """The tool that looks into a running process reads its memory: what it cannot make sense of stops it."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, engine, str(introspect)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program, contextlib.ExitStack() as stack:
        stack.callback(program.kill)
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "ready\n"
        done = subprocess.run(
            [sys.executable, "-m", "asyncio", "ps", str(program.pid)],
            capture_output=True, text=True, timeout=250, check=False,
        )  # fmt: skip
        if done.returncode and "ermission" in done.stderr + done.stdout:
            pytest.skip("reading another process's memory is not allowed here")
        assert done.returncode == 0, done.stderr
        assert "the-run" in done.stdout
        listed = [f"cano-look-{number}" in done.stdout for number in range(3)]
        assert listed == [introspect] * 3
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.wait(250) == 0

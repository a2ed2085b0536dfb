"""Real libraries inside three branches at once, against real servers on the loopback, on every loop a user may have.

What asyncio itself offers, and anyio in virtual time, is in tests/contract (`*_in_a_branch.py`, `*_as_a_task.py`). Here
the time is real and short, and nothing is compared with a clock but for an upper bound that a hang would pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from tests.three import Three, in_branches, in_real_tasks

from cano import JoinStrategy, fan_out

Run = Callable[[Callable[[Three], Awaitable[Any]]], Any]

pytestmark = [pytest.mark.fault("libraries"), pytest.mark.timeout(300)]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    if request.param == "uvloop":
        return pytest.importorskip("uvloop", reason="uvloop is not installed").new_event_loop
    return asyncio.new_event_loop


@pytest.fixture(params=["plain", "debug"])
def debug(request: pytest.FixtureRequest) -> bool:
    return request.param == "debug"


@pytest.fixture(params=["default", "introspect"])
def run(request: pytest.FixtureRequest, engine: str, loop_factory: Any, debug: bool) -> Run:
    """`run(main)` runs `main(three)` on a fresh loop; `await three(scenario)` gives what its three branches return."""

    three = (in_branches if request.param == "default" else in_real_tasks)(engine)

    def run(main: Any) -> Any:
        with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
            return runner.run(main(three))

    return run


# --- anyio ---


def test_anyio_scopes(run: Run) -> None:
    anyio = pytest.importorskip("anyio")

    async def scenario(item: int) -> list[Any]:
        seen: list[Any] = []
        with anyio.move_on_after(0.01 * item) as scope:
            await anyio.sleep_forever()
        seen.append(scope.cancelled_caught)
        try:
            with anyio.fail_after(0.01):
                await anyio.sleep(60)
        except TimeoutError:
            seen.append("failed")
        with anyio.CancelScope() as outer:
            with anyio.CancelScope() as inner:
                inner.cancel()
                await anyio.sleep(60)
            seen.append((inner.cancelled_caught, outer.cancel_called))
            with anyio.CancelScope(shield=True):
                outer.cancel()
                await anyio.sleep(0.01)
                seen.append("shielded")
            await anyio.lowlevel.checkpoint()
            seen.append("not reached")
        seen.append(outer.cancelled_caught)
        task = asyncio.current_task()
        assert task is not None
        await anyio.sleep(0)
        return [*seen, task.cancelling()]

    expected = [True, "failed", (True, False), "shielded", True, 0]
    assert run(lambda three: three(scenario)) == [expected] * 3


def test_anyio_task_groups(run: Run) -> None:
    anyio = pytest.importorskip("anyio")

    async def serve(ended: list[int], *, task_status: Any) -> None:
        task_status.started("up")
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(1)

    async def fail() -> None:
        await anyio.sleep(0)
        raise LookupError

    async def scenario(item: int) -> list[Any]:
        seen: list[Any] = []
        ended: list[int] = []
        async with anyio.create_task_group() as group:
            seen.append(await group.start(serve, ended))
            async with anyio.create_task_group() as nested:
                nested.start_soon(anyio.sleep, 0.001)
            group.cancel_scope.cancel()
        seen.append(len(ended))
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(fail)
                await anyio.sleep_forever()
        except* LookupError as errors:
            seen.append(len(errors.exceptions))
        await anyio.sleep(0)
        return seen

    assert run(lambda three: three(scenario)) == [["up", 1, 1]] * 3


def test_anyio_synchronisation(run: Run) -> None:
    anyio = pytest.importorskip("anyio")

    async def main(three: Any) -> Any:
        lock, semaphore, limiter = anyio.Lock(), anyio.Semaphore(1), anyio.CapacityLimiter(1)
        condition, event = anyio.Condition(), anyio.Event()
        send, receive = anyio.create_memory_object_stream(0)
        order: list[str] = []

        async def scenario(item: int) -> Any:
            for name, what in (("lock", lock), ("semaphore", semaphore), ("limiter", limiter)):
                async with what:
                    order.append(f"{name} {item}")
                    await anyio.sleep(0.001)
                    order.append(f"{name} {item}")
            # A waiter that gives up leaves the lock in order for the next.
            if item == 0:
                async with lock:
                    await anyio.sleep(0.02)
            elif item == 1:
                with anyio.move_on_after(0.005):
                    async with lock:
                        await anyio.sleep(0.001)
            async with condition:
                condition.notify()
            if item == 2:
                event.set()
                return [await receive.receive(), await receive.receive()]
            await event.wait()
            await send.send(item)
            return item

        outputs = await three(scenario)
        send.close()
        receive.close()
        # Whoever is inside is alone: each mark is followed by its twin.
        for name in ("lock", "semaphore", "limiter"):
            marks = [mark for mark in order if mark.startswith(name)]
            assert marks[::2] == marks[1::2]
        return [*outputs[:2], sorted(outputs[2])]

    assert run(main) == [0, 1, [0, 1]]


def test_anyio_threads(run: Run) -> None:
    anyio = pytest.importorskip("anyio")

    async def scenario(item: int) -> Any:
        loops_thread = threading.get_ident()

        def work() -> tuple[bool, Any, Any]:
            elsewhere = threading.get_ident() != loops_thread
            return elsewhere, anyio.from_thread.run(asyncio.sleep, 0, item), anyio.from_thread.run_sync(abs, -item)

        first = await anyio.to_thread.run_sync(work)
        with anyio.move_on_after(0.005):
            await anyio.to_thread.run_sync(threading.Event().wait, 0.05, abandon_on_cancel=True)
        return first

    assert run(lambda three: three(scenario)) == [(True, item, item) for item in range(3)]


def test_anyio_knows_the_branch(run: Run) -> None:
    anyio = pytest.importorskip("anyio")

    async def scenario(item: int) -> bool:
        info = anyio.get_current_task()
        await anyio.sleep(0)
        return info == anyio.get_current_task() and info.id == id(asyncio.current_task())

    assert run(lambda three: three(scenario)) == [True] * 3


def test_anyio_waits_until_other_tasks_are_blocked(run: Run) -> None:
    anyio = pytest.importorskip("anyio")

    async def scenario(item: int) -> str:
        event, reached = asyncio.Event(), False

        async def waiter() -> None:
            nonlocal reached
            await anyio.sleep(0)
            await anyio.sleep(0)
            reached = True
            await event.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(waiter)
            await anyio.wait_all_tasks_blocked()
            assert reached
            event.set()
        return "woke"

    # One after the other: the tasks that are waited for include the others' own waiting.
    async def main(three: Any) -> list[str]:
        turn = asyncio.Lock()

        async def in_turn(item: int) -> str:
            async with turn:
                return await scenario(item)

        return await three(in_turn)

    assert run(main) == ["woke"] * 3


def test_anyio_streams_and_files(run: Run, tmp_path: Any) -> None:
    anyio = pytest.importorskip("anyio")

    async def scenario(item: int) -> bytes:
        async def echo(stream: Any) -> None:
            async with stream:
                await stream.send(await stream.receive())

        path = anyio.Path(tmp_path / f"{item}")
        await path.write_bytes(b"%d" % item)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                await client.send(await path.read_bytes())
                answer: bytes = await client.receive()
            group.cancel_scope.cancel()
        return answer

    assert run(lambda three: three(scenario)) == [b"0", b"1", b"2"]


def test_sniffio(run: Run) -> None:
    sniffio = pytest.importorskip("sniffio")

    async def scenario(item: int) -> list[str]:
        first = sniffio.current_async_library()
        await asyncio.sleep(0)
        return [first, sniffio.current_async_library()]

    assert run(lambda three: three(scenario)) == [["asyncio", "asyncio"]] * 3


# --- HTTP ---


@contextlib.asynccontextmanager
async def web_server() -> AsyncIterator[str]:
    """A server on the running loop that answers at once, never, or over a websocket; gives its address."""
    web = pytest.importorskip("aiohttp.web")
    closing = asyncio.Event()

    async def number(request: Any) -> Any:
        await asyncio.sleep(0.001)
        return web.json_response({"number": int(request.match_info["number"])})

    async def never(request: Any) -> Any:
        await closing.wait()
        return web.Response()

    async def echo(request: Any) -> Any:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    app = web.Application()
    app.add_routes([web.get("/number/{number}", number), web.get("/never", never), web.get("/echo", echo)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}"
    finally:
        closing.set()
        await runner.cleanup()


def test_httpx(run: Run) -> None:
    httpx = pytest.importorskip("httpx")

    async def main(three: Any) -> Any:
        async with web_server() as url, httpx.AsyncClient(base_url=url, trust_env=False) as shared:

            async def scenario(item: int) -> list[Any]:
                seen = [(await shared.get(f"/number/{item}")).json()["number"]]
                with pytest.raises(httpx.ReadTimeout):
                    await shared.get("/never", timeout=httpx.Timeout(20, read=0.02))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await shared.get("/never", timeout=None)
                async with (
                    httpx.AsyncClient(trust_env=False) as own,
                    own.stream("GET", f"{url}/number/{item}") as answer,
                ):
                    seen.append(b"".join([part async for part in answer.aiter_bytes()]).strip())
                return seen

            return await three(scenario)

    assert run(main) == [[item, b'{"number": %d}' % item] for item in range(3)]


def test_aiohttp(run: Run) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def main(three: Any) -> Any:
        async with web_server() as url, aiohttp.ClientSession(url) as shared:

            async def scenario(item: int) -> list[Any]:
                async with shared.get(f"/number/{item}") as answer:
                    seen = [(await answer.json())["number"]]
                with pytest.raises(asyncio.TimeoutError):
                    await shared.get("/never", timeout=aiohttp.ClientTimeout(total=0.02))
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await shared.get("/never")
                async with shared.ws_connect("/echo") as socket:
                    for word in ("one", "two"):
                        await socket.send_str(f"{word} {item}")
                        seen.append(await socket.receive_str(timeout=5))
                return seen

            return await three(scenario)

    assert run(main) == [[item, f"one {item}", f"two {item}"] for item in range(3)]


def test_a_hedged_request(engine: str, loop_factory: Any, debug: bool) -> None:
    """The loser's request is cancelled on the wire, and its connection is not given to anybody else."""
    aiohttp = pytest.importorskip("aiohttp")

    async def main() -> Any:
        async with web_server() as url, aiohttp.ClientSession(url) as session:

            async def ask(path: str) -> Any:
                async with session.get(path) as answer:
                    return await answer.json()

            hedged = await fan_out(
                ask, ["/never", "/number/7", "/never"], strategy=JoinStrategy.Any, hedge_delay=0.005, engine=engine
            )
            again = await fan_out(ask, [f"/number/{number}" for number in range(8)], engine=engine)
            return hedged.outputs(), hedged.successes[0].task_index, again.outputs()

    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        outputs, winner, again = runner.run(main())
    assert (outputs, winner) == ([{"number": 7}], 1)
    assert again == [{"number": number} for number in range(8)]


# --- a database ---


def test_aiosqlite(run: Run, tmp_path: Any) -> None:
    aiosqlite = pytest.importorskip("aiosqlite", reason="aiosqlite is not installed")

    async def main(three: Any) -> Any:
        path = tmp_path / "data.db"
        async with aiosqlite.connect(path) as shared:
            await shared.execute("create table seen (item integer)")
            await shared.commit()

            async def scenario(item: int) -> int:
                await shared.execute("insert into seen values (?)", (item,))
                await shared.commit()
                async with aiosqlite.connect(path) as own:
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.01):
                            slow = "with recursive n(x) as (select 1 union all select x + 1 from n limit 300000)"
                            await own.execute_fetchall(f"{slow} select sum(x) from n")
                            await asyncio.sleep(60)
                    async with own.execute("select item from seen where item = ?", (item,)) as cursor:
                        row = await cursor.fetchone()
                assert row is not None
                return int(row[0])

            return await three(scenario)

    assert run(main) == [0, 1, 2]


def test_sqlite_on_threads(run: Run, tmp_path: Any) -> None:
    path = tmp_path / "data.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table seen (item integer)")
        connection.commit()

    async def scenario(item: int) -> Any:
        def work() -> int:
            with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection, connection:
                connection.execute("insert into seen values (?)", (item,))
                return int(connection.execute("select item from seen where item = ?", (item,)).fetchone()[0])

        return await asyncio.to_thread(work)

    assert run(lambda three: three(scenario)) == [0, 1, 2]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert sorted(connection.execute("select item from seen")) == [(0,), (1,), (2,)]

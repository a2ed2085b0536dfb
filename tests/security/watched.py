"""The program that test_audit.py starts: every event that CPython's audit hooks tell of while runs are under way."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

# Told of at any time: what opens a way in from outside. And during runs, when all modules have been imported: anything that
# reads, writes, evaluates, unpickles, or starts a process.
EVER = ("socket.bind", "socket.connect", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "pickle.")
DURING = ("open", "exec", "compile", "ctypes.", "marshal.", "os.", "shutil.", "socket.", "import")

watching = False
seen: list[str] = []


def hook(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith(EVER) or (watching and event.startswith(DURING)):
        seen.append(f"{event} {arguments!r:.100}")


sys.addaudithook(hook)

from cano import CancelToken, JoinConfig, JoinStrategy, Retry, Workflow, as_completed, fan_out, sleep  # noqa: E402


async def branch(item: int) -> int:
    await sleep(0.001)
    if item == 3:
        raise ValueError
    return item


def sync(item: int) -> int:
    return threading.get_ident() and item


async def every_kind_of_run(engine: str) -> None:
    await fan_out(branch, range(3), engine=engine, bulkhead=2, timeout=5, attempt_timeout=5)
    await fan_out(branch, range(5), engine=engine, strategy=JoinStrategy.Quorum(2), retry=Retry.fixed(1, 0.001))
    await fan_out(branch, [3, 1], engine=engine, strategy=JoinStrategy.Any, hedge_delay=0.001)
    await fan_out(sync, range(20), engine=engine)
    for over in (range(4), range(2)):
        try:
            await fan_out(branch, over, engine=engine)
        except ExceptionGroup:
            pass
    async for _ in as_completed(branch, range(5), engine=engine):
        pass
    flow: Workflow[str] = Workflow(engine=engine)
    flow.register_map("start", sync, range(3), JoinConfig(JoinStrategy.All, "task", store_partial_results=True))
    flow.register("task", lambda store: "end" if store["split_results"] else "task").add_exit_state("end")
    await flow.execute("start", timeout=5, cancel=CancelToken())
    flow.to_mermaid(), flow.to_dot(), flow._repr_html_()
    async for _ in flow.stream("start"):
        pass


def listening_sockets() -> set[str]:
    """The inodes of the sockets of this process that accept connections, where the system tells."""
    own = set()
    for link in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").exists() else ():
        try:
            own.add(str(link.readlink()))
        except OSError:
            continue
    accepting = set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == "0A":
                accepting.add(f"socket:[{fields[9]}]")
    return own & accepting


async def main(engine: str) -> None:
    global watching
    await every_kind_of_run(engine)
    watching = True
    await every_kind_of_run(engine)
    watching = False
    seen.extend(listening_sockets())


if __name__ == "__main__":
    if "listen" in sys.argv:  # to show that it would be seen
        import socket

        server = socket.create_server(("127.0.0.1", 0))
        seen.clear()
        seen.extend(listening_sockets())
    if "evaluate" in sys.argv:
        watching = True
        eval("1 + 1")
        watching = False
    asyncio.run(main(sys.argv[1]))
    print("\n".join(seen))

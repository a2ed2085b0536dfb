"""Hedging: if an answer takes longer than usual, ask a second time and take what comes first.

A server in another process answers within milliseconds, but for three times in a hundred, when it takes some tenths of
a second. It is called with and without hedging; the figures show what that does to the slowest calls, and what it
costs in requests.

    python examples/hedged/hedged.py [--calls N] [--at-once N]

Needs aiohttp: pip install "cano[demo]"
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

try:
    import aiohttp
    from calling import Client, Figures
except ModuleNotFoundError as missing:
    sys.exit(f'this example talks HTTP, and {missing.name} is not installed: pip install "cano[demo]"')


@asynccontextmanager
async def running_server() -> AsyncGenerator[str, None]:
    """Start the server in its own process, and give its address; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("server.py")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()
        if not port:
            raise RuntimeError("the server ended before it had a port; what it printed says why")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 5)
        except TimeoutError:
            process.kill()
            await process.wait()


def tell(name: str, figures: Figures) -> None:
    """Print a line of the table."""
    times = "".join(f"{seconds * 1000:>9.1f} ms" for seconds in (figures.p50, figures.p95, figures.p99))
    print(f"{name:<8}{times}{figures.requests:>10,}   {figures.extra:+.1%}")


async def compare(calls: int, at_once: int) -> None:
    async with running_server() as url, aiohttp.ClientSession() as session:
        client = Client(session, url, calls, at_once)
        print(f"{calls:,} calls, {at_once} at once")
        print(f"{'':<8}{'p50':>9}   {'p95':>9}   {'p99':>9}   {'requests':>10}   extra load")
        plain = await client.series()
        tell("plain", plain)

        # When is an answer late? Here: when it takes twice as long as is usual. Sooner would cost more requests, later
        # would save less time.
        late = 2 * plain.p50
        hedged = await client.series(hedge_delay=late)
        tell("hedged", hedged)
        print(
            f"a second request after {late * 1000:.1f} ms brought p99 from {plain.p99 * 1000:.0f} "
            f"to {hedged.p99 * 1000:.0f} ms, for {hedged.extra:.1%} more requests"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare calls with and without hedging.")
    parser.add_argument("--calls", type=int, default=1000, help="calls in each of the two series, default 1000")
    parser.add_argument("--at-once", type=int, default=10, help="calls under way at once, default 10")
    options = parser.parse_args()
    if options.calls < 2 or options.at_once < 1:
        parser.error("percentiles need at least 2 calls, and calls need at least 1 at once")
    try:
        asyncio.run(compare(options.calls, options.at_once))
    except KeyboardInterrupt:
        sys.exit(130)  # the calls are cancelled and the server has ended: asyncio.run saw to it


if __name__ == "__main__":
    main()

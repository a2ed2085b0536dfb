"""An HTTP server on loopback that answers quickly, but for a few times when it takes long; in a process of its own.

It prints its port on a line, and ends when its standard input is closed: whoever started it need not stop it, and
cannot leave it behind.
"""

import argparse
import asyncio
import random
import signal
import sys

from aiohttp import web

SLOW_SHARE = 0.03
"""How many of the answers take long. Real servers have such a tail from garbage collection, disks, full queues."""


class Answers:
    """Answers with a delay, and counts the requests.

    Args:
        seed: The same seed gives the same delays, in the order in which requests arrive.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.requests = 0

    async def answer(self, _request: web.Request) -> web.Response:
        """Answer after some milliseconds, or after some tenths of a second."""
        self.requests += 1
        delay = 0.004 + self._random.expovariate(1 / 0.002)
        if self._random.random() < SLOW_SHARE:
            delay += self._random.uniform(0.2, 0.4)
        await asyncio.sleep(delay)
        return web.Response(text="answer")

    async def count(self, _request: web.Request) -> web.Response:
        """Tell how many requests there have been."""
        return web.Response(text=str(self.requests))


async def serve(seed: int) -> None:
    answers = Answers(seed)
    application = web.Application()
    application.add_routes([web.get("/answer", answers.answer), web.get("/count", answers.count)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)  # port 0: one that is free
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until it is closed
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Answer slowly now and then.")
    parser.add_argument("--seed", type=int, default=1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it
    asyncio.run(serve(parser.parse_args().seed))

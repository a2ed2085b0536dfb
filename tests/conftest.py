"""What every test may ask for: an engine, that engine's store, and time that does not have to be waited for."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests import at_once, record
from tests.loops import any_loop
from tests.record import tried

from cano._engine import NAMES, resolve, why_unavailable
from cano.testing import VirtualTimeLoop

__all__ = ["engine", "store", "tried"]

# Here coroutines run in virtual time: the clock jumps to the next timer as soon as nothing else is left to do, so an
# hour costs nothing and durations can be compared exactly. `@pytest.mark.real_time` opts out.
VIRTUAL = ("contract", "properties", "security")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=NAMES, help="run the tests of one engine only")
    record.add_options(parser)
    at_once.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_time: a coroutine test that runs on a loop with a real clock")
    config.addinivalue_line("markers", "every_loop: a coroutine test that runs on each loop a user may have")
    record.configure(config)
    at_once.configure(config)
    if os.environ.get("CANO_CANARY") == "1":
        from tests.security import through_all

        through_all.plug_in(config)
    # A shell has its jobs in the background ignore Ctrl-C, and their children too: tests that press it need the default.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if threshold := os.environ.get("CANO_GC_THRESHOLD"):
        gc.set_threshold(int(threshold))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    record.mark(config, items)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        only = metafunc.config.getoption("--engine")
        metafunc.parametrize("engine", [name for name in NAMES if only in (None, name)], indirect=True)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Which loop a coroutine test runs on."""
    real_time = item.get_closest_marker("real_time") is not None
    if item.get_closest_marker("every_loop") is not None:
        return any_loop(real_time=real_time)
    place = item.path.relative_to(config.rootpath / "tests").parts[0]
    if place not in VIRTUAL or real_time:
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualTimeLoop}


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine; a test that asks for it runs on each.

    A missing native engine is a failure and no skip, or a suite that tests half of what it should would be green.
    """
    name: str = request.param
    reason = why_unavailable(name)
    if reason is not None:
        message = f"the {name} engine is not here: {reason}"
        if os.environ.get("CANO_ALLOW_MISSING_NATIVE") == "1":
            pytest.skip(message)
        pytest.fail(f"{message} (CANO_ALLOW_MISSING_NATIVE=1 allows it)", pytrace=False)
    return name


@pytest.fixture
def store(engine: str) -> Any:
    """An empty store of the engine."""
    return resolve(engine).new_store()

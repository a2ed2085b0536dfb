"""Every test in many threads at once: `pytest --at-once 8 tests/contract`, or `make at-once`.

The threads of a test share the package and nothing else: each has a loop of its own, of the kind that the test has otherwise, and
what our fixtures make anew. On a free-threaded build they run truly at once, and a run at whose end the lock is back fails. On
a build with a lock threads are switched as often as the interpreter can, which finds steps that are no safer there.

A test that changes or counts what belongs to the process runs as ever. It is marked `alone` (the collector: what another thread
collects, this one does not; signals; warnings; the limit of worker threads; time that others would take), or asks for one of
the fixtures below. The marks are kept up for the suites of `make at-once`; in others one may miss.

What a fixture that yields has set up is there for all the threads of a test, and is put back once they are done.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import faulthandler
import functools
import re
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from types import SimpleNamespace
from typing import Any

import pytest

# Fixtures that change the process, or listen to all of it: pytest's, and those of ours that set a limit.
OF_THE_PROCESS = {
    "caplog", "capfd", "capsys", "monkeypatch", "recwarn", "tmp_path",
    "limit", "no_collector", "thread_limit",
}  # fmt: skip

# Seconds until the threads of a test count as hanging: before pytest-timeout, which would not know that there are several.
PATIENCE = 240
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--at-once", type=int, metavar="THREADS", help="run each test in so many threads at once")


def configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: shares what belongs to the process; --at-once runs it in one thread")
    threads: int | None = config.getoption("--at-once")
    if threads is None:
        return
    if threads < 2:
        raise pytest.UsageError(f"--at-once is a number of threads, two or more, and not {threads}")
    config.pluginmanager.register(AtOnce(threads), "cano-at-once")


class AtOnce:
    """The plugin: calls each test from many threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.counts: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        if pyfuncitem.get_closest_marker("alone") is not None or not OF_THE_PROCESS.isdisjoint(pyfuncitem.fixturenames):
            self.counts["alone"] += 1
            return None  # pytest calls it
        run_at_once([call_of(pyfuncitem) for _ in range(self.threads)])
        self.counts["at once"] += 1
        return True

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if lock_is_back():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(
            f"at once: {self.counts['at once']} tests in {self.threads} threads each, {self.counts['alone']} alone"
        )
        if lock_is_back():
            terminalreporter.write_line("at once: FAILED, something turned the lock (GIL) of this build on", red=True)


def lock_is_back() -> bool:
    """Whether a build that needs no lock has one: most likely a module was imported that says it needs it."""
    return FREE_THREADED and sys._is_gil_enabled()  # type: ignore[attr-defined]


# --- what each thread calls ---


def call_of(item: pytest.Function) -> Callable[[], object]:
    """The call of a test, with values of its fixtures that no other thread has."""
    made: dict[str, Any] = {}
    arguments = {name: value_of(item, name, made) for name in item._fixtureinfo.argnames}
    factory = parameters_of(item).get("_asyncio_loop_factory")
    if factory is None:
        return functools.partial(item.obj, **arguments)
    coroutine_function = item.obj.__wrapped__  # pytest-asyncio has put its own loop around it, made by this factory

    def call() -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(coroutine_function(**arguments))

    return call


def value_of(item: pytest.Function, name: str, made: dict[str, Any]) -> Any:
    """What the fixture gives: a plain function of ours is called again, anything else has one value for all."""
    definition = item._fixtureinfo.name2fixturedefs.get(name, [None])[-1]
    if definition is None or not definition.baseid or definition.scope != "function" or not is_plain(definition.func):
        return item._request if name == "request" else item.funcargs[name]
    if name not in made:
        request = SimpleNamespace(param=parameters_of(item).get(name), node=item, config=item.config)
        arguments = {
            asked: request if asked == "request" else value_of(item, asked, made) for asked in definition.argnames
        }
        made[name] = definition.func(**arguments)
    return made[name]


def parameters_of(item: pytest.Function) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def is_plain(function: Any) -> bool:
    """Whether a call is all there is to it."""
    return not any(is_so(function) for is_so in (isgeneratorfunction, iscoroutinefunction, isasyncgenfunction))


# --- the threads ---


def run_at_once(calls: Sequence[Callable[[], object]], patience: float = PATIENCE) -> None:
    """Call each in a thread of its own, all from the same moment on; raise what they raised, or that they hang."""
    together = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            together.wait(patience)
            call()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(run, call), name=f"at once {number}", daemon=True)
        for number, call in enumerate(calls)
    ]
    end = time.monotonic() + patience
    with switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
    hanging = [thread.name for thread in threads if thread.is_alive()]
    if hanging:
        faulthandler.dump_traceback(sys.__stderr__ or 2, all_threads=True)
        pytest.fail(f"after {patience:.0f} s there still run: {', '.join(hanging)}; each stack is above", pytrace=False)
    tell(errors, len(calls))


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def tell(errors: list[BaseException], threads: int) -> None:
    """Raise the first error of the threads, with a note of what there was besides; a skip only where all of them skip."""
    failures = [error for error in errors if not isinstance(error, pytest.skip.Exception)]
    if failures:
        # Without addresses, which make every message another.
        kinds = Counter(re.sub(r" at 0x\w+", "", f"{type(error).__name__}: {error!s:.300}") for error in failures)
        said = "\n".join(f"{count} times {kind}" for kind, count in kinds.most_common())
        failures[0].add_note(f"{len(failures)} of {threads} threads failed:\n{said}")
        raise failures[0]
    if len(errors) == threads:
        raise errors[0]

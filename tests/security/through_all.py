"""The canary through all suites: `CANO_CANARY=1 pytest tests/contract`.

Every number and text that a split draws, and every one that is put into a store, is replaced by one that is equal to it but shows
the canary, however it is shown. After each test all that cano said meanwhile is searched: its log lines and its errors.
A test that cannot bear such values (it compares what is printed, say) is skipped with that reason; a leak fails it.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from tests.security.canary import CANARY, walk

from cano import CanoError, MemoryStore
from cano._engine import feed, why_unavailable
from cano.store import MemoryStore as PureStore


class TellingInt(int):
    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return CANARY


class TellingStr(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return CANARY


def telling(value: Any) -> Any:
    """The same value, but one that would tell."""
    if type(value) is int:
        return TellingInt(value)
    return TellingStr(value) if type(value) is str else value


class Listener(logging.Handler):
    """Keeps what cano says during one test."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.errors: list[CanoError] = []
        self.drawn = self.stored = self.searched = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def leaks(self) -> Iterator[str]:
        for line in self.lines:
            self.searched += 1
            if CANARY in line:
                yield f"log: {line}"
        for error in self.errors:
            self.searched += 1
            try:
                text = f"{error} {error!r} {getattr(error, '__notes__', '')}"
            except Exception:
                continue  # a user's own exception inside it refuses to be shown
            if CANARY in text and not any(_tells(one) for one in walk(error) if not isinstance(one, CanoError)):
                yield f"{type(error).__name__}: {text}"
        self.lines.clear()
        self.errors.clear()


def _tells(error: BaseException) -> bool:
    """Whether a user's own exception holds a value: then it is the user who shows it."""
    try:
        return CANARY in str(error)
    except Exception:
        return True


class Plugin:
    """Puts the canary in, and looks for it."""

    def __init__(self) -> None:
        self.listener = Listener()
        self.leaked = 0

    def install(self) -> None:
        listener = self.listener
        logging.getLogger("cano").addHandler(listener)
        opened, started = feed._open, feed._start

        def draw(item: Any) -> Any:
            listener.drawn += 1
            return telling(item)

        def open_telling(over: Any, *, made: bool) -> Any:
            source = opened(over, made=made)
            if source.iterator is not None:
                source.iterator = map(draw, source.iterator)
            return source

        async def start_telling(split: Any, item: Any) -> bool:
            return await started(split, draw(item))

        feed._open, feed._start = open_telling, start_telling
        initialise = CanoError.__init__

        def remember(error: CanoError, *arguments: Any, **facts: Any) -> None:
            initialise(error, *arguments, **facts)
            listener.errors.append(error)

        CanoError.__init__ = remember  # type: ignore[method-assign]
        for store in {PureStore, MemoryStore} if why_unavailable("native") is None else {PureStore}:
            self._tell_when_put(store)

    def _tell_when_put(self, store: Any) -> None:
        put, listener = store.put, self.listener

        def put_telling(self: Any, key: str, value: Any) -> None:
            listener.stored += 1
            put(self, key, telling(value))

        try:
            store.put = put_telling
        except TypeError:
            pass  # a native class that cannot be changed: items alone, then

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        report: pytest.TestReport = yield
        if call.when == "call":
            leaks = list(self.listener.leaks())
            if leaks:
                self.leaked += 1
                report.outcome = "failed"
                report.longrepr = "the canary was found in\n" + "\n".join(leaks)
            elif report.failed:
                report.outcome = "skipped"
                report.longrepr = (str(item.path), 0, "Skipped: it cannot bear values that show themselves otherwise")
        return report

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        listener = self.listener
        terminalreporter.write_line(
            f"canary: {listener.drawn} drawn, {listener.stored} stored, {listener.searched} texts searched, "
            f"{self.leaked} leaks"
        )


def plug_in(config: pytest.Config) -> None:
    """Install it."""
    plugin = Plugin()
    plugin.install()
    config.pluginmanager.register(plugin, "cano-canary")

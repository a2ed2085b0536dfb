"""Picks the engine. Which one runs is never a surprise: asking for one that is not here raises."""

from __future__ import annotations

import os
from typing import Any

from cano._forks import register as _wait_for_imports
from cano.errors import ConfigurationError, EngineUnavailableError

from .contract import Engine
from .leaving import register as _register

NAMES = ("native", "python")

_register()
_wait_for_imports()
_engines: dict[str, Engine] = {}
_unavailable: dict[str, str] = {}

_VARIABLE = "CANO_ENGINE"
_ENCODED = os.environ.encodekey(_VARIABLE)


def _chosen_by_environment() -> str | None:
    # For a name that is not there `os.environ.get` raises and catches, which takes as long as a third of a fan_out of ten
    # branches. The dict it keeps the variables in says it at once, where there is one.
    variables = getattr(os.environ, "_data", None)
    if type(variables) is dict and _ENCODED not in variables:
        return None
    return os.environ.get(_VARIABLE) or None


def resolve(name: str | None) -> Engine:
    """Return an engine by name, or the default one.

    Args:
        name: `"native"`, `"python"`, or `None`: then the environment variable `CANO_ENGINE` decides, and without it
            the native engine is taken where it is available, else the pure one.

    Raises:
        ConfigurationError: There is no engine of that name.
        EngineUnavailableError: There is, but not here; the message says why and how to get it.
    """
    if name is None:
        name = _chosen_by_environment()
        if name is None:
            return _load("native") or _require("python")
        if name not in NAMES:
            raise ConfigurationError(f'CANO_ENGINE must be "native" or "python", but {name!r} came')
    elif name not in NAMES:
        came: object = name  # whatever the annotation says
        shown = repr(came) if isinstance(came, str) else type(came).__name__
        raise ConfigurationError(f'engine must be "native", "python" or None, but {shown} came')
    return _require(name)


def why_unavailable(name: str) -> str | None:
    """Return why an engine cannot be used here; `None` if it can."""
    _load(name)
    return _unavailable.get(name)


def _require(name: str) -> Engine:
    engine = _load(name)
    if engine is None:
        raise EngineUnavailableError(
            f"the {name} engine is not available here: {_unavailable[name]}. Install a wheel built for this Python "
            f'(pip install --force-reinstall cano), or choose engine="python".'
        )
    return engine


def _load(name: str) -> Engine | None:
    engine = _engines.get(name)
    if engine is None and name not in _unavailable:
        if name == "python":
            from .pure import PureEngine

            engine = PureEngine()
        else:
            try:
                from .native import NativeEngine

                engine = NativeEngine()
            except ImportError as error:
                _unavailable[name] = str(error)
                return None
        _engines[name] = engine
    return engine


def default_store_type() -> type[Any]:
    """Return the class that users import as `MemoryStore`: the default engine's. Never raises; a bad name shows later."""
    if os.environ.get("CANO_ENGINE") != "python":
        try:
            from cano._core import MemoryStore
        except ImportError:
            pass
        else:
            return MemoryStore
    from cano.store import MemoryStore as PureStore

    return PureStore


_pause: type[Any] | None = None


def pause(delay: float, result: Any) -> Any:
    """Return an awaitable that sleeps on the timers of whichever engine runs the awaiting branch."""
    global _pause
    if _pause is None:
        engine = _load("native") or _require("python")
        _pause = engine.pause_type()
    return _pause(delay, result)

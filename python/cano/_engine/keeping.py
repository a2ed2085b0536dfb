"""Putting the result of a split into the store, which may be any object of the user's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cano.errors import ConfigurationError

from . import failures
from .calls import is_coroutine_function

KEY = "split_results"
FATAL = (KeyboardInterrupt, SystemExit)


def check_store(store: Any) -> None:
    """Refuse a store that the result of a split could not be put into.

    Raises:
        ConfigurationError: It has neither a `put(key, value)` that is no coroutine function, nor `store[key] = value`.
    """
    put = getattr(store, "put", None)
    if callable(put):
        if not is_coroutine_function(put):
            return
        came = f"that of {type(store).__qualname__} is async"
    elif hasattr(type(store), "__setitem__"):
        return
    else:
        came = f"an object of type {type(store).__qualname__} came"
    raise ConfigurationError(
        f"a split with store_partial_results=True puts its result into the store, which needs put(key, value) or "
        f"store[key] = value, but {came}; try MemoryStore() or a dict"
    )


def keep_result(
    store: Any,
    result: Any,
    error: BaseException | None,
    *,
    state: Any = None,
    task: str | None = None,
    path: Iterable[Any] = (),
) -> BaseException | None:
    """Put a split's result where the next state's task finds it.

    Args:
        store: The run's store.
        result: What came of the branches.
        error: What the split raises, if it does. That the store has raised as well does not hide it.
        state, task, path: Where this happens.

    Returns:
        What the split raises now.
    """
    try:
        put = getattr(store, "put", None)
        if callable(put):
            put(KEY, result)
        else:
            store[KEY] = result
    except BaseException as broken:
        if issubclass(type(broken), FATAL):
            return error if issubclass(type(error), FATAL) else broken
        if error is None:
            return failures.result_not_kept(broken, state=state, task=task, path=path)
        BaseException.add_note(error, f"The store refused the result of the split: {failures.describe_error(broken)}")
    return error

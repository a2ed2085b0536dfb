"""Putting the result of a split into the store, which may be any object of the user's."""

from __future__ import annotations

from typing import Any

from cano.errors import ConfigurationError

KEY = "split_results"


def check_store(store: Any) -> None:
    """Refuse a store that the result of a split could not be put into.

    Raises:
        ConfigurationError: It has neither `put(key, value)` nor `store[key] = value`.
    """
    if not hasattr(store, "put") and not hasattr(type(store), "__setitem__"):
        raise ConfigurationError(
            f"a split with store_partial_results=True puts its result into the store, which needs put(key, value) or "
            f"store[key] = value, but an object of type {type(store).__qualname__} came; try MemoryStore() or a dict"
        )


def keep_result(store: Any, result: Any) -> None:
    """Put a split's result where the next state's task finds it."""
    put = getattr(store, "put", None)
    if put is not None:
        put(KEY, result)
        return
    check_store(store)
    store[KEY] = result

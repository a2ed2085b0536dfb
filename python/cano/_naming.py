"""How messages name things: types, keys, states, exceptions. Nothing here raises or quotes a value."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["describe_error", "shorten", "type_name"]

_SHOWN: Final = 200
"""How many characters of a user's message are shown inside one of ours."""


def type_name(of: Any) -> str:
    """Name a type as a reader would: `int`, `my.module.Thing`, `int | str`."""
    if not isinstance(of, type):
        return shorten(of)
    module = getattr(of, "__module__", None)
    name = getattr(of, "__qualname__", None) or type.__repr__(of)
    return name if module in {None, "builtins", "__main__"} else f"{module}.{name}"


def shorten(value: object, limit: int = 100) -> str:
    """Show a key, a state or a number by its repr, cut to a length that fits into a sentence."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a user's __repr__ must not hide the error being described
        return f"<{type_name(type(value))} whose repr raised {type(error).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def describe_error(error: BaseException) -> str:
    """Show a user's exception: its type and the first line of its text."""
    name = type_name(type(error))
    try:
        text = str(error).strip()
    except Exception as raised:  # noqa: BLE001 - nor may a user's __str__
        text = f"(its text cannot be shown: {type_name(type(raised))})"
    first = text.split("\n", 1)[0]
    if len(first) > _SHOWN:
        first = f"{first[: _SHOWN - 1]}…"
    return f"{name}: {first}" if first else name

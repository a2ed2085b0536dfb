"""Reading the options of `register` and what a task says of itself (`config`, its return annotation)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

from . import _checks
from .errors import ConfigurationError
from .policy import Retry
from .steps import Node

NAMES = ("retry", "attempt_timeout", "inline", "name", "next")


def optional_text(value: Any, what: str) -> str | None:
    """Check an optional name."""
    if value is None or (isinstance(value, str) and value):
        return value
    shown = "an empty string" if value == "" else type(value).__qualname__
    raise ConfigurationError(f"{what} must be a non-empty string or None, but {shown} came")


class Unset:
    """The type of an option that was not given, so that `None` can be."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<not given>"


UNSET: Final = Unset()


class Options:
    """The options of one registration, checked."""

    __slots__ = ("attempt_timeout", "given", "inline", "name", "next", "retry")

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = frozenset(given)
        retry = given.get("retry")
        if retry is None:
            retry = Retry.none()
        elif not isinstance(retry, Retry):
            raise ConfigurationError(
                f"retry must be a Retry, but {type(retry).__qualname__} came; try Retry.exponential(3)"
            )
        self.retry: Retry = retry
        self.attempt_timeout: float | None = _checks.optional_seconds(given.get("attempt_timeout"), "attempt_timeout")
        inline = given.get("inline")
        self.inline: bool = False if inline is None else _checks.boolean(inline, "inline")
        self.name: str | None = optional_text(given.get("name"), "name")
        self.next: Any = given.get("next", UNSET)

    @classmethod
    def of(cls, task: Any, *options: Any) -> Options:
        """Merge the options given at `register` over those in the task's own `config`."""
        merged: dict[str, Any] = {}
        options = options or (UNSET,) * len(NAMES)
        config = None if task is None else getattr(task, "config", None)
        if config is not None and not isinstance(task, type) and (hasattr(task, "run") or isinstance(task, Node)):
            if not isinstance(config, Mapping):
                raise ConfigurationError(
                    f"the config of {type(task).__qualname__} must be a mapping of register's options or None, "
                    f"but {type(config).__qualname__} came"
                )
            unknown = [str(key) for key in config if key not in NAMES]
            if unknown:
                raise ConfigurationError(
                    f"the config of {type(task).__qualname__} has unknown options: {', '.join(unknown)}; "
                    f"known are: {', '.join(NAMES)}"
                )
            merged.update(config)
        for name, option in zip(NAMES, options, strict=True):
            if not isinstance(option, Unset):
                merged[name] = option
        return cls(merged)


def declared_by_annotation(task: Any) -> tuple[tuple[Any, ...] | None, bool]:
    """Read the transitions a task's return annotation declares.

    `Literal[S.A, S.B]` (also inside `TaskResult[...]`) declares these states; an enum class declares "any of its
    members".

    Returns:
        The states, or `None` when the annotation declares none; and whether a whole enum was named.
    """
    target: Any = task
    if task is None:
        return None, False
    for name in ("run", "post"):
        method = getattr(task, name, None)
        if callable(method) and not isinstance(task, type):
            target = method
            break
    while hasattr(target, "func") and hasattr(target, "keywords"):  # functools.partial
        target = target.func
    function = getattr(target, "__func__", target)
    annotation = getattr(function, "__annotations__", {}).get("return")
    if annotation is None:
        return None, False
    if isinstance(annotation, str):
        import typing

        try:
            annotation = typing.get_type_hints(function).get("return")
        except Exception:  # noqa: BLE001 - a name that exists only for type checkers: then nothing is declared
            return None, False
    return _states_of(annotation)


def _states_of(annotation: Any) -> tuple[tuple[Any, ...] | None, bool]:
    import types
    import typing

    from .steps import TaskResult

    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        members = tuple(annotation)
        return (members, True) if members else (None, False)
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return typing.get_args(annotation), False
    if origin is TaskResult:
        return _states_of(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is types.UnionType:
        states: list[Any] = []
        whole = False
        for part in typing.get_args(annotation):
            found, any_of = _states_of(part)
            if found is None:
                return None, False
            states.extend(found)
            whole = whole or any_of
        return tuple(dict.fromkeys(states)), whole
    return None, False

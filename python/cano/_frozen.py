"""The base of every immutable value a user handles: equality, hash, repr, pickling, `copy.replace`.

Not `dataclasses`: importing that module alone costs more than half of what `import cano` may cost, because it
imports `inspect`. The type checkers are told the same story as for a frozen dataclass.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, TypeVar, dataclass_transform

__all__ = ["Frozen", "fill"]

fill = object.__setattr__
"""How a constructor sets a field of a `Frozen` object (nothing else may)."""

_T = TypeVar("_T", bound="Frozen")


@dataclass_transform(frozen_default=True)
class Frozen:
    """An object whose fields are its `__slots__`, set once by its constructor."""

    __slots__ = ()

    _hidden: ClassVar[tuple[str, ...]] = ()
    """Slots that are caches or private: they take no part in equality, repr and pickling."""

    def _facts(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._names())

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        slots: tuple[str, ...] = cls.__slots__
        return tuple(name for name in slots if name not in cls._hidden)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"{type(self).__name__} is immutable: {name!r} cannot be set. "
            "Make a changed copy instead: build a new one, or use its with_… methods if it has them."
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: {name!r} cannot be deleted.")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._facts()))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._names())
        return f"{type(self).__name__}({inside})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._names(), self._facts())

    def __replace__(self, **changes: Any) -> Self:
        """Support `copy.replace` (Python 3.13 and later)."""
        fields = dict(zip(self._names(), self._facts(), strict=True))
        unknown = sorted(set(changes) - set(fields))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {unknown[0]!r}; its fields are {', '.join(fields)}")
        return type(self)(**(fields | changes))


def _restore(cls: type[_T], names: tuple[str, ...], facts: tuple[Any, ...]) -> _T:
    """Rebuild a pickled value without its constructor: it was checked when it was first made."""
    self = cls.__new__(cls)
    for name, fact in zip(names, facts, strict=True):
        fill(self, name, fact)
    return self

"""Counts the points of a program, and does something at the n-th: the one enumerator of the classes F1, F2, F3, F8 and F9.

What a point is differs: an instruction of the package (`Opcodes`), a turn of the loop (`tests.contract.shapes.Turns`), a call of
something the user wrote (`Point`), an allocation. What is done with them does not: run once to count, then once more for each
number, and see that whatever is promised holds.
"""

from __future__ import annotations

import dis
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

import cano

SOAK = os.environ.get("CANO_SOAK") == "1"
# What the short form leaves out, and a failure is repeated with.
SEED = int(os.environ.get("CANO_FAULT_SEED", "20261126"))

PACKAGE = str(Path(cano.__file__).parent)


def some(count: int, short: int, *salt: object) -> Iterator[int]:
    """The numbers of the points to try: all of 1..count in the soak, else so many, chosen by the seed; the ends always."""
    if SOAK or count <= short:
        yield from range(1, count + 1)
        return
    chosen = random.Random(f"{SEED} {salt}").sample(range(2, count), max(0, short - 2))
    yield from sorted({1, count, *chosen})


class Point:
    """A place that a program comes by: counts, and acts at the n-th time."""

    def __init__(self, at: int = 0, act: Callable[[], object] | None = None) -> None:
        self.count = 0
        self.at = at
        self.act = act

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.at and self.act is not None:
            self.act()


class Opcodes:
    """Counts the instructions of the package that this thread executes, and raises KeyboardInterrupt before the n-th.

    Args:
        at: Where to raise; 0: nowhere.
        of: Which code's; default: the package's.
        everywhere: Count every instruction. Otherwise only those at which a signal can be delivered: CPython looks for one when a
            function is entered, after a call, and when it jumps back.
    """

    def __init__(self, at: int = 0, *, everywhere: bool = False, of: Callable[[CodeType], bool] | None = None) -> None:
        self._of = of or is_ours
        self.count = 0
        self.place = ""  # where it was raised
        self.callers: list[CodeType] = []  # the code that was being executed there, innermost first
        self._at = at
        self._everywhere = everywhere
        self._open = False

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        self._open = True
        sys.settrace(self._called)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        sys.settrace(self._before)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not self._open or not self._of(frame.f_code):
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._traced

    def _traced(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event != "opcode" or not self._open:
            return self._traced
        if self._everywhere or frame.f_lasti in interruptible(frame.f_code):
            self.count += 1
            if self.count == self._at:
                self._open = False
                sys.settrace(self._before)
                self.place = f"{frame.f_code.co_qualname}:{frame.f_lineno} (offset {frame.f_lasti})"
                caller: FrameType | None = frame
                while caller is not None:
                    self.callers.append(caller.f_code)
                    caller = caller.f_back
                raise KeyboardInterrupt
        return self._traced


_ours: dict[CodeType, bool] = {}


def is_ours(code: CodeType) -> bool:
    """Whether code is the package's (and no helper for tests)."""
    answer = _ours.get(code)
    if answer is None:
        name = code.co_filename
        answer = _ours[code] = name.startswith(PACKAGE) and not name.endswith("testing.py")
    return answer


_interruptible: dict[CodeType, frozenset[int]] = {}


def interruptible(code: CodeType) -> frozenset[int]:
    """The offsets of the instructions before which CPython may raise KeyboardInterrupt (`Python/ceval.c`: the eval breaker).

    After a call it does so with the place of the call; here it can only be raised at the next instruction, so calls behind
    which another handler is responsible (`try: return f()`) are left out.
    """
    found = _interruptible.get(code)
    if found is None:
        offsets = set()
        before: dis.Instruction | None = None
        for instruction in dis.get_instructions(code):
            if before is not None and (
                (before.opname.startswith("CALL") and _handler(code, before) == _handler(code, instruction))
                or (before.opname == "RESUME" and (before.arg or 0) & 3 < 2)  # not when an `await` goes on
            ):
                offsets.add(instruction.offset)
            if "JUMP_BACKWARD" in instruction.opname and "NO_INTERRUPT" not in instruction.opname:
                offsets.add(instruction.offset)
            if instruction.opname != "CACHE":
                before = instruction
        found = _interruptible[code] = frozenset(offsets)
    return found


def _handler(code: CodeType, instruction: dis.Instruction) -> int:
    """Where an exception of an instruction goes on in its function; -1: to the caller."""
    table: Any = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    return next((row.target for row in table if row.start <= instruction.offset < row.end), -1)

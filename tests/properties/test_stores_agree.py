"""Random calls of a store and of its scopes, on both engines: the same answers, the same errors, the same order of keys.

`CANO_FUZZ_SECONDS=600` goes on for ten minutes from a random seed; `CANO_FUZZ_SEED=7` replays one. A failing seed is
printed with the calls that led to it.
"""

from __future__ import annotations

import collections
import os
import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from cano._engine import resolve

pytestmark = pytest.mark.fault("random")

# How many sequences of calls: 400, and 40,000 in the long form.
COUNT, CHUNK = (40_000, 4_000) if os.environ.get("CANO_SOAK") == "1" else (400, 400)
LENGTH = 40


class Named(str):
    """A key that is a string of its own kind."""


class Incomparable:
    """A value that answers every comparison with an error."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("incomparable")

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return "Incomparable()"


class Call(NamedTuple):
    """One call: which store it is made on, of those there are, and what with."""

    store: int
    name: str
    key: Any
    value: Any
    type: Any
    change: str


KEYS = ("a", "b", "a/b", "", "list", "x y", "é", Named("a"), "sc/a", "sc/")
NO_KEYS = (None, 1, b"a", ("a",), True, 1.5)
TYPES: tuple[Any, ...] = (
    int, str, list, object, bool, (int, str), type(None), "int", None, int | str, list[int], float,
    collections.abc.Sequence,
)  # fmt: skip
CHANGES: dict[str, Callable[[Any], Any]] = {
    "add one": lambda value: value + 1,
    "replace": lambda value: "new",
    "raise": lambda value: 1 / 0,
    "forget": lambda value: None,
    "keep": lambda value: value,
}
CALLS: dict[str, Callable[[Any, Call], Any]] = {
    "put": lambda store, call: store.put(call.key, call.value),
    "get": lambda store, call: store.get(call.key),
    "get of a type": lambda store, call: store.get(call.key, call.type),
    "get or else": lambda store, call: store.get(call.key, default=call.value),
    "get of a type or else": lambda store, call: store.get(call.key, call.type, default=call.value),
    "remove": lambda store, call: store.remove(call.key),
    "append": lambda store, call: store.append(call.key, call.value),
    "update": lambda store, call: store.update(call.key, CHANGES[call.change]),
    "update like a dict": lambda store, call: store.update({call.key: call.value}),
    "update by keyword": lambda store, call: store.update(z=call.value),
    "contains_key": lambda store, call: store.contains_key(call.key),
    "in": lambda store, call: call.key in store,
    "keys": lambda store, call: store.keys(),
    "values": lambda store, call: store.values(),
    "items": lambda store, call: store.items(),
    "list": lambda store, call: list(store),
    "len": lambda store, call: (len(store), store.len(), store.is_empty(), bool(store)),
    "clear": lambda store, call: store.clear(),
    "snapshot": lambda store, call: store.snapshot(),
    "scoped": lambda store, call: store.scoped(call.key),
    "[]": lambda store, call: store[call.key],
    "[] =": lambda store, call: store.__setitem__(call.key, call.value),
    "del []": lambda store, call: store.__delitem__(call.key),
    "pop": lambda store, call: store.pop(call.key),
    "pop or else": lambda store, call: store.pop(call.key, call.value),
    "popitem": lambda store, call: store.popitem(),
    "setdefault": lambda store, call: store.setdefault(call.key, call.value),
    "setdefault to None": lambda store, call: store.setdefault(call.key),
    "==": lambda store, call: store == {"a": 1},
    "repr": lambda store, call: repr(store),
}


def calls_of(seed: int) -> list[Call]:
    dice = random.Random(f"store {seed}")
    return [
        Call(
            store=dice.randrange(LENGTH),
            name=dice.choice(list(CALLS)),
            key=dice.choice(KEYS if dice.random() < 0.93 else NO_KEYS),
            value=dice.choice((1, True, None, "text", [1], [], {"key": 1}, (1,), 1.5, int, Incomparable())),
            type=dice.choice(TYPES),
            change=dice.choice(list(CHANGES)),
        )
        for _ in range(LENGTH)
    ]


def tell(answer: Any) -> Any:
    """Describe an answer so that descriptions of equal ones are equal, and of 1 and True are not."""
    if isinstance(answer, BaseException):
        facts = sorted((name, repr(fact)) for name, fact in vars(answer).items())
        return type(answer).__name__, str(answer), facts, tell(answer.__cause__)
    return repr(answer)


def play(seed: int, engine: str) -> list[Any]:
    """Make the calls; what came of each."""
    stores: list[Any] = [resolve(engine).new_store()]
    told: list[Any] = []
    for call in calls_of(seed):
        store = stores[call.store % len(stores)]
        try:
            answer = CALLS[call.name](store, call)
        except Exception as error:
            answer = error
        told.append(tell(answer))
        if call.name == "scoped" and not isinstance(answer, Exception):
            stores.append(answer)
    told.append([tell(store.items()) for store in stores])
    return told


def check(seed: int) -> list[Any]:
    native, pure = play(seed, "native"), play(seed, "python")
    for number, (first, second) in enumerate(zip(native, pure, strict=True)):
        if first != second:
            calls = "\n".join(map(str, calls_of(seed)[: number + 1]))
            pytest.fail(
                f"seed {seed}: after\n{calls}\nnative: {first}\npython: {second}\nreplay: CANO_FUZZ_SEED={seed}",
                pytrace=False,
            )
    return native


@pytest.mark.timeout(600 if COUNT > 400 else 300)
@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
@pytest.mark.usefixtures("both")
def test_stores_agree(first: int, tried: Callable[..., None]) -> None:
    for seed in range(first, first + CHUNK):
        check(seed)
    tried(store_calls=CHUNK * LENGTH)


@pytest.mark.usefixtures("both")
@pytest.mark.skipif("CANO_FUZZ_SEED" not in os.environ, reason="CANO_FUZZ_SEED names a seed to replay")
def test_one_seed() -> None:
    check(int(os.environ["CANO_FUZZ_SEED"]))


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.usefixtures("both")
@pytest.mark.skipif("CANO_FUZZ_SECONDS" not in os.environ, reason="CANO_FUZZ_SECONDS says how long to go on")
def test_stores_agree_for_a_while(tried: Callable[..., None]) -> None:
    # A store is no asyncio matter and has little state: a tenth of the time finds what there is to find.
    end = time.monotonic() + float(os.environ["CANO_FUZZ_SECONDS"]) / 10
    seed = first = random.SystemRandom().randrange(10**9)
    while time.monotonic() < end:
        check(seed)
        seed += 1
    tried(store_calls=(seed - first) * LENGTH)
    print(f"{seed - first} sequences of calls, seeds {first} to {seed - 1}")


def test_each_call_succeeds_and_fails_sometimes() -> None:
    """Those that can: what only ever succeeds or only ever fails would be compared in half."""
    answers: dict[str, set[bool]] = {name: set() for name in CALLS}
    errors: set[str] = set()
    for seed in range(200):
        for call, told in zip(calls_of(seed), play(seed, "python"), strict=False):
            failed = isinstance(told, tuple) and len(told) == 4
            answers[call.name].add(failed)
            if failed:
                errors.add(told[0])
    always = {"clear", "items", "keys", "len", "list", "repr", "snapshot", "values", "==", "contains_key", "in"}
    never = {"update like a dict", "update by keyword"}  # a store's update is another than a dict's
    for name, seen in answers.items():
        assert seen == ({False} if name in always else {True} if name in never else {False, True}), name
    kinds = {"KeyError", "KeyNotFoundError", "TypeError", "TypeMismatchError", "ValueError", "ZeroDivisionError"}
    assert errors == kinds

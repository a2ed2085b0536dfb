"""The store, both of them: one behaviour, one wording."""

from __future__ import annotations

import copy
import enum
import gc
import importlib.util
import os
import pickle
import threading
import weakref
from collections.abc import Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cano import KeyNotFoundError, SplitResult, TypeMismatchError
from cano.results import ListColumns
from cano.store import MemoryStore


def native_store() -> type[MemoryStore]:
    # Not through the engine fixture: the store is there and to be tested as soon as the module is built.
    if importlib.util.find_spec("cano._core") is None and os.environ.get("CANO_ALLOW_MISSING_NATIVE") == "1":
        pytest.skip("the native module is not built here")
    store: type[MemoryStore] = importlib.import_module("cano._core").MemoryStore
    return store


@pytest.fixture(params=["python", "native"])
def new_store(request: pytest.FixtureRequest) -> type[MemoryStore]:
    return MemoryStore if request.param == "python" else native_store()


@pytest.fixture(params=["whole", "scope", "scope of a scope"])
def store(request: pytest.FixtureRequest, new_store: type[MemoryStore]) -> MemoryStore:
    """A store and a scope of one behave alike; what else is in the parent does not show."""
    whole = new_store()
    if request.param == "whole":
        return whole
    whole["other"] = 1
    whole["a"] = 2
    whole["ab/x"] = 3
    scope = whole.scoped("a")
    if request.param == "scope":
        return scope
    scope["x"] = 4
    return scope.scoped("b")


class Key(enum.StrEnum):
    NAME = "name"


class Opaque:
    pass


def test_values_are_kept_by_reference(store: MemoryStore) -> None:
    value = object()
    store.put("k", value)
    assert store.get("k") is value
    assert store["k"] is value
    store.put("k", None)
    assert store.get("k") is None


def test_a_missing_key(store: MemoryStore) -> None:
    for look in (store.get, store.remove, store.pop, store.__getitem__, store.__delitem__):
        with pytest.raises(KeyNotFoundError, match="k'") as caught:
            look("k")
        assert caught.value.key.endswith("k")
    with pytest.raises(KeyError):
        store.update("k", lambda value: value)


def test_defaults(store: MemoryStore) -> None:
    assert store.get("k", default=None) is None
    assert store.get("k", default=5) == 5
    assert store.get("k", int, default="not checked") == "not checked"
    store.put("k", 1)
    assert store.get("k", default=5) == 1
    with pytest.raises(TypeMismatchError):
        store.get("k", str, default="x")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, int),
        (True, bool),
        (1, int | str),
        ("x", int | str),
        (None, int | None),
        (None, type(None)),
        ([1], list),
        (["no look inside"], list[int]),
        (SplitResult(ListColumns(0, [], [])), SplitResult[int]),
        ({}, dict[str, int]),
        (1, (int, str)),
        (1, object),
        (True, object),
        ({}, MutableMapping),
        (Key.NAME, str),
    ],
)
def test_a_value_of_the_type_asked_for(store: MemoryStore, value: object, wanted: Any) -> None:
    store.put("k", value)
    assert store.get("k", wanted) is value


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1, str),
        ("x", int),
        (None, int),
        (True, int),
        (True, int | str),
        (1, bool),
        (1.0, int),
        ((1,), list[int]),
        (b"x", (int, str)),
        ({}, MutableMapping | None),
    ][:-1],
)
def test_a_value_of_another_type(store: MemoryStore, value: object, wanted: Any) -> None:
    store.put("k", value)
    with pytest.raises(TypeMismatchError, match="k'") as caught:
        store.get("k", wanted)
    assert (caught.value.expected, caught.value.found) == (wanted, type(value))
    assert store.get("k") is value


@pytest.mark.parametrize("wanted", [None, "int", 5, [int]])
def test_what_is_no_type_is_refused(store: MemoryStore, wanted: Any) -> None:
    store.put("k", 1)
    with pytest.raises(TypeError, match=r"get\(key, default=\.\.\.\)"):
        store.get("k", wanted)


def test_a_store_matches_a_mapping_pattern(store: MemoryStore) -> None:
    store.put("kind", "order")
    store.put("total", 9.5)
    match store:
        case {"kind": "order", "missing": _} | {1: _}:
            pytest.fail("there is no such key")
        case {"kind": "invoice"}:
            pytest.fail("it is of another kind")
        case {"kind": "order", "total": float(total)}:
            assert total == 9.5
        case _:
            pytest.fail("both keys are there")


def test_an_absence_marked_by_a_bare_object_is_a_default(store: MemoryStore) -> None:
    mark = object()
    store.put("k", 1)
    assert store.get("k", mark) == 1
    assert store.get("missing", mark) is mark
    assert store.get("missing", mark, default=None) is None
    with pytest.raises(TypeError, match=r"get\(key, default=\.\.\.\)"):
        store.get("k", mark, default=None)


@pytest.mark.parametrize("key", [1, None, b"k", ("k",), 1.5])
def test_keys_are_strings(store: MemoryStore, key: Any) -> None:
    for use in (store.get, store.remove, store.pop, store.setdefault, store.__getitem__, store.__delitem__):
        with pytest.raises(TypeError, match="keys are strings; got"):
            use(key)
    for use_with_value in (store.put, store.append, store.__setitem__):
        with pytest.raises(TypeError, match="keys are strings; got"):
            use_with_value(key, 1)
    with pytest.raises(TypeError, match="keys are strings; got"):
        store.update(key, lambda value: value)
    assert key not in store
    assert not store.contains_key(key)
    assert store.is_empty()


def test_an_enum_of_strings_is_its_string(store: MemoryStore) -> None:
    store.put(Key.NAME, 1)
    assert store.get("name") == 1
    assert Key.NAME in store
    assert [type(key) for key in store] == [str]


def test_remove_gives_the_value(store: MemoryStore) -> None:
    store.put("k", 1)
    assert store.remove("k") == 1
    assert not store.contains_key("k")


def test_append(store: MemoryStore) -> None:
    store.append("k", 1)
    store.append("k", 2)
    assert store.get("k") == [1, 2]
    mine: list[int] = []
    store.put("k", mine)
    store.append("k", 3)
    assert mine == [3]
    store.put("k", (1,))
    with pytest.raises(TypeMismatchError) as caught:
        store.append("k", 2)
    assert (caught.value.expected, caught.value.found) == (list, tuple)
    assert store.get("k") == (1,)


def test_append_to_a_list_of_its_own_kind(store: MemoryStore) -> None:
    class Doubling(list[int]):
        def append(self, item: int) -> None:
            super().append(2 * item)

    store.put("k", Doubling())
    store.append("k", 4)
    assert store.get("k") == [8]


def test_update(store: MemoryStore) -> None:
    store.put("k", 1)
    assert store.update("k", lambda value: value + 1) == 2
    assert store.get("k") == 2


def test_a_failed_update_leaves_the_value(store: MemoryStore) -> None:
    store.put("k", 1)
    with pytest.raises(ZeroDivisionError):
        store.update("k", lambda value: value // 0)
    assert store.get("k") == 1
    store.put("k", 2)  # nothing is locked any more
    assert store.update("k", lambda value: value + 1) == 3


def test_update_may_use_the_store(store: MemoryStore) -> None:
    store.put("k", 1)

    def both(value: int) -> int:
        store.put("other", value)
        assert store.update("other", lambda other: other + 1) == 2
        store.put("k", "overwritten")
        return value + 10

    assert store.update("k", both) == 11
    assert store.get("k") == 11
    assert store.get("other") == 2


def test_update_may_remove_its_own_key(store: MemoryStore) -> None:
    store.put("k", 1)
    assert store.update("k", lambda value: store.remove("k") + 1) == 2
    assert store.get("k") == 2


@pytest.mark.parametrize("bad", [None, 5, "x"])
def test_update_needs_a_function(store: MemoryStore, bad: Any) -> None:
    store.put("k", 1)
    with pytest.raises(TypeError, match="function that takes the old value"):
        store.update("k", bad)


def test_update_needs_a_plain_function(store: MemoryStore) -> None:
    async def later(value: int) -> int:
        return value

    store.put("k", 1)
    with pytest.raises(TypeError, match="async"):
        store.update("k", later)
    assert store.get("k") == 1


def test_counting_and_clearing(store: MemoryStore) -> None:
    assert store.is_empty()
    assert len(store) == store.len() == 0
    assert not store
    store.put("x", 1)
    store.put("y", 2)
    assert len(store) == store.len() == 2
    assert not store.is_empty()
    assert store
    store.clear()
    assert store.is_empty()
    store.put("z", 3)
    assert store.keys() == ["z"]


def test_keys_keep_the_order_of_their_first_put(store: MemoryStore) -> None:
    for key in ("b", "a", "c"):
        store[key] = key.upper()
    store["b"] = "again"
    assert store.keys() == list(store) == ["b", "a", "c"]
    assert store.values() == ["again", "A", "C"]
    assert store.items() == [("b", "again"), ("a", "A"), ("c", "C")]
    assert dict(store) == store.snapshot() == {"b": "again", "a": "A", "c": "C"}
    assert {**store} == store.snapshot()  # type: ignore[dict-item]


def test_a_snapshot_is_a_copy_of_one_moment(store: MemoryStore) -> None:
    value: list[int] = []
    store.put("k", value)
    copied = store.snapshot()
    store.put("later", 1)
    copied["mine"] = 2
    assert list(copied) == ["k", "mine"]
    assert copied["k"] is value
    assert "mine" not in store


def test_a_store_may_change_while_it_is_walked(store: MemoryStore) -> None:
    for key in ("a", "b"):
        store[key] = 1
    for key in store:
        del store[key]
        store[key + "!"] = 2
    assert store.keys() == ["a!", "b!"]


def test_the_rest_of_the_mapping_protocol(store: MemoryStore) -> None:
    assert isinstance(store, MutableMapping)
    store["k"] = 1
    assert "k" in store
    del store["k"]
    assert "k" not in store
    assert store.setdefault("k", 5) == 5
    assert store.setdefault("k", 6) == 5
    assert store.setdefault("none") is None
    assert store.pop("k") == 5
    assert store.pop("k", 7) == 7
    assert store.popitem() == ("none", None)
    with pytest.raises(KeyError):
        store.popitem()


def test_a_store_is_equal_to_itself_alone(new_store: type[MemoryStore]) -> None:
    one, other = new_store(), new_store()
    assert one == one
    assert one != other
    assert len({one, other}) == 2


def test_it_says_its_keys_and_never_its_values(new_store: type[MemoryStore]) -> None:
    store = new_store()
    assert repr(store) == "<MemoryStore 0 keys>"
    store["a"] = "canary-9b2e"
    assert repr(store) == "<MemoryStore 1 key: 'a'>"
    for key in "bcdef":
        store[key] = "canary-9b2e"
    assert repr(store) == "<MemoryStore 6 keys: 'a', 'b', 'c', 'd', 'e', …>"
    assert repr(store.scoped("x/y")) == "<ScopedStore 'x/y' 0 keys>"
    store["k" * 100] = 1
    for key in "abcdef":
        del store[key]
    assert repr(store) == f"<MemoryStore 1 key: '{'k' * 38}…>"


def test_it_cannot_be_pickled_or_copied(store: MemoryStore) -> None:
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickle"):
            attempt(store)


# --- scopes ---


def test_a_scope_is_a_view(new_store: type[MemoryStore]) -> None:
    store = new_store()
    scope = store.scoped("a")
    scope.put("x", 1)
    assert store.keys() == ["a/x"]
    store.put("a/y", 2)
    assert scope.snapshot() == {"x": 1, "y": 2}
    assert store.scoped("a").get("y") == 2
    assert scope.scoped("b").is_empty()
    scope.scoped("b")["z"] = 3
    assert store.get("a/b/z") == 3
    assert scope.get("b/z") == 3
    scope.clear()
    assert store.is_empty()


def test_a_scope_leaves_its_neighbours_alone(new_store: type[MemoryStore]) -> None:
    store = new_store()
    for key in ("a", "ab/x", "a/x", "b"):
        store[key] = key
    scope = store.scoped("a")
    assert scope.items() == [("x", "a/x")]
    scope.clear()
    assert store.keys() == ["a", "ab/x", "b"]


def test_an_error_in_a_scope_names_the_whole_key(new_store: type[MemoryStore]) -> None:
    scope = new_store().scoped("a").scoped("b")
    with pytest.raises(KeyNotFoundError) as missing:
        scope.get("x")
    assert missing.value.key == "a/b/x"
    scope.put("x", 1)
    with pytest.raises(TypeMismatchError) as wrong:
        scope.get("x", str)
    assert wrong.value.key == "a/b/x"


@pytest.mark.alone
def test_a_scope_keeps_the_values_alive(new_store: type[MemoryStore]) -> None:
    scope = new_store().scoped("a")
    gc.collect()
    scope["x"] = 1
    assert scope["x"] == 1


@pytest.mark.parametrize(("prefix", "error"), [("", ValueError), (None, TypeError), (3, TypeError)])
def test_bad_prefixes_are_refused(store: MemoryStore, prefix: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="prefix"):
        store.scoped(prefix)


def test_a_scope_is_made_by_a_store(store: MemoryStore) -> None:
    scope = store.scoped("a")
    assert isinstance(scope, type(store.scoped("b")))
    with pytest.raises(TypeError):
        type(scope)()


# --- threads ---


def at_once(workers: int, work: Callable[[int], object]) -> None:
    """Run `work(number)` on that many threads, which begin together."""
    barrier = threading.Barrier(workers)

    def begin(number: int) -> None:
        barrier.wait(200)
        work(number)

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(begin, number) for number in range(workers)]:
            done.result(30)


@pytest.mark.fault("F10")
def test_updates_are_atomic(store: MemoryStore) -> None:
    store.put("count", 0)

    def add(_: int) -> None:
        for _ in range(500):
            store.update("count", lambda value: value + 1)

    at_once(8, add)
    assert store.get("count") == 4000


@pytest.mark.fault("F10")
def test_appends_are_atomic_also_the_first(store: MemoryStore) -> None:
    def add(number: int) -> None:
        for turn in range(200):
            store.append(f"list {turn}", number)

    at_once(8, add)
    assert all(sorted(store.get(f"list {turn}")) == list(range(8)) for turn in range(200))


@pytest.mark.fault("F10")
def test_setdefault_has_one_winner(store: MemoryStore) -> None:
    seen: list[object] = []

    def claim(number: int) -> None:
        seen.extend(store.setdefault(f"slot {turn}", (turn, number)) for turn in range(200))

    at_once(8, claim)
    assert len(set(seen)) == 200


@pytest.mark.fault("F10")
def test_pop_has_one_winner(store: MemoryStore) -> None:
    for turn in range(400):
        store.put(f"slot {turn}", turn)
    taken: list[object] = []

    def take(_: int) -> None:
        taken.extend(value for turn in range(400) if (value := store.pop(f"slot {turn}", None)) is not None)

    at_once(8, take)
    assert sorted(taken) == list(range(400))  # type: ignore[type-var]
    assert store.is_empty()


@pytest.mark.fault("F10")
def test_readers_do_not_wait_for_an_update(store: MemoryStore) -> None:
    store.put("k", "old")
    inside, go_on = threading.Event(), threading.Event()

    def slow(value: str) -> str:
        inside.set()
        assert go_on.wait(200)
        return "new"

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(store.update, "k", slow)
        assert inside.wait(200)
        assert store.get("k") == "old"
        assert store.snapshot()["k"] == "old"
        go_on.set()
        assert done.result(10) == "new"
    assert store.get("k") == "new"


@pytest.mark.fault("F10")
def test_writers_wait_for_an_update(store: MemoryStore) -> None:
    store.put("k", 1)
    inside, go_on = threading.Event(), threading.Event()

    def slow(value: int) -> int:
        inside.set()
        assert go_on.wait(200)
        return value + 1

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.update, "k", slow)
        assert inside.wait(200)
        second = pool.submit(store.update, "k", lambda value: value * 10)
        go_on.set()
        assert first.result(10) == 2
        assert second.result(10) == 20


# --- lifetime ---


def test_a_removed_value_is_let_go(store: MemoryStore) -> None:
    for let_go in (store.remove, store.clear, lambda key: store.put(key, None), store.pop):
        value = Opaque()
        gone = weakref.ref(value)
        store.put("k", value)
        del value
        let_go("k") if let_go != store.clear else store.clear()
        assert gone() is None


def test_a_finaliser_may_use_the_store(store: MemoryStore) -> None:
    class Busy:
        def __del__(self) -> None:
            store.put("said goodbye", True)

    store.put("k", Busy())
    store.put("k", None)
    assert store.remove("said goodbye")
    store.put("k", Busy())
    store.update("k", lambda value: None)
    assert store.remove("said goodbye")
    store.put("k", Busy())
    store.clear()
    assert store.keys() == ["said goodbye"]


@pytest.mark.alone
def test_a_store_in_a_cycle_is_collected(new_store: type[MemoryStore]) -> None:
    store = new_store()
    store.put("self", store)
    store.put("scope", store.scoped("a"))
    value = Opaque()
    gone = weakref.ref(value)
    store.put("k", value)
    del store, value
    gc.collect()
    assert gone() is None


def test_a_store_can_be_subclassed(new_store: type[MemoryStore]) -> None:
    class Mine(new_store):  # type: ignore[misc, valid-type]
        def greeting(self) -> str:
            return f"hello {self.get('name')}"

    store = Mine()
    store.put("name", "you")
    assert store.greeting() == "hello you"

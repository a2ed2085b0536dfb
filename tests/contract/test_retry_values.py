"""Retry policies as values: what they refuse, what they match, what the engines read from them."""

from __future__ import annotations

import asyncio
import copy
import math
import pickle
from datetime import timedelta

import pytest

from cano import BranchCancelledError, ConfigurationError, Retry, RunCancelledError, TaskError

NAN, INF = float("nan"), float("inf")


def is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError)


def test_none_is_one_attempt() -> None:
    assert Retry.none() == Retry.none()
    assert Retry.none().retries == 0
    assert Retry.none().plan == (0, 0, 0.0, 1.0, INF, 0.0, None)
    assert repr(Retry.none()) == "Retry.none()"


def test_fixed() -> None:
    retry = Retry.fixed(3, timedelta(milliseconds=500), retry_on=OSError, max_elapsed=9)
    assert retry.plan == (1, 3, 0.5, 1.0, INF, 0.0, 9.0)
    assert repr(retry) == "Retry.fixed(3, delay=0.5, retry_on=OSError, max_elapsed=9)"


def test_exponential_defaults() -> None:
    assert Retry.exponential(4).plan == (2, 4, 0.1, 2.0, 30.0, 0.1, None)
    assert repr(Retry.exponential(4)) == "Retry.exponential(4, base=0.1, factor=2, max_delay=30, jitter=0.1)"


@pytest.mark.parametrize("no_limit", [None, INF])
def test_a_delay_without_a_limit(no_limit: float | None) -> None:
    assert math.isinf(Retry.exponential(4, max_delay=no_limit).max_delay)
    assert "max_delay=None" in repr(Retry.exponential(4, max_delay=no_limit))


def test_delays_may_be_zero() -> None:
    assert Retry.fixed(2, 0).delay == 0.0
    assert Retry.exponential(2, base=0).delay == 0.0


@pytest.mark.parametrize(
    "retry",
    [
        Retry.none(),
        Retry.fixed(3, 0.5),
        Retry.exponential(4, retry_on=(OSError, ValueError), give_up_on=is_timeout),
    ],
)
def test_a_policy_is_a_value(retry: Retry) -> None:
    for twin in (pickle.loads(pickle.dumps(retry)), copy.copy(retry), copy.deepcopy(retry)):
        assert twin == retry
        assert hash(twin) == hash(retry)
    assert retry != Retry.fixed(3, 0.25)
    with pytest.raises(AttributeError, match="immutable"):
        retry.retries = 5  # type: ignore[misc]


def test_it_is_made_by_its_factories() -> None:
    with pytest.raises(ConfigurationError, match=r"Retry\.fixed"):
        Retry(3)


# --- refused ---


@pytest.mark.parametrize("bad", [-1, True, 1.0, NAN, "3", None])
def test_bad_retries_are_refused(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="retries"):
        Retry.fixed(bad, 1)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="retries"):
        Retry.exponential(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [-1, -0.001, True, NAN, INF, "1", None])
def test_bad_delays_are_refused(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="delay"):
        Retry.fixed(2, bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="base"):
        Retry.exponential(2, base=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("factor", 0.5),
        ("factor", -2),
        ("factor", NAN),
        ("factor", INF),
        ("factor", True),
        ("factor", 10**400),
        ("max_delay", 0),
        ("max_delay", -1),
        ("max_delay", NAN),
        ("max_delay", False),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", NAN),
        ("jitter", True),
        ("max_elapsed", 0),
        ("max_elapsed", -1),
        ("max_elapsed", NAN),
        ("max_elapsed", INF),
        ("retry_on", 3),
        ("retry_on", int),
        ("retry_on", ()),
        ("retry_on", (OSError, "x")),
        ("retry_on", "OSError"),
        ("give_up_on", OSError()),
    ],
)
def test_bad_settings_are_refused(name: str, bad: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Retry.exponential(2, **{name: bad})  # type: ignore[arg-type]


# --- which errors ---


@pytest.mark.parametrize(
    ("retry_on", "give_up_on", "error", "wanted"),
    [
        (None, None, ValueError(), True),
        (OSError, None, ValueError(), False),
        (OSError, None, FileNotFoundError(), True),
        ((OSError, ValueError), None, ValueError(), True),
        ([OSError, ValueError], None, ValueError(), True),
        ({OSError, ValueError}, None, TypeError(), False),
        (is_timeout, None, TimeoutError(), True),
        (is_timeout, None, OSError(), False),
        (None, ValueError, ValueError(), False),
        (None, ValueError, KeyError(), True),
        (OSError, FileNotFoundError, FileNotFoundError(), False),
        (OSError, FileNotFoundError, PermissionError(), True),
        (OSError, is_timeout, TimeoutError(), False),
    ],
)
def test_which_errors_are_wanted(retry_on: object, give_up_on: object, error: Exception, wanted: bool) -> None:
    retry = Retry.fixed(1, 0, retry_on=retry_on, give_up_on=give_up_on)  # type: ignore[arg-type]
    assert retry.wants(error) is wanted


@pytest.mark.parametrize(
    "error",
    [
        ConfigurationError("no"),
        asyncio.CancelledError(),
        BranchCancelledError("no"),
        RunCancelledError(),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("retry_on", [None, BaseException, lambda error: True])
def test_what_is_never_retried(error: BaseException, retry_on: object) -> None:
    assert not Retry.fixed(1, 0, retry_on=retry_on).wants(error)  # type: ignore[arg-type]


class Odd(BaseException):
    pass


def test_what_is_no_exception_is_retried_only_where_it_is_named() -> None:
    assert not Retry.fixed(1, 0).wants(Odd())
    assert not Retry.fixed(1, 0, retry_on=lambda error: True).wants(Odd())
    assert Retry.fixed(1, 0, retry_on=Odd).wants(Odd())


def test_a_set_of_classes_has_one_order() -> None:
    assert Retry.fixed(1, 0, retry_on={OSError, ValueError}) == Retry.fixed(1, 0, retry_on={ValueError, OSError})  # type: ignore[arg-type]


def test_an_error_of_the_function_comes_through() -> None:
    def broken(error: BaseException) -> bool:
        raise TaskError("broken")

    with pytest.raises(TaskError, match="broken"):
        Retry.fixed(1, 0, retry_on=broken).wants(ValueError())


@pytest.mark.parametrize("what", ["retry_on", "give_up_on"])
def test_an_async_filter_is_refused(what: str) -> None:
    async def wanted(error: BaseException) -> bool:
        return False

    with pytest.raises(ConfigurationError, match=f"{what} must be a plain function"):
        Retry.fixed(1, 0, **{what: wanted})  # type: ignore[arg-type]

"""Join strategies and their settings: values that refuse nonsense where it is written."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from decimal import Decimal

import pytest

from cano import ConfigurationError, JoinConfig, JoinProgress, JoinStrategy, JoinVerdict

NAN, INF = float("nan"), float("inf")


def decide(progress: JoinProgress) -> JoinVerdict:
    return JoinVerdict.PROCEED if progress.succeeded else JoinVerdict.WAIT


STRATEGIES = [
    (JoinStrategy.All, "all", None, "JoinStrategy.All"),
    (JoinStrategy.Any, "any", None, "JoinStrategy.Any"),
    (JoinStrategy.Quorum(3), "quorum", 3, "JoinStrategy.Quorum(3)"),
    (JoinStrategy.Percentage(0.75), "percentage", 0.75, "JoinStrategy.Percentage(0.75)"),
    (JoinStrategy.PartialResults(0), "partial_results", 0, "JoinStrategy.PartialResults(0)"),
    (JoinStrategy.PartialTimeout, "partial_timeout", None, "JoinStrategy.PartialTimeout"),
    (JoinStrategy.Custom(decide), "custom", None, "JoinStrategy.Custom(decide)"),
]
IDS = [kind for _, kind, _, _ in STRATEGIES]


@pytest.mark.parametrize(("strategy", "kind", "threshold", "shown"), STRATEGIES, ids=IDS)
def test_a_strategy_is_a_value(strategy: JoinStrategy, kind: str, threshold: float | None, shown: str) -> None:
    assert (strategy.kind, strategy.threshold) == (kind, threshold)
    assert repr(strategy) == shown
    for twin in (pickle.loads(pickle.dumps(strategy)), copy.copy(strategy), copy.deepcopy(strategy)):
        assert twin == strategy
        assert hash(twin) == hash(strategy)
    assert [strategy == other for other, *_ in STRATEGIES].count(True) == 1


def test_strategies_without_a_number_are_single_objects() -> None:
    for strategy in (JoinStrategy.All, JoinStrategy.Any, JoinStrategy.PartialTimeout):
        assert pickle.loads(pickle.dumps(strategy)) is strategy
        assert copy.deepcopy(strategy) is strategy


def test_strategies_differ_by_their_number() -> None:
    assert JoinStrategy.Quorum(2) == JoinStrategy.Quorum(2) != JoinStrategy.Quorum(3)
    assert JoinStrategy.Quorum(2) != JoinStrategy.PartialResults(2)


def test_a_strategy_can_be_matched() -> None:
    match JoinStrategy.Quorum(3):
        case JoinStrategy("quorum", need):
            assert need == 3
        case _:
            pytest.fail("no match")


def test_a_strategy_is_immutable() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        JoinStrategy.All.kind = "any"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        del JoinStrategy.All.kind


def test_a_strategy_is_not_called() -> None:
    with pytest.raises(ConfigurationError, match=r"JoinStrategy\.All"):
        JoinStrategy("all")


@pytest.mark.parametrize("make", [JoinStrategy.Quorum, JoinStrategy.PartialResults])
@pytest.mark.parametrize("bad", [True, -1, 1.0, NAN, "2", None, 1 << 70])
def test_bad_counts_are_refused(make: object, bad: object) -> None:
    with pytest.raises(ConfigurationError, match="must be"):
        make(bad)  # type: ignore[operator]


@pytest.mark.parametrize("bad", [True, 0, 0.0, -0.5, 1.0000001, NAN, INF, "0.5", None, Decimal("0.5")])
def test_bad_shares_are_refused(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="more than 0 and at most 1"):
        JoinStrategy.Percentage(bad)  # type: ignore[arg-type]


def test_a_percent_number_gets_a_hint() -> None:
    with pytest.raises(ConfigurationError, match=r"for 75 percent write 0\.75"):
        JoinStrategy.Percentage(75)


def test_the_smallest_and_the_whole_share() -> None:
    assert JoinStrategy.Percentage(1).threshold == 1.0
    assert JoinStrategy.Percentage(5e-324).threshold == 5e-324


async def decide_later(progress: JoinProgress) -> JoinVerdict:
    return JoinVerdict.PROCEED


@pytest.mark.parametrize("bad", [None, 3, "proceed", JoinVerdict, decide_later])
def test_a_custom_join_needs_a_plain_function(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="function"):
        JoinStrategy.Custom(bad)  # type: ignore[arg-type]


def test_verdicts_are_their_words() -> None:
    assert JoinVerdict.PROCEED == "proceed"
    assert JoinVerdict("fail") is JoinVerdict.FAIL
    assert f"{JoinVerdict.WAIT}" == "wait"


def test_progress_is_a_value() -> None:
    progress = JoinProgress(2, 1, None, None, 0.5)
    assert repr(progress) == "JoinProgress(succeeded=2, failed=1, pending=None, total=None, elapsed=0.5)"
    assert pickle.loads(pickle.dumps(progress)) == progress
    match progress:
        case JoinProgress(ok, bad, pending, total, elapsed):
            assert (ok, bad, pending, total, elapsed) == (2, 1, None, None, 0.5)
        case _:
            pytest.fail("no match")


# --- JoinConfig ---


def test_defaults() -> None:
    config = JoinConfig(JoinStrategy.All, "next")
    assert (config.strategy, config.join_state) == (JoinStrategy.All, "next")
    assert (config.timeout, config.bulkhead, config.hedge_delay) == (None, None, None)
    assert (config.store_partial_results, config.fail_fast, config.min_successes) == (False, True, 0)
    assert repr(config) == "JoinConfig(JoinStrategy.All, 'next')"


def test_every_setting_is_kept() -> None:
    config = JoinConfig(
        JoinStrategy.Any,
        "next",
        timeout=timedelta(minutes=1),
        bulkhead=4,
        store_partial_results=True,
        fail_fast=False,
        hedge_delay=0.25,
    )
    assert (config.timeout, config.bulkhead, config.store_partial_results) == (60.0, 4, True)
    assert (config.fail_fast, config.hedge_delay) == (False, 0.25)
    assert pickle.loads(pickle.dumps(config)) == config
    assert hash(copy.deepcopy(config)) == hash(config)
    for part in ("timeout=60.0", "bulkhead=4", "store_partial_results=True", "fail_fast=False", "hedge_delay=0.25"):
        assert part in repr(config)


def test_copies_change_one_thing() -> None:
    config = JoinConfig(JoinStrategy.All, "next", bulkhead=2)
    changed = config.with_timeout(5).with_bulkhead(8).with_join_state("other").with_store_partial_results()
    assert changed == JoinConfig(JoinStrategy.All, "other", timeout=5, bulkhead=8, store_partial_results=True)
    assert config == JoinConfig(JoinStrategy.All, "next", bulkhead=2)
    assert changed.with_timeout(None).with_bulkhead(None).with_store_partial_results(False) == JoinConfig(
        JoinStrategy.All, "other"
    )


def test_it_is_immutable() -> None:
    config = JoinConfig(JoinStrategy.All, "next")
    with pytest.raises(AttributeError, match="with_"):
        config.timeout = 5.0  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        config.strategy_ = 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["timeout", "hedge_delay"])
@pytest.mark.parametrize("bad", [0, 0.0, -1, NAN, INF, True, "5", timedelta(0), timedelta(seconds=-1), 10**400])
def test_bad_durations_are_refused(name: str, bad: object) -> None:
    with pytest.raises(ConfigurationError, match=name):
        JoinConfig(JoinStrategy.Any, "next", **{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [0, -2.5, NAN, False])
def test_a_copy_is_checked_like_the_first(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        JoinConfig(JoinStrategy.All, "next").with_timeout(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [True, 2.0, "2", NAN])
def test_bad_bulkheads_are_refused(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="bulkhead"):
        JoinConfig(JoinStrategy.All, "next", bulkhead=bad)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="bulkhead"):
        JoinConfig(JoinStrategy.All, "next").with_bulkhead(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fail_fast", "store_partial_results"])
@pytest.mark.parametrize("bad", [1, 0, None, "yes"])
def test_switches_are_bools(name: str, bad: object) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} must be True or False"):
        JoinConfig(JoinStrategy.All, "next", **{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [None, [], {}])
def test_a_join_state_is_a_state(bad: object) -> None:
    with pytest.raises(ConfigurationError, match="join_state"):
        JoinConfig(JoinStrategy.All, bad)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="join_state"):
        JoinConfig(JoinStrategy.All, "next").with_join_state(bad)  # type: ignore[type-var]


@pytest.mark.parametrize("bad", ["all", None, 3, JoinStrategy])
def test_a_strategy_is_a_strategy(bad: object) -> None:
    with pytest.raises(ConfigurationError, match=r"JoinStrategy\.All"):
        JoinConfig(bad, "next")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Quorum", "Percentage", "PartialResults", "Custom"])
def test_a_forgotten_argument_gets_a_hint(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} needs its argument"):
        JoinConfig(getattr(JoinStrategy, name), "next")


def test_settings_that_contradict_the_strategy_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="hedge_delay works only with"):
        JoinConfig(JoinStrategy.All, "next", hedge_delay=1)
    with pytest.raises(ConfigurationError, match="min_successes works only with"):
        JoinConfig(JoinStrategy.All, "next", min_successes=1)
    assert JoinConfig(JoinStrategy.PartialTimeout, "next", timeout=1, min_successes=2).min_successes == 2


# --- what only shows beside the branches ---


def test_what_validate_reports() -> None:
    assert JoinConfig(JoinStrategy.Quorum(3), "next").problems(3) == []
    assert JoinConfig(JoinStrategy.Quorum(4), "next").problems(None) == []
    (problem,) = JoinConfig(JoinStrategy.Quorum(4), "next").problems(3)
    assert "Quorum(4)" in problem
    (problem,) = JoinConfig(JoinStrategy.PartialResults(1), "next").problems(0)
    assert "PartialResults(1)" in problem
    (problem,) = JoinConfig(JoinStrategy.PartialTimeout, "next").problems(3)
    assert "timeout" in problem
    assert JoinConfig(JoinStrategy.PartialTimeout, "next", timeout=1).problems(3) == []
    for bulkhead in (0, -1):
        (problem,) = JoinConfig(JoinStrategy.All, "next", bulkhead=bulkhead).problems(3)
        assert "bulkhead" in problem


def test_every_problem_is_reported_at_once() -> None:
    config = JoinConfig(JoinStrategy.PartialTimeout, "next", bulkhead=0, min_successes=9)
    assert len(config.problems(3)) == 3


def test_a_state_whose_repr_raises_can_be_shown() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise OSError("no words")

    assert "Mute whose repr raised OSError" in repr(JoinConfig(JoinStrategy.All, Mute()))

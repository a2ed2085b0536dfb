"""What splits and runs answer with: rows made on demand from columns."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from cano import RunReport, SplitResult, SplitTaskResult, StateVisit
from cano.results import ListColumns

FAILURE = ValueError("x")


def a_result() -> SplitResult[str]:
    """Of 6 branches 4, 0 and 2 succeeded in this order, 1 failed after a retry, 3 and 5 were cancelled."""
    return SplitResult(
        ListColumns(
            6, ["a", None, "c", None, "e", None], [4, 0, 2], [1], {1: FAILURE}, {1: 2, 4: 3}, [0.1, 0.2, 0.3, 0, 0.5, 0]
        )
    )


def test_successes_are_in_order_of_completion() -> None:
    assert [(row.task_index, row.result, row.attempts, row.duration) for row in a_result().successes] == [
        (4, "e", 3, 0.5),
        (0, "a", 1, 0.1),
        (2, "c", 1, 0.3),
    ]
    assert all(row.error is None for row in a_result().successes)


def test_errors_hold_the_branches_own_exceptions() -> None:
    (row,) = a_result().errors
    assert (row.task_index, row.result, row.error, row.attempts, row.duration) == (1, None, FAILURE, 2, 0.2)


def test_the_rest_is_cancelled() -> None:
    result = a_result()
    assert result.cancelled == (3, 5)
    assert result.completed_count == 4
    assert result.total_count == 6
    assert len(result.successes) + len(result.errors) + len(result.cancelled) == result.total_count


def test_outputs_are_in_index_order() -> None:
    result = a_result()
    assert result.outputs() == ["a", "c", "e"]
    result.outputs().clear()
    assert result.outputs() == ["a", "c", "e"]


def test_outputs_of_a_full_result_are_a_copy() -> None:
    values: list[Any] = [1, None, 3]
    result = SplitResult[Any](ListColumns(3, values, [2, 1, 0]))
    assert result.outputs() == [1, None, 3]
    result.outputs().clear()
    assert result.outputs() == [1, None, 3]


def test_rows_are_made_once() -> None:
    result = a_result()
    assert result.successes is result.successes
    assert result.errors is result.errors
    assert result.cancelled is result.cancelled
    assert result.by_index(4) is result.successes[0]


def test_by_index() -> None:
    result = a_result()
    row = result.by_index(1)
    assert row is not None
    assert row.error is FAILURE
    assert result.by_index(3) is None
    for bad in (-1, 6):
        with pytest.raises(IndexError, match="0 to 5"):
            result.by_index(bad)
    with pytest.raises(IndexError, match="no branches"):
        SplitResult[Any](ListColumns(0, [], [])).by_index(0)


def test_an_empty_result() -> None:
    result = SplitResult[Any](ListColumns(0, [], []))
    assert (result.successes, result.errors, result.cancelled, result.outputs()) == ((), (), (), [])
    assert repr(result) == "<SplitResult 0 ok, 0 failed, 0 cancelled of 0>"


def test_equality_and_hash() -> None:
    assert a_result() == a_result()
    assert hash(a_result()) == hash(a_result())
    other = ListColumns(
        6, ["a", None, "c", None, "e", None], [0, 4, 2], [1], {1: FAILURE}, {1: 2, 4: 3}, [0.1, 0.2, 0.3, 0, 0.5, 0]
    )
    assert a_result() != SplitResult(other)
    assert a_result() != "something else"


def test_it_is_immutable() -> None:
    with pytest.raises(AttributeError):
        a_result().successes = ()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        a_result().other = ()  # type: ignore[attr-defined]


def test_it_is_pickled_with_its_rows() -> None:
    result = SplitResult[Any](
        ListColumns(4, [1, None, "c", None], [2, 0], [1], {1: FAILURE}, {2: 5}, [0.1, 0.2, 0.3, 0])
    )
    there = pickle.loads(pickle.dumps(result))
    assert there.successes == result.successes
    assert [(row.task_index, repr(row.error)) for row in there.errors] == [(1, repr(FAILURE))]
    assert (there.cancelled, there.outputs(), there.total_count) == ((3,), [1, "c"], 4)
    assert repr(there) == repr(result)
    assert hash(there) == hash(result)


def test_reprs_count_and_never_quote() -> None:
    canary = "canary-7c1f"
    result = SplitResult[Any](ListColumns(2, [canary, None], [0], [1], {1: ValueError(canary)}))
    assert repr(result) == "<SplitResult 1 ok, 1 failed, 0 cancelled of 2>"
    assert repr(result.successes[0]) == "<SplitTaskResult 0: ok, str, 0 s>"
    assert repr(result.errors[0]) == "<SplitTaskResult 1: failed with ValueError, 0 s>"
    assert "2 attempts" in repr(SplitTaskResult(0, 1, attempts=2))


def test_a_row_is_a_value() -> None:
    row = SplitTaskResult(3, "x", None, 2, 0.5)
    assert row == SplitTaskResult(3, "x", attempts=2, duration=0.5)
    assert row != SplitTaskResult(3, "y", attempts=2, duration=0.5)
    assert hash(row) == hash(pickle.loads(pickle.dumps(row)))
    match row:
        case SplitTaskResult(index, result, error):
            assert (index, result, error) == (3, "x", None)
        case _:
            pytest.fail("no match")
    with pytest.raises(AttributeError, match="immutable"):
        row.result = "z"  # type: ignore[misc]


def test_a_report_is_a_value() -> None:
    visits = [StateVisit("a", 0.5, 2), StateVisit("end", 0.0, 0)]
    report = RunReport("end", ["a", "end"], 0.75, visits, [a_result()])
    assert report.path == ("a", "end")
    assert report.visits == tuple(visits)
    assert report.splits == (a_result(),)
    assert report == RunReport("end", ("a", "end"), 0.75, visits, [a_result()])
    assert repr(report) == "<RunReport reached 'end' through 2 states, 1 split in 0.75 s>"
    assert repr(visits[0]) == "StateVisit(state='a', duration=0.5, attempts=2)"
    assert pickle.loads(pickle.dumps(visits)) == visits

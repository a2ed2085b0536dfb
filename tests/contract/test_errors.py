"""Errors: their bases, their facts, their messages, and how they travel to another process."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
import traceback

import pytest

import cano
from cano import (
    AttemptTimeoutError,
    BranchCancelledError,
    CanoError,
    ConfigurationError,
    EngineUnavailableError,
    InternalError,
    JoinError,
    KeyNotFoundError,
    RetryExhaustedError,
    RunCancelledError,
    SplitTimeoutError,
    StoreError,
    TaskError,
    TypeMismatchError,
    WorkflowError,
    WorkflowTimeoutError,
)
from cano.results import ListColumns, SplitResult


def a_result(*errors: BaseException, values: tuple[object, ...] = ()) -> SplitResult[object]:
    ok, bad = len(values), len(errors)
    return SplitResult(
        ListColumns(
            ok + bad + 1,
            [*values, *([None] * (bad + 1))],
            list(range(ok)),
            list(range(ok, ok + bad)),
            {ok + i: error for i, error in enumerate(errors)},
            durations=dict.fromkeys(range(ok + bad), 0.5),
        )
    )


WHERE = {"state": "s", "task": "load", "attempt": 2, "path": ("a", "s")}

EVERY_ERROR = [
    CanoError("no", **WHERE),
    ConfigurationError("no", **WHERE),
    ConfigurationError(["one", "two"], **WHERE),
    WorkflowError("no", **WHERE),
    TaskError("no", **WHERE),
    RetryExhaustedError("no", attempts=3, **WHERE),
    AttemptTimeoutError("no", limit=1.5, **WHERE),
    WorkflowTimeoutError("no", elapsed=2.5, limit=1.5, **WHERE),
    SplitTimeoutError("no", limit=1.5, result=a_result(ValueError("x"), values=(1,)), **WHERE),
    JoinError("no", [ValueError("x"), TypeError("y")], result=a_result(ValueError("x")), **WHERE),
    BranchCancelledError("no", **WHERE),
    RunCancelledError("no", reason="because", **WHERE),
    StoreError("no", **WHERE),
    KeyNotFoundError("key"),
    TypeMismatchError("key", int, str),
    EngineUnavailableError("no", **WHERE),
    InternalError("no", **WHERE),
]


def test_the_list_above_is_complete() -> None:
    public = {
        value
        for name in cano.__all__
        if inspect.isclass(value := getattr(cano, name)) and issubclass(value, BaseException)
    }
    assert {type(error) for error in EVERY_ERROR} == public


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (ConfigurationError, ValueError),
        (AttemptTimeoutError, TimeoutError),
        (WorkflowTimeoutError, TimeoutError),
        (SplitTimeoutError, TimeoutError),
        (JoinError, ExceptionGroup),
        (KeyNotFoundError, KeyError),
        (TypeMismatchError, TypeError),
        (EngineUnavailableError, RuntimeError),
        (InternalError, RuntimeError),
        (RetryExhaustedError, TaskError),
        (KeyNotFoundError, StoreError),
        (TypeMismatchError, StoreError),
    ],
)
def test_bases(error: type[CanoError], base: type[BaseException]) -> None:
    assert issubclass(error, CanoError)
    assert issubclass(error, base)


def test_a_split_timeout_is_no_group_and_no_join_error() -> None:
    assert not issubclass(SplitTimeoutError, (BaseExceptionGroup, JoinError))


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_every_error_has_a_category_of_one_word(error: CanoError) -> None:
    assert error.category.replace("_", "").isalpha()


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_every_error_travels_with_its_facts(error: CanoError) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        there = pickle.loads(pickle.dumps(error, protocol))
        assert type(there) is type(error)
        assert str(there) == str(error)
        assert repr(there) == repr(error)
        facts, expected = dict(vars(there)), dict(vars(error))
        # A branch's own exceptions are equal only to themselves.
        for result in (facts.pop("result", None), expected.pop("result", None)):
            assert result is None or [type(row.error) for row in result.errors] == [ValueError]
        assert facts == expected


def test_facts_default_to_nothing() -> None:
    error = CanoError("no")
    assert (error.state, error.task, error.attempt, error.path) == (None, None, None, ())


def test_facts_are_kept() -> None:
    error = TaskError("no", state="s", task="load", attempt=2, path=["a", "s"])
    assert (error.state, error.task, error.attempt, error.path) == ("s", "load", 2, ("a", "s"))
    assert str(error) == "no"
    assert error.args == ("no",)


def test_a_retry_error_says_how_many_attempts() -> None:
    assert RetryExhaustedError("no", attempts=4).attempt == 4


def test_several_problems_stand_on_lines_of_their_own() -> None:
    error = ConfigurationError(["no exit state", "no handler for s"])
    assert error.problems == ("no exit state", "no handler for s")
    assert str(error).splitlines() == ["2 problems:", "- no exit state", "- no handler for s"]


def test_one_problem_is_the_message() -> None:
    assert str(ConfigurationError("no exit state")) == str(ConfigurationError(["no exit state"])) == "no exit state"
    assert ConfigurationError("no exit state").problems == ("no exit state",)


def test_a_missing_key_is_told_in_a_sentence() -> None:
    error = KeyNotFoundError("name")
    assert "'name'" in str(error)
    assert not str(error).startswith("'")
    assert error.key == "name"


def test_a_wrong_type_names_key_expected_and_found() -> None:
    error = TypeMismatchError("name", int | None, str)
    assert (error.key, error.expected, error.found) == ("name", int | None, str)
    assert "'name'" in str(error)
    assert "int | None" in str(error)
    assert "type str" in str(error)


def test_a_timeout_is_caught_as_the_built_in() -> None:
    with pytest.raises(TimeoutError) as caught:
        raise SplitTimeoutError("late", limit=2.0)
    assert str(caught.value) == "late"
    assert caught.value.args == ("late",)


# --- JoinError as a group ---


def test_a_group_is_split_by_type_and_keeps_its_facts() -> None:
    result = a_result(ValueError("x"))
    error = JoinError("no", [ValueError("x"), TypeError("y")], result=result, state="s", path=("s",))
    matching, rest = error.split(ValueError)
    assert isinstance(matching, JoinError)
    assert isinstance(rest, JoinError)
    assert [type(one) for one in matching.exceptions] == [ValueError]
    assert [type(one) for one in rest.exceptions] == [TypeError]
    assert matching.result is rest.result is result
    assert (matching.state, matching.path, matching.message) == ("s", ("s",), "no")


def test_a_group_works_with_except_star() -> None:
    seen = []
    try:
        raise JoinError("no", [ValueError("x"), TypeError("y")])
    except* ValueError as group:
        seen.append(group)
    except* TypeError as group:
        seen.append(group)
    assert [type(group) for group in seen] == [JoinError, JoinError]


def test_an_exception_that_is_none_is_stood_for() -> None:
    class Odd(BaseException):
        pass

    odd = Odd("!")
    error = JoinError("no", [ValueError("x"), odd])
    assert isinstance(error.exceptions[0], ValueError)
    assert isinstance(error.exceptions[1], TaskError)
    assert error.exceptions[1].__cause__ is odd
    assert "Odd" in str(error.exceptions[1])


def test_notes_and_tracebacks_show() -> None:
    inner = ValueError("x")
    inner.add_note("branch 3")
    text = "".join(traceback.format_exception(JoinError("no", [inner])))
    assert "ValueError: x" in text
    assert "branch 3" in text


# --- pickling what cannot be pickled ---


class NeedsKeyword(Exception):  # noqa: N818 - the commonest exception that pickles and does not come back
    def __init__(self, *, why: str) -> None:
        super().__init__(why)


class Hostile(Exception):  # noqa: N818
    def __reduce__(self) -> str:
        raise OSError("no way out")

    def __str__(self) -> str:
        raise OSError("no words either")


def test_a_cause_does_not_travel() -> None:
    error = TaskError("no")
    error.__cause__ = NeedsKeyword(why="x")
    assert pickle.loads(pickle.dumps(error)).__cause__ is None


def test_notes_travel() -> None:
    error = TaskError("no")
    error.add_note("look here")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["look here"]


@pytest.mark.parametrize("branch_error", [NeedsKeyword(why="too hot"), Hostile()])
def test_a_branch_error_that_cannot_travel_is_described(branch_error: Exception) -> None:
    value = threading.Lock()
    result = a_result(branch_error, ValueError("fine"), values=(value, 7))
    error = JoinError("no", [branch_error, ValueError("fine")], result=result, state="s")
    there = pickle.loads(pickle.dumps(error))
    assert there.state == "s"
    assert [type(one) for one in there.exceptions] == [TaskError, ValueError]
    assert type(branch_error).__name__ in str(there.exceptions[0])
    assert [type(row.error) for row in there.result.errors] == [TaskError, ValueError]
    assert [row.task_index for row in there.result.errors] == [2, 3]
    assert there.result.outputs()[1] == 7
    assert "lock" in there.result.outputs()[0]
    assert there.result.cancelled == (4,)
    assert there.result.successes[0].duration == 0.5


def test_a_state_that_cannot_travel_is_described() -> None:
    there = pickle.loads(
        pickle.dumps(TaskError("no", state=threading.Lock(), task="load", path=("a", threading.Lock())))
    )
    assert there.task == "load"
    assert "lock" in there.state
    assert there.path[0] == "a"


def test_a_member_stays_the_object_of_the_result() -> None:
    branch_error = ValueError("x")
    there = pickle.loads(pickle.dumps(JoinError("no", [branch_error], result=a_result(branch_error))))
    assert there.exceptions[0] is there.result.errors[0].error


def test_an_error_that_holds_itself_travels() -> None:
    branch_error = ValueError("x")
    error = JoinError("no", [branch_error], result=a_result(branch_error))
    branch_error.outer = error  # type: ignore[attr-defined]
    there = pickle.loads(pickle.dumps(error))
    assert type(there.exceptions[0]) is ValueError
    assert type(there.exceptions[0].outer) is CanoError


def test_nested_groups_travel() -> None:
    error: CanoError = JoinError("0", [NeedsKeyword(why="deep")])
    for level in range(1, 30):
        error = JoinError(str(level), [error], result=a_result(error))
    there = pickle.loads(pickle.dumps(error))
    for level in range(29, 0, -1):
        assert str(there).startswith(f"{level} ")
        there = there.exceptions[0]
    assert type(there.exceptions[0]) is TaskError


class SpecialError(TaskError):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def test_a_subclass_with_its_own_constructor_travels() -> None:
    there = pickle.loads(pickle.dumps(SpecialError(7)))
    assert (type(there), there.code, str(there)) == (SpecialError, 7, "code 7")


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
def test_they_can_be_copied(error: CanoError) -> None:
    again = copy.copy(error)
    assert type(again) is type(error)
    assert (str(again), again.args) == (str(error), error.args)
    assert vars(again) == vars(error)
    if isinstance(error, JoinError):
        assert again.exceptions == error.exceptions  # type: ignore[attr-defined]

"""The survey as a workflow: which state does what, and where it leads.

    discover -> measure -> collect -> rank -> report -> done or failed
                              ^ |
                              | v
                              rest

`measure` is a split over every file, joined by a `Percentage`: it is decided as soon as enough files are measured for
the survey to stand, or too many have failed for that. A join that is decided cancels the branches it does not need any
more. Here every file is wanted, so `collect` sends what was cancelled through a second split, which takes the failures
as they come.
"""

from pathlib import Path
from typing import Literal

from measuring import Measure, measure
from ranking import Ranking, rank
from reading import python_files
from report import Failure, Survey, as_markdown, as_text
from states import State

from cano import AttemptTimeoutError, JoinConfig, JoinStrategy, MemoryStore, Retry, SplitResult, Workflow

SHARE = 0.9
"""How much of a tree has to be measured, or its survey has failed."""

REST_TIMEOUT = 60.0
"""Seconds for one round of the rest; what it leaves gets another one."""

# A read that fails may work a moment later (a network drive, too many open files), but not if the file is gone or not
# ours to read. Whatever is no OSError is the file's own fault, and is not tried again. An AttemptTimeoutError is a
# TimeoutError, and Python counts those among the OSErrors: another attempt would cost another thread.
RETRY = Retry.exponential(
    3,
    base=0.05,
    retry_on=OSError,
    give_up_on=(FileNotFoundError, PermissionError, IsADirectoryError, AttemptTimeoutError),
)


# The return annotations declare where each state may lead. They are drawn in the picture, and enforced.
def discover(store: MemoryStore) -> Literal[State.MEASURE]:
    """Find the files. A plain function runs on a worker thread, so the event loop stays free."""
    files = python_files(store.get("folder", Path))
    store.put("found", len(files))
    store.put("batch", files)
    return State.MEASURE


def batch(store: MemoryStore) -> list[Path]:
    """Return what the next split is over: all the files, or what is left of them."""
    return store.get("batch", list[Path])


def collect(store: MemoryStore) -> Literal[State.REST, State.RANK]:
    """Take over what a split has found, and see to it that no file is left out."""
    split = store.get("split_results", SplitResult[Measure])
    files = batch(store)
    for measured in split.outputs():
        store.append("measures", measured)
    for row in split.errors:
        if row.error is not None:
            store.append("failures", Failure(files[row.task_index], row.error, row.attempts))
    store.put("batch", [files[index] for index in split.cancelled])
    # After a failed join there is no point in reading on (see main.py).
    return State.REST if split.cancelled and not store.contains_key("problem") else State.RANK


def rank_files(store: MemoryStore) -> Literal[State.REPORT]:
    """Add up what was measured."""
    measures: list[Measure] = store.get("measures", default=[])
    if not measures and not store.contains_key("problem"):
        store.put("problem", "no Python file was found")
    store.put("ranking", rank(measures))
    return State.REPORT


def report(store: MemoryStore) -> Literal[State.DONE, State.FAILED]:
    """Print the report and write it into the folder that was asked for."""
    survey = Survey(
        folder=store.get("folder", Path),
        found=store.get("found", int),
        ranking=store.get("ranking", Ranking),
        failures=store.get("failures", default=[]),
        problem=store.get("problem", default=None),
    )
    out = store.get("out", Path)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(as_markdown(survey), encoding="utf-8")
    print(as_text(survey))
    return State.DONE if survey.problem is None else State.FAILED


def build(
    folder: Path, out: Path, *, engine: str | None = None, bulkhead: int = 8, attempt_timeout: float = 30.0
) -> Workflow[State]:
    """Build the survey of a folder.

    Args:
        folder: The tree to survey.
        out: The folder for the report; made if it is not there.
        engine: The engine, or `None` for the default one.
        bulkhead: How many files are worked on at once. A file beyond it has no thread, no task and no memory yet.
        attempt_timeout: Seconds for one file. The thread that works on it cannot be stopped; the survey goes on
            without it.
    """
    # `store_partial_results` puts the result under `split_results` before the join state's task runs, and also when
    # the join fails.
    enough = JoinConfig(JoinStrategy.Percentage(SHARE), State.COLLECT, bulkhead=bulkhead, store_partial_results=True)
    # At its deadline a PartialTimeout goes on with what it has: with failures, and without what was not reached.
    whatever_comes = JoinConfig(
        JoinStrategy.PartialTimeout,
        State.COLLECT,
        timeout=REST_TIMEOUT,
        bulkhead=bulkhead,
        store_partial_results=True,
    )
    workflow = (
        Workflow[State](name="survey", engine=engine)
        .register(State.DISCOVER, discover)
        .register_map(State.MEASURE, measure, batch, enough, retry=RETRY, attempt_timeout=attempt_timeout)
        .register(State.COLLECT, collect)
        .register_map(State.REST, measure, batch, whatever_comes, retry=RETRY, attempt_timeout=attempt_timeout)
        .register(State.RANK, rank_files)
        .register(State.REPORT, report)
        .add_exit_states([State.DONE, State.FAILED])
    )
    workflow.store.put("folder", folder)
    workflow.store.put("out", out)
    return workflow

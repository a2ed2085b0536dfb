"""A quorum write: an entry is written to five SQLite files, and is safe when three of them have confirmed it.

Two of the five are in trouble: one file is damaged and fails at once, another is locked and is tried again and again.
Neither holds up the write. What each replica did is printed, and what is really in the files afterwards.

    python examples/replicas/replicas.py
"""

import enum
import sqlite3
import sys
import tempfile
from functools import partial
from pathlib import Path

from databases import Replica, make_replicas

from cano import JoinConfig, JoinError, JoinStrategy, MemoryStore, Retry, SplitResult, Workflow

KEY, VALUE = "greeting", "hello"


class State(enum.Enum):
    """The states of a write."""

    WRITE = "write"
    CONFIRM = "confirm"
    CONFIRMED = "confirmed"


def build(replicas: list[Replica], quorum: int) -> Workflow[State]:
    """Build the workflow of one write.

    Each branch is a plain function, so it runs on a worker thread. The store is no part of it: what `partial` leaves
    open is nothing, so nothing is passed.
    """

    def confirm(store: MemoryStore) -> State:
        split = store.get("split_results", SplitResult[None])
        tell(replicas, split)
        return State.CONFIRMED

    writes = [partial(replica.write, KEY, VALUE) for replica in replicas]
    join = JoinConfig(JoinStrategy.Quorum(quorum), State.CONFIRM, timeout=5, store_partial_results=True)
    # A lock goes away, so it is worth another attempt; a damaged file (a DatabaseError of another kind) is not. Between
    # attempts a branch holds neither a thread nor, with a bulkhead, a permit.
    retry = Retry.fixed(50, 0.05, retry_on=sqlite3.OperationalError)
    return (
        Workflow[State](name="quorum write")
        .register_split(State.WRITE, writes, join, retry=retry)
        .register(State.CONFIRM, confirm)
        .add_exit_state(State.CONFIRMED)
    )


def tell(replicas: list[Replica], split: SplitResult[None]) -> None:
    """Print what came of each branch."""
    for row in split.successes:  # in order of completion
        print(f"  confirmed  {replicas[row.task_index].name} after {row.duration:.2f} s")
    for row in split.errors:
        print(f"  failed     {replicas[row.task_index].name}: {row.error}")
    for index in split.cancelled:
        print(f"  cancelled  {replicas[index].name}: not needed any more")


def write(replicas: list[Replica], quorum: int) -> bool:
    """Write the entry; tell whether the quorum was reached."""
    print(f"writing to {len(replicas)} replicas, {quorum} have to confirm")
    try:
        state = build(replicas, quorum).run(State.WRITE)  # orchestrate(), from code without an event loop
    except JoinError as error:
        # It fails as soon as the quorum is out of reach, not when the last replica has answered.
        if error.result is not None:
            tell(replicas, error.result)
        print("no quorum: the entry must not be relied on\n")
        return False
    print(f"{state.value}: the entry is safe\n")
    return True


def two_in_trouble(folder: Path) -> bool:
    """Write where one file is damaged and another one locked."""
    replicas = make_replicas(folder)
    replicas[1].damage()
    with replicas[4].locked():
        safe = write(replicas, 3)
        # Three of five are a majority: any three that are read later include one that has the entry. "Cancelled" means
        # that nobody waits for a branch. A thread cannot be stopped, so an attempt that is on one ends in its own time,
        # and would still write if the lock went away meanwhile. A real system repairs such a replica afterwards.
        print("what the files hold:")
        for replica in replicas:
            print(f"  {replica.name}  {replica.read(KEY)}")
        print()
    return safe


def three_in_trouble(folder: Path) -> bool:
    """Write where three files are damaged: three confirmations cannot be had."""
    replicas = make_replicas(folder)
    for replica in (replicas[1], replicas[3], replicas[4]):
        replica.damage()
    return write(replicas, 3)


def main() -> int:
    # An attempt that outlives its run may hold a file open; where the system minds, it stays for the system to remove.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        safe = two_in_trouble(Path(folder, "first"))
        refused = not three_in_trouble(Path(folder, "second"))
    return 0 if safe and refused else 1


if __name__ == "__main__":
    sys.exit(main())

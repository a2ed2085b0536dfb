"""Five replicas: real SQLite files, one of which is damaged, and one of which somebody else has locked."""

import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

BUSY_TIMEOUT = 0.05
"""Seconds an attempt waits for a lock. It is short because a thread cannot be stopped: what waits is the retry."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One database file.

    Args:
        name: What the output calls it.
        path: The file.
        distance: Seconds that a write takes to get there.
    """

    name: str
    path: Path
    distance: float

    def create(self) -> None:
        """Make the file and its table."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT)")

    def damage(self) -> None:
        """Overwrite the file, so that it is no database any more."""
        self.path.write_bytes(b"this was a database once\n" * 200)

    def write(self, key: str, value: str) -> None:
        """Write an entry; the same one twice does no harm, so that an attempt can be repeated.

        Raises:
            sqlite3.OperationalError: The file is locked; try again.
            sqlite3.DatabaseError: It is no database; there is no point in trying again.
        """
        time.sleep(self.distance)
        with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT)) as connection, connection:
            connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?)", (key, value))

    def read(self, key: str) -> str:
        """Return the value of an entry, or a word that says why there is none."""
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT)) as connection:
                row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError as error:
            return f"({error})"
        return "(nothing)" if row is None else str(row[0])

    @contextmanager
    def locked(self) -> Generator[None, None, None]:
        """Hold the file's write lock, as a backup or a forgotten transaction would. Others may still read."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


def make_replicas(folder: Path) -> list[Replica]:
    """Make five replicas at different distances, in a new folder."""
    folder.mkdir()
    replicas = [
        Replica(f"replica {number}", folder / f"replica-{number}.sqlite", distance)
        for number, distance in enumerate((0.02, 0.0, 0.04, 0.01, 0.06), start=1)
    ]
    for replica in replicas:
        replica.create()
    return replicas

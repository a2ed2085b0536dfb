"""Reads the results of the benchmarks, several passes, and answers questions about them."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benches.report.aims import COST, MICROSECONDS, Aim


@dataclass(frozen=True)
class Figure:
    """A figure over the passes: its median, and the smallest and the largest."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: list[float]) -> Figure | None:
        return Figure(statistics.median(values), min(values), max(values)) if values else None


class Results:
    """The results on one interpreter.

    Args:
        path: The file that `python -m benches.python` wrote.
    """

    def __init__(self, path: Path) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        self.facts: dict[str, Any] = data["facts"]
        self.method: dict[str, Any] = data["method"]
        self.timed: list[dict[str, Any]] = data["timed"]
        self.apart: dict[str, list[dict[str, Any]]] = data["apart"]

    @property
    def label(self) -> str:
        """The interpreter, as the tables call it."""
        interpreter = self.facts["interpreter"]
        threads = ", free-threaded" if interpreter["free_threaded"] else ""
        return f"{interpreter['implementation']} {interpreter['version']}{threads}"

    @property
    def free_threaded(self) -> bool:
        return bool(self.facts["interpreter"]["free_threaded"])

    def _passes(self, question: str, case: str, loop: str) -> list[dict[str, Any]]:
        found = [r for r in self.timed if r["question"] == question and r["case"] == case and r["loop"] == loop]
        return [record["contenders"] for record in found]

    def cost(self, question: str, case: str, who: str, loop: str = "asyncio") -> Figure | None:
        """Microseconds per unit."""
        return Figure.of([c[who]["best"] for c in self._passes(question, case, loop) if who in c])

    def ratio(self, question: str, case: str, ours: str, beside: str, loop: str = "asyncio") -> Figure | None:
        """How many times what `ours` costs `beside` costs, pass by pass."""
        passes = self._passes(question, case, loop)
        return Figure.of([c[beside]["best"] / c[ours]["best"] for c in passes if ours in c and beside in c])

    def measured(self, aim: Aim) -> Figure | None:
        """What an aim is about, in the aim's own terms."""
        if aim.kind == MICROSECONDS:
            return self.cost(aim.question, aim.case, aim.ours, aim.loop)
        ours, beside = (aim.beside, aim.ours) if aim.kind == COST else (aim.ours, aim.beside)
        return self.ratio(aim.question, aim.case, ours, beside, aim.loop)

    def aimed_at(self, aim: Aim) -> float:
        """The aim's figure for this interpreter: the newer one's from 3.12 on."""
        minor = int(self.facts["interpreter"]["version"].split(".")[1])
        return aim.at[0] if minor <= 11 else aim.at[1]

    def holds(self, aim: Aim) -> bool | None:
        """Whether the median reaches the aim; `None` if it was not measured."""
        figure = self.measured(aim)
        if figure is None:
            return None
        at = self.aimed_at(aim)
        return figure.median <= at if aim.kind in {COST, MICROSECONDS} else figure.median >= at

    def skipped(self) -> dict[str, str]:
        """Whom there was nothing to measure of, and why."""
        return {who: why for record in self.timed for who, why in record["skipped"].items()}

    def points(self, question: str, **where: Any) -> list[dict[str, Any]]:
        """The points of a question asked in processes of their own, that have these values."""
        points = self.apart.get(question, [])
        return [point for point in points if all(point.get(key) == value for key, value in where.items())]

    def memory_ratio(self, case: str, n: int, who: str, beside: str) -> float | None:
        """Bytes per suspended branch, ours to theirs."""
        ours, theirs = (self.points("memory", case=case, n=n, who=name) for name in (who, beside))
        return ours[0]["bytes_per_branch"] / theirs[0]["bytes_per_branch"] if ours and theirs else None

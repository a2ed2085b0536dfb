"""The model of a join: the contract's table, written without a look at the engines."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

Recipe = dict[str, Any]
Trace = list[tuple[Any, ...]]
Case = tuple[tuple[str, ...], tuple[int, ...]]  # outcomes by index; the indices of those that end, in order


def proceeds(kind: str, need: Any, ok: int, bad: int, total: float) -> bool:
    """`total` is infinite as long as a lazy source has not said how many there are."""
    if kind == "all":
        return ok == total
    if kind == "any":
        return ok == 1
    if kind in ("quorum", "partial results"):
        return ok == need
    if kind == "percentage":
        return ok >= need * total
    if kind == "partial timeout":
        return ok + bad == total > 0 and ok >= need
    return ok + bad > 0 and 2 * ok >= total  # "custom": half of them


def fails(kind: str, need: Any, ok: int, bad: int, total: float) -> bool:
    if kind == "all":
        return bad > 0 if need == "fail fast" else bad > 0 and ok + bad == total
    if kind == "any":
        return bad == total
    if kind in ("quorum", "partial results"):
        return bad > total - need
    if kind == "percentage":
        return total - bad < need * total
    return ok + bad == total


def model(kind: str, need: Any, case: Case) -> tuple[str, list[int], list[int], list[int]]:
    """What the contract says: the verdict, who succeeded and who failed in order, and who was cancelled."""
    outcomes, order = case
    total = len(outcomes)
    ok: list[int] = []
    bad: list[int] = []
    verdict = ""
    for index in (None, *order):
        if index is not None:
            (ok if outcomes[index] == "ok" else bad).append(index)
        if index is not None or kind != "custom" or total == 0:  # a function is asked after completions
            if proceeds(kind, need, len(ok), len(bad), total):
                verdict = "proceeds"
            elif fails(kind, need, len(ok), len(bad), total):
                verdict = "fails"
        if verdict:
            break
    if not verdict:
        verdict = "times out"
        if kind == "partial timeout":
            verdict = "proceeds" if ok + bad and len(ok) >= need else "fails"
    return verdict, ok, bad, sorted(set(range(total)) - {*ok, *bad})


# --- what a run of a random workflow has told, beside the model ---


class Split:
    """One split of a run: what was told of it, and what its join has to be like."""

    def __init__(self, recipe: Recipe, total: int | None) -> None:
        self.kind = recipe["strategy"].replace("_", " ")
        self.need = {
            "all": "fail fast" if recipe["fail_fast"] else None,
            "quorum": min(recipe["n"], len(recipe["branches"])),
            "partial results": min(recipe["n"], len(recipe["branches"])),
            "percentage": Fraction(str(recipe["share"])),
            "partial timeout": min(recipe["min_successes"], len(recipe["branches"])),
        }.get(self.kind)
        self.timeout = recipe["timeout"]
        self.total = total
        self.ok: list[int] = []
        self.bad: list[int] = []

    def verdict(self, total: int) -> str:
        """What the table says of what has ended so far."""
        facts = self.kind, self.need, len(self.ok), len(self.bad), total
        return "proceeds" if proceeds(*facts) else "fails" if fails(*facts) else ""

    def ends(self, kind: str, branch: int) -> None:
        """A branch has ended: the join had not been decided before."""
        if self.kind != "custom" and self.total is not None:
            assert self.verdict(self.total) == "", f"{self.kind} went on after its decision"
        (self.ok if kind == "branch_success" else self.bad).append(branch)

    def joined(self, result: Any, error: Any) -> None:
        """The split has ended: counts, rows and verdict are those of the model."""
        _, rows, errors, cancelled, total = result
        assert ([row[0] for row in rows], [row[0] for row in errors]) == (self.ok, self.bad)
        assert sorted([*self.ok, *self.bad, *cancelled]) == list(range(total))
        if self.kind == "custom":
            return
        verdict = self.verdict(total)
        at_deadline = self.kind == "partial timeout" and self.timeout is not None
        enough = bool(self.ok or self.bad) and self.kind == "partial timeout" and len(self.ok) >= self.need
        name = None if error is None else error[0]
        if name is None:
            assert verdict == "proceeds" or (at_deadline and enough), f"{self.kind} proceeds too early"
        elif name == "JoinError":
            assert verdict == "fails" or (at_deadline and not enough), f"{self.kind} fails too early"
        elif name == "SplitTimeoutError":
            assert self.timeout is not None
            assert not at_deadline
            # While the source is open nobody knows N, and `total` is how many it has given.
            assert verdict == "" or self.total is None, f"{self.kind} times out after its decision"


def judge(recipe: Recipe, trace: Trace) -> int:
    """Hold what an observer was told of the splits of a run against the model; returns how many there were."""
    judged = 0
    split: Split | None = None
    for _, place, *facts in trace:
        if place != "event":
            continue
        kind, state, _, branch, _, _, value, error = facts
        if kind == "split_start":
            made = recipe["states"][int(state.removeprefix("state "))]
            split = Split(made if made["kind"] == "split" else made["split"], value)
        elif kind in ("branch_success", "branch_failure"):
            assert split is not None
            split.ends(kind, branch)
        elif kind == "join":
            assert split is not None
            split.joined(value, error)
            split = None
            judged += 1
    return judged

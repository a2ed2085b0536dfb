"""Adding up what the branches measured."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from measuring import LARGEST, Function, Measure


@dataclass(frozen=True, slots=True)
class Ranking:
    """The whole tree in a few numbers."""

    files: int
    lines: int
    functions: int
    classes: int
    most_imported: tuple[tuple[str, int], ...]
    largest: tuple[Function, ...]


def rank(measures: Sequence[Measure]) -> Ranking:
    """Add up the files, and pick out the modules that most of them import and the largest functions."""
    importers = Counter(module for measure in measures for module in measure.imported)
    # By count, and by name where that is equal: the same tree gives the same report, in whatever order its files ended.
    most_imported = sorted(importers.items(), key=lambda pair: (-pair[1], pair[0]))
    return Ranking(
        files=len(measures),
        lines=sum(measure.lines for measure in measures),
        functions=sum(measure.functions for measure in measures),
        classes=sum(measure.classes for measure in measures),
        most_imported=tuple(most_imported[:LARGEST]),
        largest=tuple(heapq.nlargest(LARGEST, (one for measure in measures for one in measure.largest))),
    )

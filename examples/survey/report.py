"""Writing the report: for the terminal, and as Markdown into a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ranking import Ranking


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be measured, and why."""

    path: Path
    error: BaseException
    attempts: int

    def reason(self) -> str:
        """Return the reason in a line."""
        error = self.error
        if isinstance(error, SyntaxError):  # whose str() repeats the name of the file
            text = f"{error.msg} (line {error.lineno})" if error.lineno else str(error.msg)
        elif isinstance(error, OSError) and error.strerror:  # likewise
            text = error.strerror
        else:
            text = str(error)
        tries = f", {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{type(error).__name__}: {text}{tries}"


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything a report tells."""

    folder: Path
    found: int
    ranking: Ranking
    failures: Sequence[Failure]
    problem: str | None

    def counts(self) -> list[tuple[str, str]]:
        """Return the numbers, each with what it counts."""
        ranking = self.ranking
        left = self.found - ranking.files - len(self.failures)
        left_out = f", {left:,} not tried" if left else ""
        return [
            ("files", f"{self.found:,} found: {ranking.files:,} measured, {len(self.failures):,} failed{left_out}"),
            ("lines", f"{ranking.lines:,}"),
            ("functions", f"{ranking.functions:,}"),
            ("classes", f"{ranking.classes:,}"),
        ]

    def modules(self) -> list[tuple[str, str]]:
        """Return the most imported modules, each with how many files import it."""
        return [(module, f"{files:,} files") for module, files in self.ranking.most_imported]

    def functions(self) -> list[tuple[str, str]]:
        """Return the largest functions, each with its length and place."""
        return [
            (one.name, f"{one.lines:,} lines, in {one.path.relative_to(self.folder).as_posix()}:{one.line}")
            for one in self.ranking.largest
        ]

    def failed(self) -> list[tuple[str, str]]:
        """Return the failed files, each with the reason."""
        return sorted((one.path.relative_to(self.folder).as_posix(), one.reason()) for one in self.failures)


def as_text(survey: Survey) -> str:
    """Return the report for a terminal; of the two rankings the first five lines."""
    lines = [f"survey of {survey.folder}", *_aligned(survey.counts())]
    if survey.problem is not None:
        lines += ["", f"failed: {survey.problem}"]
    if survey.ranking.files:
        lines += ["", "most imported modules", *_aligned(survey.modules()[:5])]
        lines += ["", "largest functions", *_aligned(survey.functions()[:5])]
    if survey.failures:
        count = len(survey.failures)
        lines += ["", f"{count:,} file{'' if count == 1 else 's'} could not be measured", *_aligned(survey.failed())]
    return "\n".join(lines)


def as_markdown(survey: Survey) -> str:
    """Return the report for a file."""
    lines = [f"# Survey of {survey.folder}", "", *_table("", "", survey.counts())]
    if survey.problem is not None:
        lines += ["", f"**Failed:** {survey.problem}"]
    lines += ["", "## Most imported modules", "", *_table("module", "imported by", survey.modules())]
    lines += ["", "## Largest functions", "", *_table("function", "length and place", survey.functions())]
    lines += ["", "## Files that could not be measured", "", *_table("file", "reason", survey.failed())]
    return "\n".join(lines) + "\n"


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(left) for left, _ in rows), default=0)
    return [f"  {left:<{width}}  {right}" for left, right in rows]


def _table(left: str, right: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    head = [f"| {left} | {right} |", "| --- | --- |"]
    return head + [f"| {_cell(one)} | {_cell(other)} |" for one, other in rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

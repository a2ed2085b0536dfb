"""Writes docs/reliability.md from what was recorded: `make reliability`.

What goes in:

- `classes.toml`: what each fault class is about, what was found, what is left;
- `recorded/tests.json`: what `pytest --record tools/reliability/recorded/tests.json` writes (tests/record.py), and any other
  file that it wrote: of tests that were run on their own (`rust.json`). Each has rows of its own, so a test counts twice that
  is in two of them;
- `recorded/tests.json.load.json`: what `tests/load` writes beside it (load.py);
- `recorded/*.json` that are lists: what was tried without pytest, `{"class", "what", "date", "tried": {...}}`, and
  `"facts": ["a sentence", ...]` where a number does not say it;
- `template.md`: the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tools.reliability import load

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs/reliability.md"

NOTHING = "–"  # noqa: RUF001  in a cell of a table
Json = dict[str, Any]


class Row(NamedTuple):
    """What the tests of one class did on one engine of one interpreter."""

    interpreter: str
    engine: str
    facts: Json

    @property
    def passed(self) -> int:
        """How many tests passed."""
        return int(self.facts["tests"].get("passed", 0))

    @property
    def failed(self) -> int:
        """How many tests failed."""
        return int(self.facts["tests"].get("failed", 0))

    @property
    def form(self) -> str:
        """Which form of the suite ran."""
        return " and ".join(self.facts["forms"])


class Records:
    """Everything that was recorded, by class."""

    def __init__(self, folder: Path) -> None:
        self._tests: list[Json] = []
        self._beside: list[Json] = []
        for path in sorted(folder.glob("*.json")):
            stored = json.loads(path.read_text(encoding="utf-8"))
            if path.name.endswith(".load.json"):
                self._beside += load.entries(stored)
            elif isinstance(stored, list):
                self._beside += stored
            else:
                self._tests.append(stored)

    def rows(self, name: str) -> list[Row]:
        """What the tests of a class did, by interpreter and engine."""
        rows = [
            Row(interpreter, engine, facts)
            for tests in self._tests
            for interpreter, classes in tests.items()
            for engine, facts in classes.get(name, {}).items()
        ]
        return sorted(rows, key=lambda row: (_age(row.interpreter), row.engine))

    def beside(self, name: str) -> list[Json]:
        """What was tried for a class without pytest."""
        return [entry for entry in self._beside if entry["class"] == name]

    def interpreters(self) -> list[str]:
        """The interpreters that anything was recorded on."""
        return sorted({interpreter for tests in self._tests for interpreter in tests}, key=_age)

    def names(self) -> set[str]:
        """The classes that anything was recorded of."""
        ran = {name for tests in self._tests for classes in tests.values() for name in classes}
        return ran | {entry["class"] for entry in self._beside}


def _age(interpreter: str) -> tuple[int, bool]:
    return int(interpreter.rstrip("t").partition(".")[2]), interpreter.endswith("t")


def make(classes: Json, records: Records, template: str) -> str:
    """Return the page."""
    entries: list[Json] = classes["class"]
    known = {entry["name"] for entry in entries}
    unknown = records.names() - known
    if unknown:
        raise SystemExit(f"recorded, and not in classes.toml: {', '.join(sorted(unknown))}")
    parts = {
        "summary": _summary(entries, records),
        "promises": "\n".join(f"- **{name}** {text}" for name, text in classes["promises"].items()),
        "forms": _forms(entries, records),
        "table": "\n".join(_table(entries, records)),
        "sections": "\n\n".join(_section(entry, records) for entry in entries),
    }
    for name, part in parts.items():
        template = template.replace("{" + name + "}", part)
    return template.rstrip() + "\n"


def _summary(entries: list[Json], records: Records) -> str:
    rows = [row for entry in entries for row in records.rows(entry["name"])]
    idle = [entry["name"] for entry in entries if not records.rows(entry["name"]) and not records.beside(entry["name"])]
    failing = sorted({entry["name"] for entry in entries for row in records.rows(entry["name"]) if row.failed})
    found = sum(len(entry["found"]) for entry in entries)
    limits = sum(len(entry["limits"]) for entry in entries)
    said = [f"{len(entries) - len(idle)} of {len(entries)} classes of faults were tried"]
    if rows:
        said[0] += f" on CPython {_list(records.interpreters())}"
    said[0] += "."
    said.append(f"Failing now: {_list(failing)}." if failing else "Of what was recorded nothing fails.")
    said.append(
        f"On the way {_count(found, 'fault')} of cano came to light and {'was' if found == 1 else 'were'} mended;"
    )
    said.append(f"{_count(limits, 'limit')} {'is' if limits == 1 else 'are'} left and named below.")
    if idle:
        said.append(f"Nothing is recorded of {_list(idle)}.")
    return "\n".join(said)


def _forms(entries: list[Json], records: Records) -> str:
    by_form: dict[str, set[str]] = {}
    for entry in entries:
        for row in records.rows(entry["name"]):
            by_form.setdefault(row.form, set()).add(row.interpreter)
    said = [f"the {form} form on {_list(sorted(where, key=_age))}" for form, where in sorted(by_form.items())]
    return f"Recorded were {_list(said)}." if said else "Nothing is recorded yet."


def _table(entries: list[Json], records: Records) -> Iterator[str]:
    interpreters = records.interpreters()
    yield "| class | fault | " + "".join(f"tried on {name} | " for name in interpreters) + "found | stands |"
    yield "| --- | --- |" + " ---: |" * len(interpreters) + " ---: | --- |"
    for entry in entries:
        name = entry["name"]
        tried = "".join(f"{_tried_on(records.rows(name), interpreter)} | " for interpreter in interpreters)
        link = f"[{name}](#{_anchor(_heading(entry))})"
        yield f"| {link} | {entry['title']} | {tried}{len(entry['found']) or NOTHING} | {_stands(entry, records)} |"


def _tried_on(rows: list[Row], interpreter: str) -> str:
    ran = [row for row in rows if row.interpreter == interpreter]
    total: Counter[str] = Counter()
    for row in ran:
        total.update(row.facts["tried"])
    if total:
        what, most = total.most_common(1)[0]
        return f"{most:,} {_words(what)}"
    passed = sum(row.passed + row.failed for row in ran)
    return f"{_count(passed, 'test')}" if passed else NOTHING


def _stands(entry: Json, records: Records) -> str:
    rows = records.rows(entry["name"])
    if any(row.failed for row in rows):
        return "**fails**"
    if not any(row.passed for row in rows) and not records.beside(entry["name"]):
        return "not recorded"
    return f"holds, {_count(len(entry['limits']), 'limit')}" if entry["limits"] else "holds"


def _section(entry: Json, records: Records) -> str:
    name = entry["name"]
    parts = [
        f"## {_heading(entry)}",
        entry["inject"],
        f"*What must hold:* {entry['check']} ({', '.join(entry['promises'])})",
        f"*How often:* {entry['target']}.",
    ]
    rows = records.rows(name)
    if rows:
        parts.append("\n".join(_results(rows)))
    parts += [_beside(fact) for fact in records.beside(name)]
    if not rows and not records.beside(name):
        parts.append(entry.get("pending", "Nothing is recorded of it yet."))
    parts += _items("Found and mended:", entry["found"])
    parts += _items("What is left:", entry["limits"])
    commands = [entry.get("elsewhere"), entry.get("repeat")]
    if not entry.get("elsewhere"):
        commands += [f'make test ARGS="--fault {name}"', f'make soak ARGS="--fault {name}"']
    parts.append("```console\n" + "\n".join(command for command in commands if command) + "\n```")
    return "\n\n".join(parts)


def _results(rows: list[Row]) -> Iterator[str]:
    yield "| Python | engine | form | tests | tried | on |"
    yield "| --- | --- | --- | ---: | --- | --- |"
    for row in rows:
        others = {what: count for what, count in row.facts["tests"].items() if what != "passed"}
        tests = ", ".join([f"{row.passed:,} passed", *(f"{count:,} {what}" for what, count in others.items())])
        tried = ", ".join(f"{count:,} {_words(what)}" for what, count in row.facts["tried"].items())
        python, date = row.facts["python"], row.facts["date"]
        free = "t" if row.interpreter.endswith("t") else ""
        yield f"| {python}{free} | {row.engine} | {row.form} | {tests} | {tried or NOTHING} | {date}, {row.facts['machine']} |"


def _beside(entry: Json) -> str:
    counts = [f"{count:,} {_words(what)}" for what, count in entry.get("tried", {}).items()]
    text = f"*{entry['what']}* ({entry['date']})" + (f": {', '.join(counts)}." if counts else ":")
    return "\n".join([text, *([""] if entry.get("facts") else []), *(f"- {fact}" for fact in entry.get("facts", []))])


def _items(title: str, items: list[str]) -> list[str]:
    return [title + "\n\n" + "\n".join(f"- {item}" for item in items)] if items else []


def _heading(entry: Json) -> str:
    title: str = entry["title"]
    name: str = entry["name"]
    return f"{name} {title}" if name[1:].isdigit() else title


def _anchor(heading: str) -> str:
    kept = "".join(c for c in heading.lower() if c.isalnum() or c in " -_")
    return kept.strip().replace(" ", "-")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _list(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def page(folder: Path = HERE) -> str:
    """Return the page that the stored data make."""
    classes = tomllib.loads((folder / "classes.toml").read_text(encoding="utf-8"))
    return make(classes, Records(folder / "recorded"), (folder / "template.md").read_text(encoding="utf-8"))


def main() -> int:
    """Write the page, or with --check say whether it is what the data make."""
    parser = argparse.ArgumentParser(description="Write docs/reliability.md from what was recorded.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not up to date")
    if parser.parse_args().check:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

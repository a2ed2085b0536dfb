"""What the pages point at is there, and what is public is in the reference."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.blocks import ROOT, pages

import cano

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """The links of a page that stay in the repository: the file, and the heading in it."""
    for match in LINK.finditer(FENCED.sub("", path.read_text(encoding="utf-8"))):
        target, _, heading = match["target"].partition("#")
        if not re.match(r"[a-z]+:", target):
            yield (path.parent / target).resolve() if target else path, heading


def anchors(path: Path) -> set[str]:
    found = HEADING.findall(FENCED.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in links(page):
        assert target.exists(), f"{page.name} links to {target}, which is not there"
        if heading:
            assert heading in anchors(target), f"{page.name}: {target.name} has no heading {heading}"


def navigation(entries: list[dict[str, object]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                assert isinstance(target, list)
                yield from navigation(target)


def test_every_page_is_in_the_navigation_and_the_other_way_round() -> None:
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    docs = ROOT / "docs"
    assert sorted(navigation(project["nav"])) == sorted(str(page.relative_to(docs)) for page in docs.rglob("*.md"))


def test_every_public_name_is_in_the_reference() -> None:
    shown = {
        name
        for page in (ROOT / "docs/reference").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    for module in [name for name in shown if name in ("cano.errors", "cano.testing")]:
        shown |= {f"cano.{name}" for name in importlib.import_module(module).__all__}
    if "cano.observe" in shown:
        shown.add("cano.RunEvent")  # the one member that docs/reference/events.md names
    assert {f"cano.{name}" for name in cano.__all__} - shown == set()


def test_every_decision_is_listed_and_dated() -> None:
    overview = (ROOT / "docs/design/index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs/design").glob("*.md"):
        if page.name == "index.md":
            continue
        assert f"]({page.name})" in overview
        assert re.search(r"^\*\d{4}-\d{2}-\d{2}\*$", page.read_text(encoding="utf-8"), re.MULTILINE), page.name


def test_the_picture_in_the_tutorial_is_what_its_program_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.docs.blocks import blocks_of
    from tests.docs.test_blocks import run

    monkeypatch.chdir(tmp_path)
    tutorial = ROOT / "docs/tutorial.md"
    [program] = [block for block in blocks_of(tutorial) if "parcel.mmd" in block.code]
    run(program, {"__name__": "__main__"})
    assert (tmp_path / "parcel.mmd").read_text().strip() in tutorial.read_text(encoding="utf-8")

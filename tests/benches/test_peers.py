"""The other libraries in benches/peers: each does its jobs or says why not, and none leaves a process behind."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from benches.peers.__main__ import APART, TOGETHER
from benches.peers.jobs import EXPECTED, FAN_OUT, JOBS, SYNC
from benches.report import peers as page

ROOT = Path(__file__).parents[2]
LIBRARIES = ROOT / "benches" / "peers" / "libraries"
TIMES = "\N{MULTIPLICATION SIGN}"
OURS = ("cano_native", "cano_pure", "asyncio_by_hand")
RUN = """
import json, os, sys
from benches.peers import apart
from benches.peers.processes import descendants
apart.STOPPING = 0.1
found = apart.run("tests.benches.fake_library", rounds=2, time_limit=float(sys.argv[1]))
json.dump([found, len(descendants(os.getpid()))], sys.stdout)
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, and to be handed orphans")


def test_every_library_is_named_and_has_its_requirement() -> None:
    assert sorted(path.stem for path in LIBRARIES.glob("*.py")) == sorted(TOGETHER + APART)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {re.split(r"[\[>;]", line)[0] for line in project["optional-dependencies"]["peers"]}
    packages = {
        re.search(r'^PACKAGE, NAME = (?:"([\w-]+)"|None), ', (LIBRARIES / f"{name}.py").read_text(), re.MULTILINE)[1]
        for name in TOGETHER + APART
    }
    assert packages - {None, "cano", "distributed"} == extra  # distributed comes with dask[distributed]


@pytest.mark.filterwarnings("ignore")  # a library's warnings are its own affair
@pytest.mark.parametrize("name", TOGETHER)
def test_a_library_does_its_jobs(name: str) -> None:
    async def main() -> dict[str, Any]:
        jobs = module.jobs()
        assert set(jobs) <= set(JOBS)
        # aiometer cannot do one of them, which the page says.
        return {job: await fn() for job, fn in jobs.items() if (name, job) != ("aiometer_runs", "any")}

    try:
        module = importlib.import_module(f"benches.peers.libraries.{name}")
        results = asyncio.run(main())
    except ImportError as error:
        assert name not in OURS
        pytest.skip(str(error))
    assert results == {job: EXPECTED[job] for job in results}


@pytest.mark.parametrize("name", APART)
def test_a_library_that_starts_something_does_not_do_so_when_imported(name: str) -> None:
    program = f"""
import sys, benches.peers.libraries.{name} as library
assert library.session.__call__ and library.NAME and set(getattr(library, "LEFT_OUT", ())) <= {set(JOBS)!r}
assert library.PACKAGE not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=250)


def alone(how: str, time_limit: float = 240) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(time_limit)],
        cwd=ROOT,
        env={**os.environ, "CANO_FAKE": how},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=250,
    )
    found, left = json.loads(done.stdout)
    assert left == 0, "a process is left"
    return found


@on_linux
def test_the_clock_of_a_library_apart_is_of_all_its_processes() -> None:
    found = alone("burns")
    (record,) = found["records"]
    # A turn takes 200 ms, and a job the helper's 50; were they not counted, next to nothing would be left.
    assert (record["job"], record["peer"]) == (FAN_OUT, "fake")
    assert record["best"] > 49_000
    assert found["start"]["processes"] == 3  # itself, the helper and the daemon
    assert found["start"]["cpu"] > 49_000
    assert found["skipped"] == {
        "fake, any": "it never does",
        f"fake, {SYNC}": f"ValueError: expected {EXPECTED[SYNC]}, but -1 came",
    }


@on_linux
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "No module named 'no_such_library'"),
        ("refuses", "RuntimeError: it does not want to"),
        ("hangs", "it did not end within 2 s"),
    ],
)
def test_a_library_that_cannot_be_started_is_left_out_with_the_reason(how: str, reason: str) -> None:
    assert alone(how, 2 if how == "hangs" else 240) == {"reason": reason}


@on_linux
def test_a_process_that_falls_over_keeps_what_was_measured() -> None:
    # Its first three times are well, and so it is measured.
    found = alone("dies later")
    assert [record["job"] for record in found["records"]] == [FAN_OUT]
    assert found["skipped"]["fake, fan-out-wait"] == "it did not come to its end"


def test_the_page_tells_who_was_measured_apart_and_what_starting_costs() -> None:
    facts = {"interpreter": {"implementation": "CPython", "version": "3.11.7"}, "date": "today"}
    record = {"job": FAN_OUT, "version": "1", "unit": "job", "wall": 2_000.0, "turns": 3, "rounds": []}
    records = [
        {**record, "peer": "ours", "best": 10.0},
        {**record, "peer": "a server", "best": 500.0, "apart": True},
    ]
    start = {"peer": "a server", "version": "1", "job": FAN_OUT, "cpu": 4e6, "wall": 9e6, "processes": 10, "runs": 1}
    data = {"facts": facts, "jobs": JOBS, "ours": "ours", "records": records, "starts": [start], "skipped": {"x": "y"}}
    text = page.section(data)
    assert f"| ours | 1 | 10.0 | 1.00{TIMES} | 2.00 |" in text
    assert f"| a server † | 1 | 500 | 50.0{TIMES} | 2.00 |" in text
    assert "† a server: the same jobs, of the same size" in text
    assert "a job only 3 times" in text
    assert "| a server | fan-out | 4,000 | 9,000 | 10 | 1 |" in text
    assert text.endswith("Left out: x (y).")

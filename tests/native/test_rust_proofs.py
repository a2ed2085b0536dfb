"""What is proved of the Rust side by its own tools, run and counted: `make soak`, or `CANO_SOAK=1`, and not otherwise.

The short forms are in `cargo test`. A tool that is not installed is a skip that says how to get it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
EVENTS = 10_000_000
SCHEDULES = 1_000_000
# Lines that a `match` or an `else` must have and nothing reaches: no retry is left where there is no back-off; a queue that is
# not empty has a first element.
UNREACHABLE = {"policy.rs": 1, "split.rs": 1}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.environ.get("CANO_SOAK") != "1", reason="takes long: CANO_SOAK=1"),
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo"),
]


def cargo(*arguments: str, **environment: str) -> str:
    """Run a cargo command that must succeed; what it said."""
    ended = subprocess.run(
        ["cargo", *arguments],
        cwd=ROOT,
        env={**os.environ, "RUST_BACKTRACE": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=3000,
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    return ended.stdout


def needs(tool: str, *, how: str) -> None:
    if subprocess.run(["cargo", *tool.split(), "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs {how}")


@pytest.mark.fault("unsafe")
@pytest.mark.parametrize("build", [(), ("--release",)], ids=["checked", "release"])
def test_the_machines_under_ten_million_events(build: tuple[str, ...], tried: Callable[..., None]) -> None:
    said = cargo(
        *("test", "--quiet", "--locked", "--package", "cano-engine", *build),
        *("--test", "fuzz_split", "--test", "fuzz_run"),
        CANO_FUZZ_EVENTS=str(EVENTS),
    )
    events = [int(count) for count in re.findall(r"machine: (\d+) events", said)]
    assert len(events) == 2, said
    tried(machine_events=sum(events))


@pytest.mark.fault("F12")
def test_every_order_of_what_threads_share(tried: Callable[..., None]) -> None:
    manifest = ("--manifest-path", "tests/interleavings/Cargo.toml", "--target-dir", "target/interleavings")
    said = cargo("test", "--quiet", "--locked", *manifest, CANO_SCHEDULES=str(SCHEDULES), CANO_SOAK="1")
    orders = [int(count) for count in re.findall(r"loom: (\d+) orders", said)]
    schedules = [int(count) for count in re.findall(r"shuttle: (\d+) schedules", said)]
    assert len(orders) >= 9, said
    assert schedules, said
    tried(loom_models=len(orders), loom_orders=sum(orders), shuttle_schedules=sum(schedules))


@pytest.mark.fault("F12")
def test_under_miri(tried: Callable[..., None]) -> None:
    needs("+nightly miri", how="Miri: rustup +nightly component add miri")
    said = cargo(
        *("+nightly", "miri", "test", "--quiet", "--locked", "--package", "cano-engine", "--no-default-features"),
        *(
            "--target-dir",
            "target/miri",
            "--test",
            "handoff",
            "--test",
            "fuzz_split",
            "--test",
            "fuzz_run",
            "--test",
            "policy",
        ),
        CANO_FUZZ_EVENTS="300",
        MIRIFLAGS="-Zmiri-disable-isolation",
    )
    tried(tests_under_miri=sum(int(count) for count in re.findall(r"(\d+) passed", said)))


@pytest.mark.fault("mutation")
@pytest.mark.skipif(os.environ.get("CANO_MUTANTS") != "1", reason="takes half an hour and more: CANO_MUTANTS=1")
def test_mutants_of_the_machines_are_noticed(tmp_path: Path, tried: Callable[..., None]) -> None:
    needs("mutants", how="cargo install cargo-mutants")
    subprocess.run(
        ["cargo", "mutants", "--package", "cano-engine", "--output", str(tmp_path), "--timeout", "60"],
        cwd=ROOT,
        env={**os.environ, "CARGO_PROFILE_DEV_DEBUG": "none"},
        check=False,
        timeout=3500,
    )
    outcomes = json.loads((tmp_path / "mutants.out/outcomes.json").read_text(encoding="utf-8"))
    noticed = outcomes["caught"] + outcomes["timeout"]
    assert noticed >= 0.95 * (noticed + outcomes["missed"])
    tried(mutants=noticed + outcomes["missed"], noticed=noticed)


@pytest.mark.fault("coverage")
def test_coverage_of_the_machines(tmp_path: Path, tried: Callable[..., None]) -> None:
    needs("llvm-cov", how="cargo install cargo-llvm-cov; rustup component add llvm-tools")
    report = tmp_path / "coverage.json"
    cargo("llvm-cov", "--package", "cano-engine", "--locked", "--json", "--output-path", str(report))
    missed: dict[str, Any] = {}
    for file in json.loads(report.read_text(encoding="utf-8"))["data"][0]["files"]:
        name = file["filename"].partition("rust/cano-engine/src/")[2]
        lines = file["summary"]["lines"]
        tried(lines=lines["count"], covered_lines=lines["covered"])
        if lines["count"] - lines["covered"] > UNREACHABLE.get(name, 0) and not name.startswith(
            ("driver/", "host", "trace")
        ):
            missed[name] = lines
    assert not missed

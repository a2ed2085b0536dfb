"""What is proved of the Rust side by its own tools, run and counted: `make soak`, or `CANO_SOAK=1`.

Of the interleavings there is a short form, for those who have compiled them; the others have theirs in `cargo test`. A tool that
is not installed is a skip that says how to get it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
SOAK = os.environ.get("CANO_SOAK") == "1"
# Two hundred crates that nothing else needs, by far the longest part of it on a machine that has not compiled them yet.
INTERLEAVINGS = ROOT / "target/interleavings"
EVENTS = 10_000_000
SCHEDULES = 5_000_000 if SOAK else 10_000
# Lines and branches that a `match` or an `else` must have and nothing reaches: no retry is left where there is no back-off; a
# queue that is not empty has a first element. (Two branches of the timers are of a copy for another type of key.)
UNREACHABLE = {"lines": {"policy.rs": 1, "split.rs": 1}, "branches": {"split.rs": 1, "timers.rs": 2}}
# The driver's threads and the hand-off's, under ThreadSanitizer.
THREADED = ("handoff", "driver_run", "driver_split", "store")
LIST = ("+nightly", "component", "list", "--installed")

long = pytest.mark.skipif(not SOAK, reason="takes long: CANO_SOAK=1")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600 if SOAK else 300),
    pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo"),
]


def cargo(*arguments: str, ends: tuple[int, ...] = (0,), **environment: str) -> str:
    """Run a cargo command that must succeed (or end as `ends` says); what it said."""
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
    assert ended.returncode in ends, ended.stdout[-4000:]
    return ended.stdout


def needs(tool: str, *, how: str) -> None:
    if subprocess.run(["cargo", *tool.split(), "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"needs {how}")


@long
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
@pytest.mark.skipif(
    not SOAK and not INTERLEAVINGS.is_dir(), reason="not compiled, which takes a minute and more: make interleavings"
)
def test_every_order_of_what_threads_share(tried: Callable[..., None]) -> None:
    crate = ("--manifest-path", "tests/interleavings/Cargo.toml", "--target-dir", str(INTERLEAVINGS))
    test = ("test", "--quiet", "--locked", *crate)
    compiler = subprocess.Popen(
        ["cargo", *test, "--no-run"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        compiler.wait(2400 if SOAK else 60)  # a new compiler, say, begins from the beginning
    except subprocess.TimeoutExpired:
        os.killpg(compiler.pid, signal.SIGTERM)
        compiler.wait()
        pytest.skip("not compiled within a minute: make interleavings")
    said = cargo(*test, CANO_SCHEDULES=str(SCHEDULES))
    orders = [int(count) for count in re.findall(r"loom: (\d+) orders", said)]
    schedules = [int(count) for count in re.findall(r"shuttle: (\d+) schedules", said)]
    assert len(orders) == 9, said
    assert schedules == [SCHEDULES], said
    tried(loom_models=len(orders), loom_orders=sum(orders), shuttle_schedules=sum(schedules))


@long
@pytest.mark.fault("F12")
def test_under_miri(tried: Callable[..., None]) -> None:
    needs("+nightly miri", how="Miri: rustup +nightly component add miri")
    said = cargo(
        *("+nightly", "miri", "test", "--quiet", "--locked", "--package", "cano-engine", "--no-default-features"),
        *("--target-dir", "target/miri"),
        *("--test", "handoff", "--test", "fuzz_split", "--test", "fuzz_run", "--test", "policy"),
        CANO_FUZZ_EVENTS="300",
        MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-deterministic-floats",
    )
    tried(tests_under_miri=sum(int(count) for count in re.findall(r"(\d+) passed", said)))


@long
@pytest.mark.fault("F11")
def test_under_thread_sanitizer(tried: Callable[..., None]) -> None:
    rustup = shutil.which("rustup")
    has = rustup and subprocess.run([rustup, *LIST], capture_output=True, text=True, check=False).stdout
    if "rust-src" not in (has or ""):
        pytest.skip("needs the sources of a nightly's standard library: rustup +nightly component add rust-src")
    said = cargo(
        *("+nightly", "test", "--quiet", "--locked", "-Zbuild-std", "--target", "x86_64-unknown-linux-gnu"),
        *("--target-dir", "target/tsan", "--package", "cano-engine"),
        *(word for name in THREADED for word in ("--test", name)),
        RUSTFLAGS="-Zsanitizer=thread",
    )
    assert "WARNING: ThreadSanitizer" not in said, said[-4000:]
    tried(tests_under_thread_sanitizer=sum(int(count) for count in re.findall(r"(\d+) passed", said)))


@long
@pytest.mark.fault("coverage")
def test_coverage_of_the_machines(tmp_path: Path, tried: Callable[..., None]) -> None:
    needs("llvm-cov", how="cargo install cargo-llvm-cov; rustup toolchain install nightly --component llvm-tools")
    report = tmp_path / "coverage.json"
    command = ["+nightly", "llvm-cov", "--branch", "--package", "cano-engine", "--locked", "--json"]
    cargo(*command, "--output-path", str(report))
    missed: dict[str, Any] = {}
    for file in json.loads(report.read_text(encoding="utf-8"))["data"][0]["files"]:
        name = file["filename"].partition("rust/cano-engine/src/")[2]
        for what, unreachable in UNREACHABLE.items():
            counted = file["summary"][what]
            tried(**{what: counted["count"], f"covered_{what}": counted["covered"]})
            left = counted["count"] - counted["covered"]
            if left > unreachable.get(name, 0) and not name.startswith(("driver/", "host", "trace")):
                missed[f"{what} of {name}"] = counted
    assert not missed


@long
@pytest.mark.fault("platforms")
def test_the_crates_are_of_known_licences_and_sources(tried: Callable[..., None]) -> None:
    needs("deny", how="cargo install cargo-deny")
    cargo("deny", "check", "licenses", "bans", "sources")
    tried(crates=(ROOT / "Cargo.lock").read_text(encoding="utf-8").count("[[package]]"))
    if "failed to fetch advisory database" in cargo("deny", "fetch", "db", ends=(0, 1)):
        pytest.skip("of licences and sources nothing is to be said; advisories need the network")
    cargo("deny", "check", "advisories")

"""Choosing an engine: never a surprise."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from tests.contract.given import S, to

import cano
from cano import CanoError, ConfigurationError, EngineUnavailableError, Workflow, _engine, as_completed, fan_out
from cano._engine import NAMES, why_unavailable


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter on the same package."""
    import os

    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    return subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, timeout=50, check=False
    )


async def test_the_engine_asked_for_is_the_one_that_runs(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE)
    assert workflow.engine == engine
    assert await workflow.orchestrate(S.START) is S.DONE
    assert f"on the {engine} engine" in repr(workflow)


def test_the_environment_decides_where_none_is_asked_for(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANO_ENGINE", engine)
    assert Workflow().engine == engine


def test_the_environment_decides_only_there(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANO_ENGINE", "nonsense")
    assert Workflow(engine=engine).engine == engine


def test_native_where_it_is_available(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANO_ENGINE", raising=False)
    assert Workflow().engine == ("python" if why_unavailable("native") else "native")
    monkeypatch.setenv("CANO_ENGINE", "")  # set and empty is as good as not set
    assert Workflow().engine == ("python" if why_unavailable("native") else "native")


def test_a_bad_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANO_ENGINE", "rust")
    with pytest.raises(ConfigurationError, match='CANO_ENGINE must be "native" or "python", but \'rust\' came'):
        Workflow()


@pytest.mark.parametrize("bad", ["rust", "Native", "", 7, True, NAMES])
def test_no_such_engine_is_an_error_where_it_is_written(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match='engine must be "native", "python" or None, but'):
        Workflow(engine=bad)
    with pytest.raises(ConfigurationError, match='engine must be "native", "python" or None, but'):
        as_completed(str, [1], engine=bad)


async def test_fan_out_says_the_same(engine: str) -> None:
    with pytest.raises(ConfigurationError, match="engine must be"):
        await fan_out(str, [1], engine="rust")
    assert (await fan_out(str, [1], engine=engine)).outputs() == ["1"]


@pytest.fixture
def without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine, "_engines", {})
    monkeypatch.setattr(_engine, "_unavailable", {"native": "no native module was built for this Python"})


@pytest.mark.usefixtures("without_native")
def test_asking_for_an_engine_that_is_not_there_raises_and_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(EngineUnavailableError) as caught:
        Workflow(engine="native")
    message = str(caught.value)
    assert "the native engine is not available here: no native module was built for this Python" in message
    assert "pip install" in message
    assert 'engine="python"' in message
    assert isinstance(caught.value, CanoError)
    assert isinstance(caught.value, RuntimeError)
    monkeypatch.setenv("CANO_ENGINE", "native")
    with pytest.raises(EngineUnavailableError):
        Workflow()


@pytest.mark.usefixtures("without_native")
def test_python_where_native_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANO_ENGINE", raising=False)
    assert Workflow().engine == "python"


@pytest.mark.usefixtures("without_native")
def test_sleep_works_without_the_native_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine, "_pause", None)
    assert asyncio.run(asyncio.wait_for(_sleeping(), 10)) == "slept"


async def _sleeping() -> str:
    return await cano.sleep(0, "slept")


@pytest.mark.alone
def test_the_module_tells_what_is_here() -> None:
    done = python("-m", "cano")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"cano {cano.__version__} on ")
    assert any(line.startswith("engine python: available") for line in lines)
    if why_unavailable("native") is None:
        assert "engine native: available (default)" in lines
        build = next(line for line in lines if line.startswith("native build: "))
        assert "profile" in build
        assert "features" in build
    else:
        assert any(line.startswith("engine native: not here: ") for line in lines)


@pytest.mark.alone
def test_the_module_tells_why_one_is_not_here() -> None:
    code = (
        "import cano._engine as engines, runpy; engines._unavailable['native'] = 'it was not built'; "
        "runpy.run_module('cano', run_name='__main__')"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert "engine native: not here: it was not built" in done.stdout
    assert "engine python: available (default)" in done.stdout
    assert "native build" not in done.stdout


@pytest.mark.alone
def test_the_module_tells_what_the_environment_chose() -> None:
    assert "engine python: available (default)" in python("-m", "cano", CANO_ENGINE="python").stdout
    told = python("-m", "cano", CANO_ENGINE="rust")
    assert told.returncode == 0
    assert 'default engine: none (CANO_ENGINE must be "native" or "python"' in told.stdout


@pytest.mark.alone
def test_import_starts_no_thread_and_loads_no_event_loop() -> None:
    code = "import sys, threading, cano; print('asyncio' in sys.modules, threading.active_count())"
    assert python("-c", code).stdout.split() == ["False", "1"]

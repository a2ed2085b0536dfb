"""What a reader has to know beside the figures: machine, versions, date."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import Any

import cano


def facts(packages: tuple[str, ...] = ("uvloop", "anyio", "aiometer")) -> dict[str, Any]:
    """The facts about this run, as they go into the results."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "load_before": round(os.getloadavg()[0], 2),
        },
        "interpreter": {
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "compiler": platform.python_compiler(),
            "optimised": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
            "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        },
        "versions": {"cano": cano.__version__, **{name: _version(name) for name in packages}},
        "native": _native(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor()} ({platform.machine()})"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _native() -> dict[str, Any]:
    from cano import _core

    build: dict[str, Any] = dict(_core.build_info())
    build["module_bytes"] = Path(sys.modules["cano._core"].__file__ or "").stat().st_size
    return build

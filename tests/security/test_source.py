"""What is not in the source at all: nothing evaluated, unpickled, opened, started or listened on."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.fault("security")

ROOT = Path(__file__).parents[2]
PYTHON = sorted((ROOT / "python/cano").rglob("*.py"))
RUST = sorted(path for crate in ("cano-engine", "cano-py") for path in (ROOT / "rust" / crate / "src").rglob("*.rs"))

# Modules that run text or bytes as code, reach the network or the file system, or start processes.
MODULES = {
    "_pickle", "code", "codeop", "ctypes", "dbm", "dill", "ftplib", "glob", "http", "imaplib", "marshal", "mmap",
    "multiprocessing", "pathlib", "pickle", "poplib", "pty", "runpy", "shelve", "shutil", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "timeit", "urllib", "webbrowser", "xml", "yaml",
}  # fmt: skip
CALLS = {"__import__", "breakpoint", "compile", "eval", "exec", "input", "open"}
METHODS = {
    "bind", "connect", "create_connection", "create_datagram_endpoint", "create_server", "create_subprocess_exec",
    "create_subprocess_shell", "create_unix_server", "execv", "fork", "listen", "load", "loads", "open_connection", "popen",
    "read_text", "serve_forever", "spawnv", "start_server", "start_unix_server", "system", "write_text",
}  # fmt: skip


# Where one of these is needed all the same, and why nobody can use it from outside.
ALLOWED = {
    # An error that somebody pickles has each of its facts tried first, so that one which cannot travel is described instead.
    # What is loaded there is what was dumped a line above.
    "python/cano/_portable.py": ["pickle", "loads"],
    # What cano imports later anyway, by a list of names that stands above it.
    "python/cano/_forks.py": ["import_module"],
}


def dangers(source: str) -> Iterator[str]:
    """What a module of Python does that ours must not."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [alias.name for alias in names if alias.name.partition(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module), level=0):
                found = [module] if module.partition(".")[0] in MODULES else []
            case ast.Call(func=ast.Name(id=name)):
                found = [name] if name in CALLS else []
            case ast.Attribute(value=ast.Name(id="builtins" | "__builtins__"), attr=name):
                found = [name] if name in CALLS else []
            case ast.Call(func=ast.Attribute(attr=name)):
                found = [name] if name in METHODS else []
            case ast.Attribute(attr="import_module"):
                found = ["import_module"]
            case _:
                found = []
        yield from (f"line {getattr(node, 'lineno', 0)}: {name}" for name in found)


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_dangerous_in_python(path: Path, tried: Callable[..., None]) -> None:
    source = path.read_text(encoding="utf-8")
    found = [danger.partition(": ")[2] for danger in dangers(source)]
    assert found == ALLOWED.get(path.relative_to(ROOT).as_posix(), [])
    tried(lines_searched=source.count("\n"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import os.path, socket", "import urllib.request", "eval('1')",
        "def f(x):\n    exec(x)", "open('x')", "loop.create_server(f)", "os.system('ls')", "importlib.import_module(x)",
        "builtins.eval(x)", "marshal.loads(x)",
    ],
)  # fmt: skip
def test_the_search_would_find_it(source: str) -> None:
    assert list(dangers(source)) != []


# In Rust: the network, files, processes; Python text that is run; modules that were not looked at here.
IN_RUST = re.compile(
    r"std::(net|fs|process::(?!id\b)\w+|os)\b|\btokio::(net|fs|process|io)\b|\b(TcpListener|UdpSocket|UnixListener|Command)\b"
    r"|\.run\(\s*c?\"|\.eval\(|py_run|PyModule::from_code|\bpickle\b|\bmarshal\b"
)
IMPORTED = re.compile(r"import\((?:intern!\()?(?:\w+(?:\.py\(\))?, )?\"([\w.]+)\"")
MAY_BE_IMPORTED = re.compile(
    r"cano(\.|$)|_?asyncio(\.|$)|_collections_abc$|types$|contextvars$|functools$|weakref$|gc$|sys$|collections"
)


@pytest.mark.parametrize("path", RUST, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_dangerous_in_rust(path: Path, tried: Callable[..., None]) -> None:
    source = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
    assert [found.group() for found in IN_RUST.finditer(source)] == []
    assert [name for name in IMPORTED.findall(source) if not MAY_BE_IMPORTED.match(name)] == []
    tried(lines_searched=source.count("\n"))


def test_the_searches_see_something() -> None:
    assert len(PYTHON) > 40
    assert len(RUST) > 30
    everything = "".join(path.read_text(encoding="utf-8") for path in RUST)
    assert len(IMPORTED.findall(everything)) > 20
    assert IN_RUST.search("let x = std::net::TcpListener::bind(a)")

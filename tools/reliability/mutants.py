"""Changes the pure engine's machines and timers in one place at a time, and sees whether a test fails: `make mutants-python`.

A mutant that no test notices is either a gap in the tests, or changes nothing that anybody could see. The second kind is listed
with its reason in `mutants.toml`; any other survivor fails this program, and so does a reason whose mutant is killed or gone.
Words of messages, names and the module's own numbers (compared by name only) are left alone.

Each mutant has a forked process, in which an import hook puts the changed module in place of the real one.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tools.reliability import notes

ROOT = Path(__file__).parents[2]
PURE = ROOT / "python/cano/_engine/pure"
# The machines' own tests first; what they let through meets the contract.
OF_MACHINES = ["tests/pure/test_machines.py", "tests/pure/test_machines_closely.py", "tests/pure/test_guards.py"]
OF_TIMERS = ["tests/pure/test_timers.py", "tests/pure/test_timers_closely.py"]
OF_THE_CONTRACT = [
    f"tests/contract/test_{name}.py"
    for name in ("strategies", "split_join", "hedging", "bulkhead", "retries", "transitions")
]
TESTS = {
    **dict.fromkeys(("join", "split", "machine", "policy"), (OF_MACHINES, OF_THE_CONTRACT)),
    "timers": (OF_TIMERS, OF_THE_CONTRACT),
}
PLUGINS = ("pytest_asyncio.plugin", "pytest_timeout")  # loaded once; looking for others takes longer than the tests
LIMIT = 60.0  # seconds for a mutant's tests; who takes longer hangs, and is killed by that
AT_LEAST = 0.95

_PAIRS: list[tuple[type[Any], type[Any]]] = [
    (ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot), (ast.In, ast.NotIn),
    (ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.And, ast.Or),
]  # fmt: skip
_SWAPS: dict[type[Any], type[Any]] = {**dict(_PAIRS), **{two: one for one, two in _PAIRS}, ast.Pow: ast.Mult}


class Mutant(NamedTuple):
    """One change of one module."""

    file: str
    name: str
    tree: ast.Module


def changes(node: ast.AST) -> Iterator[Callable[[Any], ast.AST]]:
    """Ways to change a node; each gets a copy of it, and gives what to put there."""
    match node:
        case ast.Compare(ops=[_]):
            yield lambda n: _with(n, ops=[_SWAPS[type(n.ops[0])]()])
            if isinstance(node.ops[0], (ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                yield lambda n: ast.UnaryOp(ast.Not(), n)
        case ast.Compare():
            for place in range(len(node.ops)):
                yield lambda n, place=place: _with(  # type: ignore[misc]
                    n, ops=[_SWAPS[type(op)]() if i == place else op for i, op in enumerate(n.ops)]
                )
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() if type(node.op) in _SWAPS:
            yield lambda n: _with(n, op=_SWAPS[type(n.op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield lambda n: n.operand
        case ast.Constant(value=bool()):
            yield lambda n: ast.Constant(not n.value)
        case ast.Constant(value=int() | float()):
            yield lambda n: ast.Constant(n.value + 1)
        case ast.If() | ast.IfExp() if isinstance(node.test, (ast.Name, ast.Attribute, ast.Call)):
            yield lambda n: _with(n, test=ast.UnaryOp(ast.Not(), n.test))
        case ast.Call(func=ast.Name(id="min" | "max")):
            yield lambda n: _with(n, func=ast.Name("max" if n.func.id == "min" else "min", ast.Load()))
        case ast.Call(func=ast.Name(id="ceil")):
            yield lambda n: _with(n, func=ast.Name("int", ast.Load()))
        case _:
            pass
    match node:
        case ast.Assign() | ast.AugAssign() | ast.Raise():
            yield lambda n: ast.Pass()
        case ast.Expr(value=ast.Call()):
            yield lambda n: ast.Pass()
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield lambda n: ast.Return(ast.Constant(None))
        case _:
            pass


def _with(node: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def mutants(file: str) -> Iterator[Mutant]:
    """Every mutant of a module, one after the other."""
    tree = ast.parse((PURE / f"{file}.py").read_text(encoding="utf-8"))
    seen: dict[str, int] = {}
    functions = [
        (f"{top.name}.{inner.name}" if inner is not top else inner.name, inner)
        for top in tree.body
        for inner in (top.body if isinstance(top, ast.ClassDef) else [top])
        if isinstance(top, (ast.ClassDef, ast.FunctionDef)) and isinstance(inner, ast.FunctionDef)
    ]
    for owner, function in functions:
        for parent in list(ast.walk(function)):
            for field, value in ast.iter_fields(parent):
                if field in ("annotation", "returns", "decorator_list"):
                    continue
                for place, node in enumerate(value if isinstance(value, list) else [value]):
                    for change in changes(node) if isinstance(node, ast.AST) else ():
                        new = ast.fix_missing_locations(ast.copy_location(change(copy.deepcopy(node)), node))
                        before, after = (ast.unparse(n).partition("\n")[0] for n in (node, new))
                        name = f"{file}.{owner}: {before} -> {after}"
                        seen[name] = seen.get(name, 0) + 1
                        if isinstance(value, list):
                            value[place] = new
                        else:
                            setattr(parent, field, new)
                        yield Mutant(file, name if seen[name] == 1 else f"{name} #{seen[name]}", tree)
                        if isinstance(value, list):
                            value[place] = node
                        else:
                            setattr(parent, field, node)


class Hook(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.name = f"cano._engine.pure.{mutant.file}"
        self.code = compile(mutant.tree, str(PURE / f"{mutant.file}.py"), "exec")

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """Find the one module."""
        return importlib.machinery.ModuleSpec(name, self) if name == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed code as the module."""
        exec(self.code, module.__dict__)


def survives(mutant: Mutant | None, tests: list[str]) -> bool:
    """Whether all tests pass on a mutant (`None`: on the machines as they are), in a process of its own."""
    child = os.fork()
    if not child:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        if mutant is not None:
            sys.meta_path.insert(0, Hook(mutant))
        try:
            import pytest

            plugins = [f"-p{name}" for name in ("no:cacheprovider", *PLUGINS)]
            os._exit(int(pytest.main(["-x", "-q", "--assert=plain", *plugins, "--engine", "python", *tests])))
        finally:
            os._exit(70)
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main() -> int:
    """Try every mutant; return 1 if the tests or the list of reasons have a gap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="*", help="modules, or parts of mutants' names")
    only = parser.parse_args().only
    os.chdir(ROOT)
    reasons = tomllib.loads((Path(__file__).with_name("mutants.toml")).read_text(encoding="utf-8"))["equal"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for module in ("pytest", "asyncio", "unittest.mock", *PLUGINS):  # once, before any fork
        importlib.import_module(module)
    for tests in (OF_MACHINES, OF_TIMERS, OF_THE_CONTRACT):
        if not survives(None, tests):
            sys.exit(f"the tests fail on the machines as they are: {tests}")
    tried, lived = 0, []
    for mutant in (m for file in TESTS for m in mutants(file) if not only or any(part in m.name for part in only)):
        tried += 1
        if all(survives(mutant, tests) for tests in TESTS[mutant.file]):
            lived.append(mutant.name)
            print(("explained: " if mutant.name in reasons else "SURVIVES:  ") + mutant.name, flush=True)
    unexplained = [name for name in lived if name not in reasons]
    stale = [] if only else [name for name in reasons if name not in lived]
    print(f"{tried} mutants, {tried - len(lived)} killed, {len(lived)} survive, {len(unexplained)} without a reason")
    print("".join(f"no longer a survivor: {name}\n" for name in stale), end="")
    if not only:
        counts = {"mutants": tried, "killed": tried - len(lived), "survive": len(lived)}
        facts = [f"`{name.replace('|', chr(92) + '|')}`: {reasons.get(name, 'not explained')}" for name in lived]
        notes.write("mutants-python", "mutation", "the pure engine's machines and timers", counts, facts)
    return int(bool(unexplained or stale) or tried - len(lived) < AT_LEAST * tried)


if __name__ == "__main__":
    sys.exit(main())

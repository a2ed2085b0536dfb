"""Finding out how a user's callable wants to be called: which argument gets the store, sync or async.

Everything is decided once, at registration (for tasks chosen at run time, once per function), so that an engine
only looks at two small integers. `inspect` is imported late: most callables are plain functions, whose code object
says all, and importing the package must stay cheap.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

from cano._naming import describe_error
from cano.errors import ConfigurationError
from cano.steps import Node, node_run

from .contract import COROUTINE, INLINE, ITEM, ITEM_STORE, NOTHING, STORE, THREAD, Call, SplitPlan

_CO_VARARGS = 0x04
_CO_VARKEYWORDS = 0x08
_CO_COROUTINE = 0x80
_CO_ITERABLE_COROUTINE = 0x100

# One parameter as (name, required, keyword_only).
_Parameter = tuple[str, bool, bool]


def describe(target: object) -> str:
    """Name a callable or task object for messages: never its value, never an address."""
    name = getattr(target, "__qualname__", None)
    if isinstance(name, str):
        return name.replace("<locals>.", "")
    if isinstance(target, functools.partial):
        return f"partial({describe(target.func)})"
    return type(target).__qualname__


def is_coroutine_function(target: Any) -> bool:
    """Whether calling `target` gives a coroutine, looked up without importing `inspect` for the common kinds."""
    while isinstance(target, functools.partial):
        target = target.func
    if isinstance(target, MethodType):
        target = target.__func__
    if isinstance(target, FunctionType):
        if target.__code__.co_flags & (_CO_COROUTINE | _CO_ITERABLE_COROUTINE):
            return True
        return bool(target.__dict__) and _marked(target)
    if isinstance(target, (type, BuiltinFunctionType)):
        return False
    if _marked(target):
        return True
    call = getattr(type(target), "__call__", None)  # noqa: B004 - the method itself is looked at
    return isinstance(call, FunctionType) and is_coroutine_function(call)


def _awaited(target: Any, form: Callable[..., Any]) -> Callable[..., Any]:
    """Have the generators of a `types.coroutine` awaited: they can be, though they have no `__await__`."""
    while isinstance(target, functools.partial):
        target = target.func
    code = getattr(target, "__code__", None)
    if not isinstance(code, CodeType) or not code.co_flags & _CO_ITERABLE_COROUTINE:
        return form

    async def call(*arguments: Any) -> Any:
        return await form(*arguments)

    return call


def _marked(target: Any) -> bool:
    # inspect.markcoroutinefunction (3.12+), and mocks, say so in ways only `inspect` knows.
    import inspect

    return inspect.iscoroutinefunction(target)


def _plain_parameters(function: FunctionType, bound: int) -> tuple[list[_Parameter], bool]:
    code: CodeType = function.__code__
    names = code.co_varnames
    count = code.co_argcount
    first_default = count - len(function.__defaults__ or ())
    parameters: list[_Parameter] = [(names[i], i < first_default, False) for i in range(bound, count)]
    kwdefaults = function.__kwdefaults__ or {}
    parameters.extend((name, name not in kwdefaults, True) for name in names[count : count + code.co_kwonlyargcount])
    return parameters, bool(code.co_flags & _CO_VARARGS)


def _parameters(target: Any) -> tuple[list[_Parameter], bool] | None:
    """Return the parameters a caller may fill and whether there is `*args`; `None` when Python cannot tell."""
    function, bound = target, 0
    if isinstance(function, MethodType):
        function, bound = function.__func__, 1
    if isinstance(function, FunctionType) and not function.__dict__ and function.__code__.co_argcount >= bound:
        return _plain_parameters(function, bound)
    import inspect

    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return None
    parameters: list[_Parameter] = []
    variadic = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            variadic = True
        elif parameter.kind is not parameter.VAR_KEYWORD:
            keyword_only = parameter.kind is parameter.KEYWORD_ONLY
            parameters.append((parameter.name, parameter.default is parameter.empty, keyword_only))
    return parameters, variadic


def _refuse(name: str, wanted: str, parameters: list[_Parameter]) -> ConfigurationError:
    required = ", ".join(p[0] for p in parameters if p[1])
    if not required:
        return ConfigurationError(
            f"{name} must take {wanted}; it takes {'no such argument' if parameters else 'nothing'}"
        )
    return ConfigurationError(
        f"{name} must take {wanted}; it needs arguments for: {required}. "
        f"Give the others a default, or bind them with functools.partial."
    )


def _task_form(target: Any, name: str) -> tuple[Callable[..., Any], int]:
    """The argument rule of a task: nothing, or the store."""
    found = _parameters(target)
    if found is None:
        return target, STORE
    parameters, variadic = found
    required = [p for p in parameters if p[1]]
    if len(required) > 1 or (required and required[0][0] != "store" and any(p[0] == "store" for p in parameters)):
        raise _refuse(name, "nothing or the store", parameters)
    chosen = required[0] if required else None
    if chosen is None:
        chosen = next((p for p in parameters if p[0] == "store"), None)
    if chosen is None:
        return (target, STORE) if variadic else (target, NOTHING)
    if chosen[2] or parameters[0] is not chosen:
        return _by_keyword(target, chosen[0]), STORE
    return target, STORE


def _map_form(target: Any, name: str, with_store: bool) -> tuple[Callable[..., Any], int]:
    """The argument rule of a split over data: the item, or the item and the store where there is one."""
    found = _parameters(target)
    if found is None:
        return target, ITEM
    parameters, variadic = found
    positional = [p for p in parameters if not p[2]]
    named = next((p for p in parameters if p[0] == "store"), None) if with_store else None
    # A function whose only parameter is called `store` is given the item: it asked for one thing.
    if named is not None and len(positional) <= 1 and not named[2]:
        named = None
    required = [p for p in parameters if p[1] and p is not named]
    if with_store and named is None and len(required) == 2 and not any(p[2] for p in required):
        return target, ITEM_STORE
    if len(required) > 1 or any(p[2] for p in required) or not (positional or variadic):
        wanted = "the item, or the item and the store" if with_store else "the item (there is no store here)"
        raise _refuse(name, wanted, parameters)
    if named is None:
        return target, ITEM
    if positional[0] is named:
        raise _refuse(name, "the item first and the store second", parameters)
    if len(positional) > 1 and positional[1] is named:
        return target, ITEM_STORE
    return _item_and_keyword(target), ITEM_STORE


def _by_keyword(target: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(store: Any) -> Any:
        return target(**{name: store})

    return call


def _item_and_keyword(target: Callable[..., Any]) -> Callable[..., Any]:
    def call(item: Any, store: Any) -> Any:
        return target(item, store=store)

    return call


def _name_of(task: Any) -> str:
    name = getattr(task, "name", None)
    return name if isinstance(name, str) and name else describe(type(task))


def callable_of(task: Any, what: str = "a task", *, inline: bool = False) -> tuple[Callable[..., Any], str]:
    """Return the callable of a task (itself, its `run`, a node's cycle) and its name; refuse what is no task."""
    run = getattr(task, "run", None)
    if isinstance(task, type):
        if run is not None or issubclass(task, Node):
            raise ConfigurationError(
                f"{what} must be an object, but the class {task.__qualname__} came; try {task.__qualname__}()"
            )
        return task, task.__qualname__
    if isinstance(task, Node):
        return node_run(task, inline), _name_of(task)
    if callable(run):
        return run, _name_of(task)
    if callable(task):
        return task, describe(task)
    if hasattr(task, "cr_code") or hasattr(task, "__await__"):
        close = getattr(task, "close", None)
        if close is not None and hasattr(task, "cr_code"):
            close()  # refused here: that it was never awaited is no second mistake
        raise ConfigurationError(
            f"{what} must be a function or an object with run(), but an awaitable "
            f"({type(task).__name__} {describe(task)}) came; pass the function itself, without calling it"
        )
    raise ConfigurationError(f"{what} must be a callable or an object with run(), but {describe(task)} came")


def examine_task(task: Any, *, inline: bool, name: str | None = None, what: str = "a task") -> Call:
    """Examine a state's or branch's task."""
    target, found_name = callable_of(task, what, inline=inline)
    function, arity = _task_form(target, found_name)
    return Call(_awaited(target, function), _kind(target, inline), arity, name or found_name)


def examine_map(function: Any, *, inline: bool, name: str | None = None, with_store: bool = True) -> Call:
    """Examine the function of a split over data, remembering the answer for plain functions (see `_SHAPES`)."""
    key = None
    if type(function) is FunctionType and not (function.__dict__ or function.__defaults__ or function.__kwdefaults__):
        # With the name: what a function is called may be changed, and its code stay the same.
        key = (function.__code__, inline, function.__qualname__)
        shape = _MAP_SHAPES.get(key)
        if shape is not None and (with_store or shape[1] == ITEM):
            return Call(function, shape[0], shape[1], name or shape[2])
    target, found_name = callable_of(function, "the function of a split over data")
    form, arity = _map_form(target, found_name, with_store)
    form = _awaited(target, form)
    kind = _kind(target, inline)
    if key is not None and form is function:
        if len(_MAP_SHAPES) >= _SHAPES_LIMIT:
            _MAP_SHAPES.clear()
        _MAP_SHAPES[key] = (kind, arity, found_name)
    return Call(form, kind, arity, name or found_name)


def _kind(target: Any, inline: bool) -> int:
    if is_coroutine_function(target):
        return COROUTINE
    return INLINE if inline else THREAD


# Examining costs 1-10 µs; branches chosen at run time are often the same function or class many times over. The cache
# is keyed on the code that runs, holds only the answer, and is small: nothing of the user's is kept alive by it.
_SHAPES: dict[tuple[CodeType, bool], tuple[int, int]] = {}
_MAP_SHAPES: dict[tuple[CodeType, bool, str], tuple[int, int, str]] = {}
_SHAPES_LIMIT = 512


def examine_branch(task: Any, plan: SplitPlan) -> Call:
    """Examine a branch's task chosen at run time.

    Raises:
        ConfigurationError: It is no task, or says what it wants in a way that makes no sense; also where code of its own
            has raised meanwhile. So it is not retried: nobody knows how to call it.
    """
    call: Call = _asking(task, _examine_branch, plan)
    return call


def check_branch(task: Any) -> None:
    """See that a task can be a branch's.

    Raises:
        ConfigurationError: As `examine_branch`.
    """
    _asking(task, _check_branch)


def _check_branch(task: Any) -> None:
    from cano.options import Options

    callable_of(task, "a branch")
    Options.of(task)


def _asking(task: Any, question: Callable[..., Any], *arguments: Any) -> Any:
    """Ask a task what it says of itself, which may run code of the user's."""
    try:
        return question(task, *arguments)
    except (ConfigurationError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ConfigurationError(
            f"a branch's task of type {type(task).__qualname__} could not be examined: {describe_error(error)}"
        ) from error


def _examine_branch(task: Any, plan: SplitPlan) -> Call:
    """Examine it, remembering the answer per function."""
    run = getattr(task, "run", None)
    inline = plan.inline
    if type(task) is not FunctionType and getattr(task, "config", None) is not None:
        return _with_options(task, plan)
    target = run if run is not None else task
    function = target.__func__ if isinstance(target, MethodType) else target
    if isinstance(function, FunctionType) and not function.__dict__ and not isinstance(task, type):
        key = (function.__code__, inline)
        shape = _SHAPES.get(key)
        if shape is not None:
            return Call(target, shape[0], shape[1], describe(task) if run is None else _name_of(task))
        call = examine_task(task, inline=inline, what="a branch")
        if call.function == target and not function.__defaults__ and not function.__kwdefaults__:
            if len(_SHAPES) >= _SHAPES_LIMIT:
                _SHAPES.clear()
            _SHAPES[key] = (call.kind, call.arity)
        return call
    return examine_task(task, inline=inline, what="a branch")


def _with_options(task: Any, plan: SplitPlan) -> Call:
    """Examine a branch's task that has a `config`."""
    from cano.options import Options

    its = Options.of(task)
    own = its.given - plan.given
    call = examine_task(task, inline=its.inline if "inline" in own else plan.inline, what="a branch")
    if "retry" in own or "attempt_timeout" in own:
        call.own = (
            its.retry if "retry" in own else plan.retry,
            its.attempt_timeout if "attempt_timeout" in own else plan.attempt_timeout,
        )
    return call

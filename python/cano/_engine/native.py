"""The native engine: the seam of `contract.py`, carried over to `cano._core`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from cano import _core

from .contract import Engine, Plan, SplitPlan

if TYPE_CHECKING:
    from cano.cancel import CancelToken
    from cano.observe import Dispatcher
    from cano.results import SplitResult

    from .outbox import Outbox


class NativeEngine(Engine):
    """The engine named `native`."""

    name = "native"

    def new_store(self) -> Any:
        return _core.MemoryStore()

    def run(
        self,
        plan: Plan,
        initial: int,
        store: Any,
        timeout: float | None,
        cancel: CancelToken | None,
        dispatcher: Dispatcher | None,
    ) -> Awaitable[Any]:
        compiled = plan.compiled
        if compiled is None:
            compiled = plan.compiled = _core.PlanSpec(plan)
        return _core.Run(compiled, initial, store, timeout, cancel, dispatcher)

    def fan_out(self, split: SplitPlan, outbox: Outbox | None = None) -> Awaitable[SplitResult[Any]]:
        return _core.SplitRun(split, outbox)

    def pause_type(self) -> type[Any]:
        return _core.Pause

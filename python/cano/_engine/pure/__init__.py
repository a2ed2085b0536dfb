"""The pure-Python engine: the native engine's contract without native code, and the plainest statement of its rules."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from cano._engine.contract import Engine, Plan, SplitPlan

if TYPE_CHECKING:
    from cano._engine.outbox import Outbox
    from cano.cancel import CancelToken
    from cano.observe import Dispatcher
    from cano.results import SplitResult


class PureEngine(Engine):
    """The engine named `python`."""

    name = "python"

    def new_store(self) -> Any:
        from cano.store import MemoryStore

        return MemoryStore()

    def run(
        self,
        plan: Plan,
        initial: int,
        store: Any,
        timeout: float | None,
        cancel: CancelToken | None,
        dispatcher: Dispatcher | None,
    ) -> Awaitable[Any]:
        from .run import RunDriver

        return RunDriver(plan, initial, store, timeout, cancel, dispatcher)

    def fan_out(self, split: SplitPlan, outbox: Outbox | None = None) -> Awaitable[SplitResult[Any]]:
        from cano._engine.scope import Scope

        from .driver import SplitDriver

        return SplitDriver(split, None, Scope(), outbox).run()

    def pause_type(self) -> type[Any]:
        from .branch import Pause

        return Pause

"""Workflows as typed state machines, with split and join: an in-process engine with a Rust core.

Start with `Workflow`; for a split without a workflow there are `fan_out` and `as_completed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._engine import default_store_type
from ._engine.threads import set_thread_limit
from .cancel import CancelToken
from .errors import (
    AttemptTimeoutError,
    BranchCancelledError,
    CanoError,
    ConfigurationError,
    EngineUnavailableError,
    InternalError,
    JoinError,
    KeyNotFoundError,
    RetryExhaustedError,
    RunCancelledError,
    SplitTimeoutError,
    StoreError,
    TaskError,
    TypeMismatchError,
    WorkflowError,
    WorkflowTimeoutError,
)
from .fan import as_completed, fan_out, sleep
from .join import JoinConfig, JoinProgress, JoinStrategy, JoinVerdict
from .observe import RunEvent
from .policy import Retry
from .results import RunReport, SplitResult, SplitTaskResult, StateVisit
from .steps import Node, Task, TaskResult
from .workflow import Workflow

if TYPE_CHECKING:
    from .store import MemoryStore
else:
    MemoryStore = default_store_type()

__version__ = "0.1.0"

__all__ = [
    "AttemptTimeoutError",
    "BranchCancelledError",
    "CancelToken",
    "CanoError",
    "ConfigurationError",
    "EngineUnavailableError",
    "InternalError",
    "JoinConfig",
    "JoinError",
    "JoinProgress",
    "JoinStrategy",
    "JoinVerdict",
    "KeyNotFoundError",
    "MemoryStore",
    "Node",
    "Retry",
    "RetryExhaustedError",
    "RunCancelledError",
    "RunEvent",
    "RunReport",
    "SplitResult",
    "SplitTaskResult",
    "SplitTimeoutError",
    "StateVisit",
    "StoreError",
    "Task",
    "TaskError",
    "TaskResult",
    "TypeMismatchError",
    "Workflow",
    "WorkflowError",
    "WorkflowTimeoutError",
    "as_completed",
    "fan_out",
    "set_thread_limit",
    "sleep",
]

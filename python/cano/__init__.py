"""Workflows as typed state machines, with split and join: an in-process engine with a Rust core.

Start with `Workflow`; for a split without a workflow there are `fan_out` and `as_completed`.
"""

from __future__ import annotations

from ._engine.threads import set_thread_limit
from .cancel import CancelToken
from .errors import (
    AttemptTimeoutError,
    BranchCancelledError,
    CanoError,
    ConfigurationError,
    EngineUnavailableError,
    ForkedError,
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
from .store import MemoryStore
from .workflow import Workflow

__version__ = "0.1.0"

__all__ = [
    "AttemptTimeoutError",
    "BranchCancelledError",
    "CancelToken",
    "CanoError",
    "ConfigurationError",
    "EngineUnavailableError",
    "ForkedError",
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

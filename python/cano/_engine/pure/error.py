"""The error of the sans-I/O machines (the mirror of ``rust/cano-engine/src/error.rs``)."""

from __future__ import annotations

__all__ = ["MachineError"]


class MachineError(RuntimeError):
    """A driver handed a machine an event that is illegal in its present phase.

    It is a fault of the engine, never of the user's workflow; the machine is left exactly as it was.

    Attributes:
        event: The name of the refused event.
        reason: What was expected and what came.
    """

    def __init__(self, event: str, reason: str) -> None:
        """Build the error.

        Args:
            event: The name of the refused event.
            reason: What was expected and what came.
        """
        super().__init__(f"{event}: {reason}")
        self.event = event
        self.reason = reason

    def __reduce__(self) -> tuple[type[MachineError], tuple[str, str]]:
        """Pickle by facts; the default would hand the joined message to ``event``."""
        return type(self), (self.event, self.reason)

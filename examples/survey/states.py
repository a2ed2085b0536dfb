"""The states of a survey."""

import enum


class State(enum.Enum):
    """Where a survey stands; `flow.py` says what happens in each state."""

    DISCOVER = "discover"
    MEASURE = "measure"
    COLLECT = "collect"
    REST = "rest"
    RANK = "rank"
    REPORT = "report"
    DONE = "done"
    FAILED = "failed"

"""One file per question.

A question has `cases(budget)`, whose jobs the harness times beside one another; or `points(budget)` and
`measure(point)`, where each point needs a process of its own; or `records(budget)`, where it measures in its own way.
"""

# Timed side by side in one process.
TIMED = (
    "noop",
    "yields",
    "futures",
    "engine_waits",
    "sync_calls",
    "chain",
    "one_run",
    "fan_out",
    "store",
    "honest",
    "parallel",
)
# Those of them that have to do with the loop, and are asked on uvloop too.
ON_UVLOOP = ("noop", "yields", "futures", "engine_waits")
# A fresh process per point.
APART = ("memory", "scale", "fairness", "cold_start")

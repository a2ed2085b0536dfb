"""Drives one split on the loop's thread: starts branches, reports what became of them to the machine, obeys it.

The mirror of `rust/cano-py/src/split`. All rules of starting and joining are in `SplitMachine`; this knows the loop, the
clock and the user's objects. What it must get right (docs/design/branches-in-place.md):

- a branch is started in place, from the run's own stack or from a loop callback, never from inside another branch;
- branches that yield bare are resumed together, by a callback scheduled at the end of the turn that produced them;
- a batch, like the start loop, gives the loop its turn after a time slice;
- the decision falls at the deciding completion; losers are cancelled once, and awaited through any number of
  cancellations of the run;
- a KeyboardInterrupt may be raised at any instruction, between any two lines. What leaves through the loop then leaves
  things half done here, and whoever stops the loop cancels the run afterwards, as `asyncio.run` does: so a cancellation
  finds out what still runs from the branches themselves (`look_again`), and not from counts.

It is one object, since a turn touches all of it, and one class in floors: each file adds a subject to the class of the file
below. From the ground up: `state`, `ending`, `launch`, `handover`, `start`, `feeding`, `turn`, `lost`, and `life`, the
`SplitDriver`.
"""

from .life import SplitDriver

__all__ = ["SplitDriver"]

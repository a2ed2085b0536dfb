"""Figures beside the counts: `pytest --record FILE` has the tests here write `FILE.load.json`.

The file is `{interpreter: {section: facts}}`. Section `server`: `date`, `seconds`, `connections`, `uvicorn` (its version),
`memory_mb` as `[after warm-up, at the end]`, and for each of `asyncio`, `native`, `python` under `handlers`: `requests`,
`p50_ms`, `p99_ms`, `errors`. Sections `many_runs`, `branches`, `runs_at_once`, `timers`: per engine what `programs.py` printed:
`count`, `seconds`, `memory_mb` likewise, and `stall_ms`, the longest that the loop was kept from other work.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.record import interpreter


def put(config: Any, section: str, facts: dict[str, Any]) -> None:
    """Add to what the file says of this interpreter, if there is to be one."""
    record: Path | None = config.getoption("--record")
    if record is None:
        return
    file = record.with_name(f"{record.name}.load.json")
    stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    place = stored.setdefault(interpreter(), {}).setdefault(section, {})
    place.update(facts, date=time.strftime("%Y-%m-%d", time.gmtime()))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")

"""`python -m cano`: what is installed here, which engines can run, and why one cannot."""

from __future__ import annotations

import platform
import sys

from . import __version__
from ._engine import NAMES, resolve, why_unavailable
from .errors import CanoError


def lines() -> list[str]:
    """Return what there is to tell, a line each."""
    found = [f"cano {__version__} on {platform.python_implementation()} {platform.python_version()}"]
    try:
        default = resolve(None).name
    except CanoError as error:
        default = ""
        found.append(f"default engine: none ({error})")
    for name in NAMES:
        reason = why_unavailable(name)
        chosen = " (default)" if name == default else ""
        found.append(f"engine {name}: available{chosen}" if reason is None else f"engine {name}: not here: {reason}")
    if why_unavailable("native") is None:
        from ._core import build_info

        facts = build_info()
        found.append("native build: " + ", ".join(f"{key} {_show(value)}" for key, value in facts.items()))
    return found


def _show(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(str(part) for part in value) or "none"
    return str(value)


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")

from __future__ import annotations

from benches.peers.libraries import cano_native

PACKAGE, NAME = "cano", "cano, pure Python"


def jobs():
    return cano_native.jobs("python")

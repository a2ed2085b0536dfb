"""The same canary in generated workflows: in every output, every stored item and a context variable of random runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.properties import world
from tests.properties.recipes import Cook
from tests.security.canary import CANARY, Said, Secret, listening

pytestmark = [pytest.mark.fault("security"), pytest.mark.timeout(0 if os.environ.get("CANO_SOAK") == "1" else 300)]

SEEDS = 10_000 if os.environ.get("CANO_SOAK") == "1" else 150


class World(world.World):
    """Its branches return the canary, and its store has held it before the run."""

    def branch(self, place: str, branch: Any) -> Any:
        run = super().branch(place, branch)

        async def returns_a_secret(secret: Any = CANARY) -> Any:
            world.variable.set(secret)
            await run()
            return [secret, Secret()]

        return returns_a_secret

    def workflow(self) -> Any:
        workflow = super().workflow()
        workflow.store.put("key", CANARY)
        return workflow


def test_random_runs_say_nothing(engine: str, monkeypatch: pytest.MonkeyPatch, tried: Callable[..., None]) -> None:
    said, secrets_seen = Said(), 0
    tell = world.tell

    def tell_and_look(value: Any) -> Any:
        if isinstance(value, BaseException):
            said.error(value)
        elif value is not None:
            said.add("repr", repr(value) if type(value).__module__.startswith("cano") else "")
        return tell(value)

    monkeypatch.setattr(world, "tell", tell_and_look)
    for seed in range(SEEDS):
        with listening(said):
            trace = World(Cook(seed).run(), engine).run()
        secrets_seen += str(trace).count(CANARY)  # there it belongs: what was put out and stored
        assert said.told() == [], f"seed {seed}"
        tried(texts_searched=len(said), random_runs=1)
        said.texts.clear()
    assert secrets_seen > SEEDS

"""A workflow that is changed while it is looked at: by another thread, or by the code of its own states."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from cano import ConfigurationError, Workflow


class Meddling:
    """A state that does something when it is hashed, or shown: what another thread may do at that moment."""

    def __init__(self) -> None:
        self.meddle: Callable[[], Any] | None = None

    def _once(self) -> None:
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle()

    def __hash__(self) -> int:
        self._once()
        return 1

    def __repr__(self) -> str:
        self._once()
        return "meddling"


def to(state: str) -> Callable[[], str]:
    return lambda: state


@pytest.fixture
def meddling() -> Meddling:
    return Meddling()


@pytest.fixture
def workflow(engine: str, meddling: Meddling) -> Workflow[Any]:
    workflow: Workflow[Any] = Workflow(engine=engine)
    workflow.register("a", to("old"), inline=True).register(meddling, to("old"), inline=True)
    return workflow.add_exit_states(["old", "new"])


async def test_a_task_registered_while_a_run_is_planned_is_for_the_next_run(
    workflow: Workflow[Any], meddling: Meddling
) -> None:
    meddling.meddle = lambda: workflow.register("a", to("new"), inline=True, replace=True)
    assert await workflow.orchestrate("a") == "old"
    assert meddling.meddle is None
    assert await workflow.orchestrate("a") == "new"


async def test_an_exit_state_added_while_a_run_is_planned_is_for_the_next_run(
    workflow: Workflow[Any], meddling: Meddling
) -> None:
    workflow.register("b", to("c"), inline=True).register("c", to("old"), inline=True)
    meddling.meddle = lambda: workflow.add_exit_state("c")
    assert await workflow.orchestrate("b") == "old"
    assert await workflow.orchestrate("b") == "c"


@pytest.mark.parametrize(
    "look",
    [Workflow.to_mermaid, Workflow.to_dot, Workflow._repr_html_],
    ids=["mermaid", "dot", "html"],
)
def test_a_state_registered_while_it_is_looked_at(
    workflow: Workflow[Any], meddling: Meddling, look: Callable[[Workflow[Any]], Any]
) -> None:
    meddling.meddle = lambda: workflow.register("later", to("old"), inline=True)
    assert "later" not in str(look(workflow))
    assert meddling.meddle is None
    assert "later" in workflow.to_mermaid()


def test_of_two_threads_that_register_a_state_one_is_told(engine: str) -> None:
    """Both have looked and found nothing when the first of them registers it."""
    both = threading.Barrier(2, timeout=60)
    here = threading.current_thread()

    class Waits(str):
        __slots__ = ()

        def __hash__(self) -> int:
            if threading.current_thread() is not here:
                both.wait()
            return 1

    workflow: Workflow[Any] = Workflow(engine=engine)
    answers: list[Any] = []

    def register() -> None:
        try:
            answers.append(workflow.register(Waits("a"), to("b"), inline=True))
        except ConfigurationError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=register) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers, key=lambda answer: answer is workflow)[1] is workflow
    assert sum("registered already" in str(answer) for answer in answers) == 1

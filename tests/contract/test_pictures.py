"""Looking at a workflow: pictures and reprs, contract section 9."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any, Literal

import pytest
from tests.contract.given import S, join, to

import cano
from cano import (
    CancelToken,
    ConfigurationError,
    JoinConfig,
    JoinProgress,
    JoinStrategy,
    MemoryStore,
    Node,
    Retry,
    Task,
    TaskResult,
    Workflow,
)
from cano._engine import resolve
from cano.picture import TAKEN


async def first() -> Literal[S.FAN, S.FAILED]:
    return S.FAN


def drawn(engine: str) -> Workflow[Any]:
    workflow = Workflow(engine=engine, name="nightly").register(S.START, first, name="load")
    workflow.register_split(S.FAN, [to(1)] * 3, join(S.WORK, JoinStrategy.Quorum(2)), name="parts")
    return workflow.register(S.WORK, to(S.DONE), name="sum").add_exit_states([S.DONE, S.FAILED])


def test_mermaid(engine: str) -> None:
    assert drawn(engine).to_mermaid().splitlines() == [
        "flowchart TD",
        '    s0["S.START<br/><small>load</small>"]',
        '    s1[/"S.FAN<br/><small>parts</small>"\\]',
        '    s2["S.WORK<br/><small>sum</small>"]',
        '    s3(["S.DONE"])',
        '    s4(["S.FAILED"])',
        '    s5[\\"Quorum(2)"/]',
        "    s0 --> s1",
        "    s0 --> s4",
        '    s1 -->|"3 branches"| s5',
        "    s5 --> s2",
    ]


def test_dot(engine: str) -> None:
    lines = drawn(engine).to_dot().splitlines()
    assert lines[0] == 'digraph "nightly" {'
    assert lines[-1] == "}"
    assert '    s0 [label="S.START\\nload", shape=box, style=rounded];' in lines
    assert '    s5 [label="Quorum(2)", shape=invtrapezium];' in lines
    assert '    s1 -> s5 [label="3 branches"];' in lines


async def test_a_report_colours_the_path_taken(engine: str) -> None:
    workflow = drawn(engine)
    report = await workflow.execute(S.START)
    mermaid = workflow.to_mermaid(report)
    assert '    start((" ")) --> s0' in mermaid.splitlines()
    assert "    class s0,s1,s2,s3,s5 taken" in mermaid.splitlines()  # not FAILED
    assert "    s2 -.-> s3" in mermaid.splitlines()  # taken, and nobody declared it
    assert TAKEN in mermaid
    assert TAKEN not in workflow.to_mermaid()
    dot = workflow.to_dot(report)
    assert f's4 [label="S.FAILED", shape=box, style=rounded, peripheries=2];' in dot  # noqa: F541
    assert f's2 -> s3 [style=dotted, color="{TAKEN}", penwidth=2];' in dot


async def test_the_beginning_is_drawn_where_it_is_known(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.WORK), next=S.WORK)
    workflow.register(S.WORK, to(S.DONE), next=[S.WORK, S.DONE]).add_exit_state(S.DONE)
    assert "start" in workflow.to_mermaid()
    assert "s1 --> s1" in workflow.to_mermaid()
    assert "start" not in Workflow(engine=engine).register(S.START, to(S.DONE)).add_exit_state(S.DONE).to_dot()


def test_what_is_missing_can_be_seen(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.START, to(S.DONE), next=S.DONE)
    workflow.register_split(S.FAN, [to(1)], join(S.JOINED))
    mermaid = workflow.to_mermaid()  # drawn though it could not run
    assert mermaid.count("not registered") == 2
    assert "1 branch" in mermaid


def test_a_workflow_without_states(engine: str) -> None:
    assert Workflow(engine=engine).to_mermaid() == "flowchart TD\n"
    assert Workflow(engine=engine).to_dot().startswith('digraph "workflow" {')
    assert "<svg" in Workflow(engine=engine)._repr_html_()


def test_an_exit_state_with_a_handler_is_an_exit(engine: str) -> None:
    workflow = Workflow(engine=engine).register(S.DONE, to(S.START), next=S.START).register(S.START, to(S.DONE))
    mermaid = workflow.add_exit_state(S.DONE).to_mermaid()
    assert '(["S.DONE"])' in mermaid
    assert "-->" not in mermaid


def test_names_that_mean_something_to_the_drawer_are_escaped(engine: str) -> None:
    nasty = 'a"] --> b\n<script>alert(1)</script> | %% \\ {}'
    workflow = Workflow(engine=engine, name=nasty).register(nasty, to(nasty), name=nasty, next=[nasty])
    mermaid, dot, html = workflow.to_mermaid(), workflow.to_dot(), workflow._repr_html_()
    assert len(mermaid.splitlines()) == 3
    assert "<script>" not in mermaid
    assert "<script>" not in html
    assert len(dot.splitlines()) == 5
    ET.fromstring(html)


def test_a_very_long_name_is_cut(engine: str) -> None:
    mermaid = Workflow(engine=engine).register("x" * 10_000, to(1)).to_mermaid()
    assert len(mermaid) < 500


def test_in_a_notebook_a_workflow_shows_its_picture(engine: str) -> None:
    root = ET.fromstring(drawn(engine)._repr_html_())
    texts = "".join(root.itertext())
    for word in ("S.START", "S.FAN", "Quorum(2)", "S.DONE", "nightly", "3 branches"):
        assert word in texts


@pytest.mark.parametrize("bad", ["report", 5, S.DONE, (S.START,)])
def test_what_is_no_report_is_refused(engine: str, bad: Any) -> None:
    for draw in (drawn(engine).to_mermaid, drawn(engine).to_dot):
        with pytest.raises(ConfigurationError, match=r"drawn from a RunReport, but .* came; try report = await"):
            draw(bad)


async def test_a_report_of_another_workflow_does_no_harm(engine: str) -> None:
    other = Workflow(engine=engine).register("a", to("b")).add_exit_state("b")
    report = await other.execute("a")
    assert TAKEN not in drawn(engine).to_mermaid(report)


async def test_the_repr_of_every_public_object_says_what_it_is_never_a_bare_address(engine: str) -> None:
    class Mine(Task[S]):
        async def run(self, store: Any) -> S:
            return S.DONE

    class MyNode(Node[S, Any, Any]):
        name = "loads"

    workflow = Workflow(engine=engine).register(S.START, Mine()).register_split(S.FAN, [Mine()], join())
    workflow.add_exit_state(S.DONE)
    report = await workflow.execute(S.FAN)
    events = [event async for event in workflow.stream(S.START)]
    token = CancelToken()
    objects = [
        workflow,
        workflow.store,
        workflow.store.scoped("a"),
        MemoryStore(),
        report,
        *report.visits,
        *report.splits,
        *report.splits[0].successes,
        *events,
        token,
        Mine(),
        MyNode(),
        JoinStrategy.All,
        JoinStrategy.Custom(lambda progress: "wait"),
        JoinConfig(JoinStrategy.Any, S.DONE),
        JoinProgress(1, 0, None, None, 0.5),
        cano.JoinVerdict.WAIT,
        TaskResult.Single(S.DONE),
        TaskResult.Split([Mine()], join()),
        Retry.exponential(3),
        cano.sleep(1),
        resolve(engine).pause_type()(1.5, None),
        cano.TaskError("what happened", state=S.START),
        cano.JoinError("what happened", [ValueError()]),
        cano.as_completed(str, [1], engine=engine),
        workflow.stream(S.START),
    ]
    for thing in objects:
        if type(thing).__name__ in ("async_generator", "coroutine"):
            continue  # Python's own
        assert " at 0x" not in repr(thing), type(thing)
        assert " object" not in repr(thing), type(thing)

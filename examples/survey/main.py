"""Survey a tree of Python source: by default the standard library of the Python that runs this.

    python examples/survey/main.py [folder] [--out FOLDER] [--bulkhead N] [--attempt-timeout S] [--engine NAME]

Every file is a branch of one split: read, parsed and measured on worker threads, at most `--bulkhead` at once. The
standard library has about 1,700 files, some of them broken on purpose to test the parser; each is named, with the
reason. The report, and a picture of the workflow with the path it took, are written into the folder `--out`.
"""

import argparse
import asyncio
import sys
import sysconfig
import time
import warnings
from pathlib import Path

from flow import build
from progress import Progress
from states import State

from cano import CanoError, JoinError, RunReport, Workflow


async def survey(workflow: Workflow[State]) -> RunReport[State]:
    """Run the workflow; also to its end where too many files could not be measured."""
    try:
        return await workflow.execute(State.DISCOVER)
    except JoinError as error:
        # A join that cannot be met any more is an error of the run; no state is entered for it. What had ended is in
        # the store, though, and a run may begin in any state: this one reports what there is, and ends in FAILED.
        workflow.store.put("problem", error.message)
        return await workflow.execute(State.COLLECT)


def draw(workflow: Workflow[State], report: RunReport[State], out: Path) -> None:
    """Write the workflow's picture beside the report, the path taken in colour.

    Any Markdown viewer that knows Mermaid shows the one, `dot -Tsvg` makes the other an image.
    """
    (out / "workflow.mmd").write_text(workflow.to_mermaid(report), encoding="utf-8")
    (out / "workflow.dot").write_text(workflow.to_dot(report), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Survey a tree of Python source.")
    parser.add_argument("folder", type=Path, nargs="?", help="default: the standard library")
    parser.add_argument("--out", type=Path, default=Path("survey-report"), help="default: survey-report")
    parser.add_argument("--bulkhead", type=int, default=8, help="files at once, default 8")
    parser.add_argument("--attempt-timeout", type=float, default=30.0, help="seconds for one file, default 30")
    parser.add_argument("--engine", choices=("native", "python"), help="default: native where it is available")
    options = parser.parse_args()
    folder: Path = (options.folder or Path(sysconfig.get_path("stdlib"))).resolve()
    if not folder.is_dir():
        parser.error(f"{folder} is no folder")

    # What the parser warns of in other people's files is not this program's to report.
    warnings.simplefilter("ignore", SyntaxWarning)
    warnings.simplefilter("ignore", DeprecationWarning)

    began = time.perf_counter()
    try:
        workflow = build(
            folder,
            options.out,
            engine=options.engine,
            bulkhead=options.bulkhead,
            attempt_timeout=options.attempt_timeout,
        )
        if sys.stderr.isatty():
            workflow.add_observer(Progress())
        report = asyncio.run(survey(workflow))
    except CanoError as error:  # a bulkhead of 0, an engine that is not installed: the message says what to do
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # every branch is cancelled by now; a thread ends with the process
        print("\ninterrupted", file=sys.stderr)
        return 130
    elapsed = time.perf_counter() - began

    draw(workflow, report, options.out)
    store = workflow.store
    branches = len(store.get("measures", default=())) + len(store.get("failures", default=()))
    print(f"\nreport and picture are in {options.out}/")
    print(f"{branches:,} branches, {elapsed:.2f} s, {workflow.engine} engine")
    return 0 if report.state is State.DONE else 1


if __name__ == "__main__":
    sys.exit(main())

//! The Tokio driver: what its errors and values say, and what each error came from.
#![cfg(feature = "driver")]

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use cano_engine::trace::Trace;
use cano_engine::{
    BoxError, CancelToken, JoinConfig, JoinStrategy, MachineError, MemoryStore, RunError, RunEvent, RunPhase,
    SharedTask, SplitResult, SplitTaskResult, TaskFailure, TaskOutcome, TaskResult, Verdict, Workflow,
};

type Failing = RunError<&'static str>;

fn branch(task_index: u32, result: Result<TaskResult<&'static str>, TaskFailure>) -> SplitTaskResult<&'static str> {
    SplitTaskResult { task_index, result, attempts: 1, duration: Duration::ZERO }
}

fn mixed() -> Arc<SplitResult<&'static str>> {
    let no = TaskFailure::Error(BoxError::from("no"));
    Arc::new(SplitResult {
        successes: vec![branch(2, Ok(TaskResult::output(5)))],
        errors: vec![branch(1, Err(no))],
        cancelled: vec![0, 3],
    })
}

#[test]
fn a_failure_says_what_it_was() {
    let error = TaskFailure::Error(BoxError::from("no"));
    assert_eq!(error.to_string(), "no");
    assert_eq!(error.source().unwrap().to_string(), "no");
    let limit = TaskFailure::TimedOut(Duration::from_millis(5));
    assert_eq!(limit.to_string(), "the attempt took longer than 5ms");
    assert!(limit.is_retryable() && limit.source().is_none());
    let panicked = TaskFailure::Panicked("ouch".to_owned());
    assert_eq!(panicked.to_string(), "the task panicked: ouch");
    assert!(!panicked.is_retryable());
    assert_eq!(TaskFailure::Unfit("no output").to_string(), "no output");
    let missing = MemoryStore::new().get::<u32>("nothing").unwrap_err();
    assert_eq!(TaskFailure::from(missing.clone()).to_string(), missing.to_string());
}

#[test]
fn a_run_says_how_it_failed() {
    let counts = "1 branches succeeded, 1 failed, 2 were cancelled; the first failure was branch 1: no";
    let none = SplitResult { successes: Vec::new(), errors: Vec::new(), cancelled: vec![0] };
    let fault = MachineError::Run { event: RunEvent::Joined, phase: RunPhase::New };
    let no = || TaskFailure::Error(BoxError::from("no"));
    let path = vec!["a", "b", "c", "d", "e", "f"];
    let said: [(Failing, String); 11] = [
        (RunError::Configuration(vec!["x".into(), "y".into()]), "the workflow cannot run: x; y".into()),
        (
            RunError::NoHandler { state: "a" },
            "nothing is registered for \"a\": register a task or a split, or add it as an exit state".into(),
        ),
        (
            RunError::TooManyTransitions { limit: 6, path: path.clone() },
            "more than 6 transitions; the last states were [\"b\", \"c\", \"d\", \"e\", \"f\"]".into(),
        ),
        (
            RunError::Undeclared { state: "a", next: "b" },
            "\"a\" declares its transitions, and \"b\" is none of them".into(),
        ),
        (
            RunError::Task { state: "a", attempts: 2, failure: no() },
            "the task of \"a\" failed (attempts: 2): no".into(),
        ),
        (RunError::Join { state: "a", result: mixed() }, format!("the join of \"a\" failed: {counts}")),
        (
            RunError::SplitTimeout { state: "a", result: Arc::new(none) },
            "the split of \"a\" was undecided at its deadline: 0 branches succeeded, 0 failed, 1 were cancelled".into(),
        ),
        (RunError::Source { state: "a", failure: no(), result: mixed() }, "the split of \"a\" failed: no".into()),
        (
            RunError::Timeout { limit: Duration::from_secs(1), path: vec!["a"] },
            "the run took longer than 1s; the last states were [\"a\"]".into(),
        ),
        (RunError::Cancelled { path: vec!["a"] }, "the run was cancelled; the last states were [\"a\"]".into()),
        (fault.into(), format!("a fault of the engine: {fault}")),
    ];
    for (error, words) in said {
        assert_eq!(error.to_string(), words);
        let cause = match error {
            RunError::Task { .. } | RunError::Source { .. } => Some("no".to_owned()),
            RunError::Internal(_) => Some(fault.to_string()),
            _ => None,
        };
        assert_eq!(error.source().map(ToString::to_string), cause, "{error}");
    }
}

#[test]
fn what_is_printed_shows_no_values() {
    let split: TaskResult<&str> = TaskResult::Split(Vec::new(), JoinConfig::new(JoinStrategy::Quorum(2), "done"));
    assert!(format!("{split:?}").starts_with("Split(0, "), "{split:?}");
    assert!(split.downcast_ref::<u32>().is_none());
    assert_eq!(format!("{:?}", TaskResult::Single("a")), "Single(\"a\")");
    assert_eq!(format!("{:?}", TaskResult::<&str>::output("secret")), "Output(..)");
    let shared = SharedTask::<&str>::new(|_: MemoryStore| async { Ok(TaskResult::Single("b")) });
    assert_eq!(format!("{:?}", shared.clone()), "SharedTask(..)");
    assert_eq!(format!("{:?}", Trace::<&str>::default()), "Trace(..)");
    let strategies = [
        (JoinStrategy::All, "All"),
        (JoinStrategy::Any, "Any"),
        (JoinStrategy::Percentage(0.5), "Percentage(0.5)"),
        (JoinStrategy::PartialResults(1), "PartialResults(1)"),
        (JoinStrategy::PartialTimeout, "PartialTimeout"),
        (JoinStrategy::custom(|_| Verdict::Wait), "Custom(..)"),
    ];
    for (strategy, words) in strategies {
        assert_eq!(format!("{strategy:?}"), words);
    }
    let workflow = Workflow::default().register("a", |_: MemoryStore| async { Ok(TaskResult::Single("b")) });
    assert!(format!("{:?}", workflow.add_exit_state("b")).contains("states: [\"a\"]"));
}

#[tokio::test]
async fn a_token_is_waited_for() {
    let token = CancelToken::new();
    let waits = tokio::spawn({
        let token = token.clone();
        async move { token.cancelled().await }
    });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    token.cancel();
    waits.await.unwrap();
    token.cancelled().await;
}

#[tokio::test]
async fn a_split_that_a_task_answers_with_is_checked() {
    let answers = |join: fn() -> JoinConfig<&'static str>| {
        move |_: MemoryStore| async move {
            let one = SharedTask::new(|_: MemoryStore| async { TaskOutcome::Ok(TaskResult::output(1)) });
            Ok(TaskResult::Split(vec![one], join()))
        }
    };
    let run =
        async |join| Workflow::new().register("fan", answers(join)).add_exit_state("done").orchestrate("fan").await;
    let too_many = run(|| JoinConfig::new(JoinStrategy::Quorum(2), "done")).await.unwrap_err();
    assert!(matches!(too_many, RunError::Configuration(_)), "{too_many}");
    let nowhere = run(|| JoinConfig::new(JoinStrategy::All, "done").with_join_state("nowhere")).await.unwrap_err();
    assert!(matches!(nowhere, RunError::NoHandler { state: "nowhere" }), "{nowhere}");
    assert_eq!(run(|| JoinConfig::new(JoinStrategy::All, "done")).await.unwrap(), "done");
}

#[tokio::test]
async fn a_workflow_of_many_states_finds_its_way() {
    let step = |next: u32| move |_: MemoryStore| async move { Ok(TaskResult::Single(next)) };
    let chain = (0..100).fold(Workflow::new(), |workflow, state| workflow.register(state, step(state + 1)));
    assert_eq!(chain.add_exit_state(100).orchestrate(0).await.unwrap(), 100);
}

//! The contract's table of joins, word for word and without any precomputed bound: the oracle of the tests.

use cano_engine::{JoinRule, Strategy, Verdict};

/// What the table says about these counts. `total` is `None` while a lazy source is not exhausted.
pub(crate) fn table(rule: &JoinRule, total: Option<u32>, ok: u32, bad: u32, deadline: bool) -> Verdict {
    let ended = total == Some(ok + bad);
    let share_reached = |share: f64, all: u32, k: u32| f64::from(k) >= share * f64::from(all) - 1e-9;
    let proceeds = match rule.strategy {
        Strategy::All => total == Some(ok),
        Strategy::Any => ok >= 1,
        Strategy::Quorum(n) | Strategy::PartialResults(n) => ok >= n,
        Strategy::Percentage(share) => total.is_some_and(|all| share_reached(share, all, ok)),
        Strategy::PartialTimeout => (ended || deadline) && ok >= rule.min_successes && ok + bad >= 1,
        Strategy::Custom => return if deadline { Verdict::Fail } else { Verdict::Ask },
    };
    if proceeds {
        return Verdict::Proceed;
    }
    let fails = deadline
        || match (rule.strategy, total) {
            (Strategy::All, _) if rule.fail_fast => bad > 0,
            (Strategy::All | Strategy::PartialTimeout, _) => ended,
            (Strategy::Any, Some(all)) => bad == all,
            (Strategy::Quorum(n) | Strategy::PartialResults(n), Some(all)) => {
                i64::from(bad) > i64::from(all) - i64::from(n)
            }
            (Strategy::Percentage(share), Some(all)) => {
                let need = (0..=all).find(|&k| share_reached(share, all, k)).unwrap_or(all);
                bad > all - need
            }
            _ => false,
        };
    if fails { Verdict::Fail } else { Verdict::Wait }
}

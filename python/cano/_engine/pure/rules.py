"""Turns what the user wrote (`JoinStrategy`, `Retry`) into what the machines know (`JoinRule`, `RetryPolicy`)."""

from __future__ import annotations

from typing import Any

from cano.join import JoinConfig
from cano.policy import Retry

from .join import (
    ALL,
    ANY,
    CUSTOM,
    PARTIAL_RESULTS,
    PARTIAL_TIMEOUT,
    PERCENTAGE,
    QUORUM,
    JoinRule,
)
from .policy import NEVER, NO_RETRY, RetryPolicy

_STRATEGIES = {
    "all": ALL,
    "any": ANY,
    "quorum": QUORUM,
    "percentage": PERCENTAGE,
    "partial_results": PARTIAL_RESULTS,
    "partial_timeout": PARTIAL_TIMEOUT,
    "custom": CUSTOM,
}


def join_rule(join: JoinConfig[Any]) -> JoinRule:
    """Return the rule that decides a split."""
    strategy = join.strategy
    number = _STRATEGIES[strategy.kind]
    threshold = strategy.threshold
    return JoinRule(
        number,
        need=int(threshold or 0) if number in (QUORUM, PARTIAL_RESULTS) else 0,
        share=float(threshold or 0.0) if number == PERCENTAGE else 0.0,
        fail_fast=join.fail_fast,
        min_successes=join.min_successes,
    )


def retry_policy(retry: Retry) -> RetryPolicy:
    """Return the numbers of a retry."""
    kind, retries, delay, factor, max_delay, jitter, max_elapsed = retry.plan
    if kind == NEVER:
        return NO_RETRY
    return RetryPolicy(
        kind,
        retries=retries,
        base=delay,
        factor=factor,
        max_delay=max_delay,
        jitter=jitter,
        max_elapsed=max_elapsed,
    )

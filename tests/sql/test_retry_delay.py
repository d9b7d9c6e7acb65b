"""retry_delay against its oracle, domain/retry.py."""

from __future__ import annotations

from datetime import timedelta

import pytest
from psycopg.types.json import Jsonb

from tasker.domain.retry import BACKOFFS, Retry
from tests.sql.protocol import Connection, Protocol

FAILURES = [*range(1, 13), 40, 62, 63, 64, 70, 1000, 100_000]


def delays(protocol: Protocol, policy: Retry, failures: list[int]) -> list[timedelta]:
    """What SQL computes for each number of failures."""
    found = protocol.connection.execute(
        "select tasker.retry_delay(%s, n) from unnest(%s::integer[]) n", [Jsonb(policy.to_json()), failures]
    )
    return [row[0] for row in found]


@pytest.mark.parametrize("backoff", BACKOFFS)
@pytest.mark.parametrize(
    ("base", "ceiling"), [(1.0, 300.0), (0.001, 366 * 86_400.0), (0.25, 10.0), (0.0, 0.0), (7.0, 7.0)]
)
def test_without_jitter_the_delay_is_the_oracles(
    protocol: Protocol, backoff: str, base: float, ceiling: float
) -> None:
    policy = Retry(backoff=backoff, base_seconds=base, max_seconds=ceiling, jitter="none")
    expected = [timedelta(seconds=policy.delay_seconds(failures)) for failures in FAILURES]
    assert delays(protocol, policy, FAILURES) == expected


@pytest.mark.parametrize(("jitter", "least"), [("full", 0.0), ("equal", 4.0)])
def test_jitter_draws_from_the_whole_of_its_range(protocol: Protocol, jitter: str, least: float) -> None:
    policy = Retry(backoff="exponential", base_seconds=1, jitter=jitter)
    assert (policy.delay_seconds(4, 0.0), policy.delay_seconds(4, 1.0)) == (least, 8.0)

    drawn = [delay.total_seconds() for delay in delays(protocol, policy, [4] * 400)]
    assert least <= min(drawn) < least + 0.1 * (8.0 - least)
    assert 8.0 - 0.1 * (8.0 - least) < max(drawn) <= 8.0


def test_the_cap_applies_before_the_jitter(session: Connection) -> None:
    policy = Retry(backoff="linear", base_seconds=1, max_seconds=2, jitter="equal")
    drawn = delays(Protocol(session), policy, [1000] * 50)
    assert all(timedelta(seconds=1) <= delay <= timedelta(seconds=2) for delay in drawn)

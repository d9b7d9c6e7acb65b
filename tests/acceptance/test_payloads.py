"""What handlers return and raise, and what is submitted, through a real worker: none of it stops anything."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest

from tests.acceptance.system import APPS, System

SECRET = "hunter2-and-more"
REFUSED = {
    "a_set": "the result of a_set.x: set is not JSON",
    "some_bytes": "the result of some_bytes[0]: bytes is not JSON",
    "not_a_number": "the result of not_a_number.price: NaN is not JSON",
    "decimal_nan": "the result of decimal_nan.price: NaN is not JSON",
    "too_large_a_number": "the result of too_large_a_number.price: Decimal('1E+5000') is out of range",
    "a_circle": "nested deeper than 64 levels",
    "seventy_levels": "nested deeper than 64 levels",
    "a_million_keys": "the result of a_million_keys: this makes the whole larger than the limit",
    "a_nul": "the result of a_nul.text: a string with a NUL character",
    "half_a_pair": "the result of half_a_pair.text: a string with half a surrogate pair",
    "unreadable": "the result of unreadable[0]: tests.acceptance.apps.hostile.Unreadable could not be read",
}
RAISED = {
    "unspeakable": ("tests.acceptance.apps.hostile.Broken", "<the message could not be read: SystemExit>"),
    "endless": ("ValueError", "x" * 1000),
    "caused_by_many": ("ValueError", "number 9999"),
    "telling": ("ValueError", "Authorization: ***"),
    "naming": ("ValueError", "the literal ***"),
    "leaving": ("SystemExit", "3"),
    "soon": ("tasker.RetryableError", "busy"),
}


def with_password(url: str) -> tuple[str, str]:
    """A URL of the same database that has a password, and this password."""
    parts = urlsplit(url)
    if parts.password is not None:
        return url, parts.password
    query = f"{parts.query}&password={SECRET}".lstrip("&")
    return parts._replace(query=query).geturl(), SECRET


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.slow)])
def test_nothing_that_a_handler_returns_or_raises_stops_its_worker_or_another_step(
    own_system: System, pool: str
) -> None:
    system = own_system
    options = ("--concurrency", "1", "--pool", pool)
    url, secret = with_password(system.database_url)
    variables = {
        "TASKER_TEST_SECRET": secret,
        "TASKER_LOG_FORMAT": "json",
        "TASKER_DATABASE_URL": url,
    }
    with system.worker(f"{APPS}.hostile", *options, **variables) as worker:
        system.ready(worker)
        task = system.submit("hostile/all")
        assert system.settled(task) == "error"
        assert task.result("good") == "good"
        found = {step.name: step for step in task.steps()}
        for name, message in REFUSED.items():
            step = found[name]
            assert step.error is not None
            assert (step.error["type"], step.attempt) == ("tasker.ValueRefused", 1), step
            assert message in step.error["message"]
        for name, (kind, message) in RAISED.items():
            error = found[name].error
            assert error is not None
            assert error["type"] == kind
            assert error["message"].startswith(message)
            assert len(json.dumps(error, ensure_ascii=False).encode()) <= 16 << 10
        stored = system.rows("select to_jsonb(a)::text from tasker.step_attempts a")
        stored += system.rows("select to_jsonb(l)::text from tasker.dead_letters l")
        assert secret not in str(stored)
        assert secret not in worker.log.read_text()
        assert "cannot log in" in worker.log.read_text()
        assert "it is ***" in worker.log.read_text()
        processes = system.one("select count(*) from tasker.workers")
        assert system.settled(system.submit("hostile/all")) == "error"
        assert system.one("select count(*) from tasker.workers") == processes
        assert worker.stop() == 0
    reasons = system.rows("select reason, count(*) from tasker.dead_letters group by 1 order by 1")
    assert reasons == [("exhausted", 2 * len(RAISED)), ("permanent", 2 * len(REFUSED))]

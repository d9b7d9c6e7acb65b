"""Requests to submit, as SQL takes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasker import TaskRequest, ValueRefused
from tasker.orchestration.submit import request_json
from tasker.settings import Settings


def test_a_deadline_is_sent_in_milliseconds_and_only_when_given() -> None:
    def sent(**fields: Any) -> Any:
        return json.loads(request_json(TaskRequest("orders/fulfilment", **fields), Settings()))

    assert sent(deadline_seconds=1.5)["deadline_ms"] == 1500
    assert "deadline_ms" not in sent()


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 10**9, "60", True])
def test_what_is_no_length_of_time_is_refused(seconds: Any) -> None:
    with pytest.raises(ValueRefused, match="deadline_seconds: must be above 0"):
        request_json(TaskRequest("orders/fulfilment", deadline_seconds=seconds), Settings())

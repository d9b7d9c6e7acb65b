"""expected_work: what some steps will cost together."""

from __future__ import annotations

import pytest

from tests.sql.protocol import HANDLER, Protocol


def test_the_work_of_steps_is_the_sum_of_what_each_costs(protocol: Protocol) -> None:
    protocol.register("a, b, c, d", steps={"c": {"handler": "slow"}, "d": {"handler": "new"}})
    protocol.expect(**{HANDLER: 20, "slow": 9000})
    first, second = (protocol.steps(protocol.submit()) for _ in range(2))

    def work(*steps: int) -> float:
        return float(protocol.row("select tasker.expected_work(%s) as ms", [list(steps)])["ms"])

    assert work() == 0
    assert work(first["a"], second["a"], first["b"]) == 60
    assert work(first["c"], second["d"], first["a"]) == pytest.approx(500 + 15.625 + 20)

"""claim_is_shared: whether a step is the only one in progress under its claim."""

from __future__ import annotations

from tests.sql.protocol import Protocol


def shared(session: Protocol, step: int) -> bool:
    row = session.step(step)
    answer: bool = session.call("claim_is_shared", step, row["worker_id"], row["claim_id"])
    return answer


def test_a_claim_is_shared_while_another_of_its_steps_runs(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    won = protocol.claim(a, b)
    assert shared(protocol, a)
    protocol.finish([won.attempts[b].complete()])
    assert not shared(protocol, a)


def test_steps_of_the_same_worker_under_another_claim_do_not_share_it(protocol: Protocol) -> None:
    protocol.register("a, b")
    a, b = protocol.steps(protocol.submit()).values()
    protocol.claim(a)
    protocol.claim(b)
    assert not shared(protocol, a)

"""publication: how steps are grouped for the publisher, with what limits a message that carries them."""

from __future__ import annotations

from tests.sql.protocol import QUEUE, Protocol


def published(protocol: Protocol, *steps: int) -> list[list[object]]:
    """The groups, in the order of their first steps."""
    groups: list[list[object]] = protocol.call("publication", list(steps))
    return sorted(groups, key=lambda group: str(group[3]))


def test_steps_of_a_handler_form_a_group_with_what_they_are_expected_to_take(protocol: Protocol) -> None:
    protocol.register("a, b, c", steps={"c": {"handler": "other"}})
    a, b, c = protocol.steps(protocol.submit()).values()
    protocol.expect(work=1.5)
    assert published(protocol, c, b, a) == [[QUEUE, 1.5, None, [a, b]], [QUEUE, None, None, [c]]]


def test_each_limit_of_the_templates_is_a_group_and_a_step_that_travels_alone_has_the_least(
    protocol: Protocol,
) -> None:
    limits = {"b": {"max_batch": 8}, "c": {"max_batch": 8}, "d": {"max_batch": 64}}
    protocol.register("a, b, c, d, e", steps=limits)
    a, b, c, d, e = protocol.steps(protocol.submit()).values()
    protocol.connection.execute("update tasker.steps set alone = true where id = any(%s)", [[c, e]])
    assert published(protocol, a, b, c, d, e) == [
        [QUEUE, None, None, [a]],
        [QUEUE, None, 8, [b]],
        [QUEUE, None, 1, [c, e]],
        [QUEUE, None, 64, [d]],
    ]


def test_what_is_not_enqueued_is_in_no_group(protocol: Protocol) -> None:
    protocol.register("a > b; c")
    a, b, c = protocol.steps(protocol.submit()).values()
    protocol.claim(a)
    assert published(protocol, a, b, c) == [[QUEUE, None, None, [c]]]

"""How steps are cut into messages."""

from __future__ import annotations

from tasker.broker import Message, cut


def test_quick_steps_of_a_queue_share_messages_up_to_the_budget() -> None:
    groups = [("q", 10.0, None, [1, 2, 3]), ("q", 5.0, None, [4, 5, 6, 7, 8])]
    assert list(cut(groups, budget_ms=50, max_steps=64)) == [
        Message("q", [1, 2, 3, 4, 5, 6, 7]),
        Message("q", [8]),
    ]


def test_a_message_never_holds_more_steps_than_allowed() -> None:
    lengths = [len(message.ids) for message in cut([("q", 0.01, None, list(range(130)))], 50, 64)]
    assert lengths == [64, 64, 2]


def test_slow_unknown_and_lone_steps_travel_alone() -> None:
    groups = [("q", None, None, [1, 2]), ("q", 51.0, None, [3]), ("q", 0.1, 1, [4, 5])]
    assert [message.ids for message in cut(groups, 50, 64)] == [[1], [2], [3], [4], [5]]


def test_queues_are_never_mixed() -> None:
    groups = [("a", 1.0, None, [1]), ("b", 1.0, None, [2]), ("a", 1.0, None, [3])]
    assert list(cut(groups, 50, 64)) == [Message("a", [1, 3]), Message("b", [2])]


def test_no_message_is_longer_than_one_of_its_steps_allows() -> None:
    assert [message.ids for message in cut([("q", 0.1, 2, [1, 2, 3])], 50, 64)] == [[1, 2], [3]]
    before = [("q", 0.1, None, [1, 2, 3]), ("q", 0.1, 2, [4]), ("q", 0.1, None, [5, 6])]
    assert [message.ids for message in cut(before, 50, 64)] == [[1, 2, 3], [4, 5], [6]]
    behind = [("q", 0.1, 2, [1]), ("q", 0.1, None, [2, 3, 4, 5])]
    assert [message.ids for message in cut(behind, 50, 64)] == [[1, 2], [3, 4, 5]]


def test_a_step_may_allow_more_than_the_setting_and_gets_the_setting() -> None:
    assert [message.ids for message in cut([("q", 0.1, 64, [1, 2, 3])], 50, 2)] == [[1, 2], [3]]

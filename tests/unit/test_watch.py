"""Who is taken for dead, or for hung: only by an observer's own, unbroken watch."""

from __future__ import annotations

from tasker.orchestration.recovery import Watch


def test_a_worker_is_silent_when_its_beat_stood_still_for_the_whole_watch() -> None:
    watch = Watch(seconds=12, longest_gap_seconds=13)
    assert watch.look({1: 5}, now=0) == {}
    assert watch.look({1: 5}, now=11.9) == {}
    assert watch.look({1: 5}, now=12) == {1: 5}


def test_a_beat_starts_its_watch_anew() -> None:
    watch = Watch(seconds=12, longest_gap_seconds=13)
    watch.look({1: 5}, now=0)
    watch.look({1: 6}, now=11)
    assert watch.look({1: 6}, now=22.9) == {}
    assert watch.look({1: 6}, now=23) == {1: 6}


def test_an_outage_of_the_database_declares_nobody_dead() -> None:
    watch = Watch(seconds=12, longest_gap_seconds=13)
    watch.look({1: 5}, now=0)
    watch.forget()
    assert watch.look({1: 5}, now=60) == {}
    assert watch.look({1: 5}, now=72) == {1: 5}


def test_only_the_silent_are_named_among_many() -> None:
    watch = Watch(seconds=2, longest_gap_seconds=3)
    watch.look({1: 1, 2: 1}, now=0)
    assert watch.look({1: 1, 2: 2, 3: 1}, now=2) == {1: 1}


def test_an_observer_that_was_stopped_itself_starts_its_watch_anew() -> None:
    watch = Watch(seconds=12, longest_gap_seconds=6)
    watch.look({1: 5}, now=0)
    watch.look({1: 5}, now=5)
    assert watch.look({1: 5}, now=60) == {}, "nobody looked for 55 s"
    watch.look({1: 5}, now=66)
    assert watch.look({1: 5}, now=72) == {1: 5}

from __future__ import annotations

import pytest

from tasker.domain.durations import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (-1, "0 s"),
        (0.0049, "0 s"),
        (0.25, "0.25 s"),
        (4.2, "4.2 s"),
        (9.999, "10 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7505, "2 h 5 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_a_span_is_said_in_at_most_two_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words

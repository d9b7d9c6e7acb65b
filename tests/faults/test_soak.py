"""The short form of `make soak`."""

from __future__ import annotations

import pytest

from tests.faults.soak import soak


@pytest.mark.slow
def test_half_a_minute_of_random_faults_leaves_nothing_odd() -> None:
    assert soak(seconds=30, seed=1, every=2) == []

"""What a message may name: step ids, and nothing that PostgreSQL would have to be asked about."""

from __future__ import annotations

import pytest

from tasker.worker.process import checked


@pytest.mark.parametrize("ids", [["one"], "12", None, [1.5], [True], [0], [-1], [1 << 63], {"1": 2}, [[1]]])
def test_what_is_no_list_of_step_ids_is_refused(ids: object) -> None:
    with pytest.raises(ValueError, match="none of Tasker's"):
        checked(ids)


def test_step_ids_of_every_size_are_taken() -> None:
    ids = [1, (1 << 63) - 1]
    assert checked(ids) == ids
    assert checked([]) == []

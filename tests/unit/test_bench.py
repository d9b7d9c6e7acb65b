"""What the bench's figures mean, and that a side which did not do the work has none."""

from __future__ import annotations

import pytest

from bench.figures import Figure, Kind, Taken
from bench.peers.peer import WrongResult, check
from bench.quick import FLOORS, under_floor
from bench.shapes import DIAMOND, FAN_500, LINEAR, LINEAR_1_KB, SHAPES, TREE, number_of, step_result


def test_every_shape_ends_in_one_step_that_waits_for_all_others() -> None:
    for shape in SHAPES.values():
        followed = {parent for parents in shape.parents.values() for parent in parents}
        assert shape.parents.keys() - followed == {shape.last}


def test_the_last_number_counts_every_edge() -> None:
    assert [shape.number for shape in (LINEAR, DIAMOND, TREE, FAN_500)] == [4, 5, 13, 1001]


@pytest.mark.parametrize("shape", [LINEAR, LINEAR_1_KB], ids=lambda shape: shape.name)
def test_a_result_carries_the_number_of_the_step(shape: object) -> None:
    assert number_of(step_result([1, 2], heavy=shape is LINEAR_1_KB)) == 4


@pytest.mark.parametrize("numbers", [[], [5], [5, 4], [5, 5, 5]], ids=str)
def test_a_side_whose_tasks_did_not_all_end_with_their_number_has_no_figure(numbers: list[int]) -> None:
    check(DIAMOND, [5, 5], 2)
    with pytest.raises(WrongResult, match="diamond-4"):
        check(DIAMOND, numbers, 2)


def test_twice_as_good_is_twice_the_rate_or_half_the_time() -> None:
    rates = {"Tasker": [200.0], "canvas": [100.0]}
    times = {"Tasker": [5.0], "canvas": [10.0]}
    assert Taken(Figure(Kind.TOGETHER, LINEAR, 1), rates).ratios("Tasker", "canvas") == [2.0]
    assert Taken(Figure(Kind.LATENCY, LINEAR, 1), times).ratios("Tasker", "canvas") == [2.0]


def test_a_ratio_under_its_floor_is_told_and_one_above_is_not() -> None:
    figure = Figure(Kind.TOGETHER, LINEAR, 100)
    floor = FLOORS[figure]

    def of(ratio: float) -> list[Taken]:
        return [Taken(figure, {"Tasker": [100 * ratio], "canvas": [100.0]})]

    assert under_floor(of(1.1 * floor)) == []
    (sentence,) = under_floor(of(0.9 * floor))
    assert "100 linear-4 at once" in sentence


def test_a_slow_side_runs_fewer_tasks_but_no_figure_more_than_it_says() -> None:
    figure = Figure(Kind.TOGETHER, LINEAR, 1000)
    assert [figure.affordable(each) for each in (0.001, 0.1, 10)] == [1000, 100, 4]
    assert Figure(Kind.LATENCY, LINEAR, 5).affordable(0.001) == 5

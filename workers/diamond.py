"""A fork and a join: measurements, brought to one scale."""

from __future__ import annotations

from fractions import Fraction

from pydantic import BaseModel, Field

from tasker import StepContext, TaskTemplate

from .example import Example


class Measurements(BaseModel):
    """What an instrument delivered; the lowest and the highest value are taken for errors."""

    values: list[float] = Field(min_length=4)


diamond = TaskTemplate(
    "examples/diamond", version="1.0.0", context=Measurements, description="Scaled measurements."
)


@diamond.step
def trimmed(context: Measurements) -> list[float]:
    """The values in order, without the lowest and the highest."""
    return sorted(context.values)[1:-1]


@diamond.step
def mean(trimmed: list[float]) -> float:
    """Where the values lie; runs beside `spread`."""
    return sum(trimmed) / len(trimmed)


@diamond.step
def spread(trimmed: list[float]) -> float:
    """How far they reach."""
    return max(trimmed) - min(trimmed)


@diamond.step
def scaled(mean: float, spread: float, step: StepContext) -> list[float]:
    """Each value as its distance from the mean, in spreads; `trimmed` is a grandparent, read on demand."""
    return [(value - mean) / spread for value in step.result("trimmed", list[float])]


def expected() -> dict[str, object]:
    """By hand: without 0 and 100 the mean is 40 / 8 and the spread 9 - 2."""
    return {
        "mean": 5,
        "spread": 7,
        "scaled": [float(Fraction(distance, 7)) for distance in (-3, -1, -1, -1, 0, 0, 2, 4)],
    }


example = Example(template=diamond, context={"values": [9, 100, 4, 5, 2, 0, 7, 4, 5, 4]}, expected=expected)

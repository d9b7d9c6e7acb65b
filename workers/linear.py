"""Four steps in a row: the solutions of a quadratic equation."""

from __future__ import annotations

from math import sqrt

from pydantic import BaseModel

from tasker import PermanentError, TaskTemplate

from .example import Example


class Quadratic(BaseModel):
    """The equation a·x² + b·x + c = 0."""

    a: float
    b: float
    c: float

    def at(self, x: float) -> float:
        """The left side for one x."""
        return self.a * x**2 + self.b * x + self.c


linear = TaskTemplate(
    "examples/linear", version="1.0.0", context=Quadratic, description="A quadratic equation."
)


@linear.step
def discriminant(context: Quadratic) -> float:
    """What stands under the root."""
    return context.b**2 - 4 * context.a * context.c


@linear.step
def root(discriminant: float) -> float:
    """Its root: a parameter named after a step is that step's result."""
    if discriminant < 0:
        raise PermanentError("the equation has no real solution")
    return sqrt(discriminant)


@linear.step
def solutions(root: float, context: Quadratic) -> list[float]:
    """Both solutions, the smaller first."""
    return sorted((-context.b + signed) / (2 * context.a) for signed in (-root, root))


@linear.step
def proof(solutions: list[float], context: Quadratic) -> list[float]:
    """The equation at its solutions: zeros."""
    return [context.at(x) for x in solutions]


def expected() -> dict[str, object]:
    """The solutions by trying."""
    return {"solutions": [x for x in range(-50, 51) if x * x - 5 * x + 6 == 0], "proof": [0, 0]}


example = Example(template=linear, context={"a": 1, "b": -5, "c": 6}, expected=expected)

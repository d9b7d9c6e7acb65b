"""One root, two branches, four leaves, one report: figures about the even and the odd numbers."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field

from tasker import TaskTemplate

from .example import Example


class Numbers(BaseModel):
    """1, 2, 3, … up to a last one."""

    last: int = Field(ge=2, le=10_000)


tree = TaskTemplate("examples/tree", version="1.0.0", context=Numbers, description="Even and odd numbers.")


@tree.step
def numbers(context: Numbers) -> list[int]:
    """The root."""
    return list(range(1, context.last + 1))


@tree.step
def evens(numbers: list[int]) -> list[int]:
    """One branch."""
    return [number for number in numbers if number % 2 == 0]


@tree.step
def odds(numbers: list[int]) -> list[int]:
    """The other."""
    return [number for number in numbers if number % 2]


def total(results: Mapping[str, list[int]]) -> int:
    """The sum of whatever the only parent found: `results` holds the parents' results by name."""
    (found,) = results.values()
    return sum(found)


def largest(results: Mapping[str, list[int]]) -> int:
    """The largest of it."""
    (found,) = results.values()
    return max(found)


# one function, many steps: what differs is the parent
for branch in ("evens", "odds"):
    tree.add_step(total, name=f"{branch}_total", depends_on=[branch])
    tree.add_step(largest, name=f"{branch}_largest", depends_on=[branch])


@tree.step
def report(
    evens_total: int, evens_largest: int, odds_total: int, odds_largest: int
) -> dict[str, dict[str, int]]:
    """Waits for all four leaves."""
    return {
        "evens": {"total": evens_total, "largest": evens_largest},
        "odds": {"total": odds_total, "largest": odds_largest},
    }


def expected() -> dict[str, object]:
    """By formula: n even numbers add up to n(n + 1), n odd ones to n²."""
    n = 50
    return {
        "report": {
            "evens": {"total": n * (n + 1), "largest": 2 * n},
            "odds": {"total": n**2, "largest": 2 * n - 1},
        }
    }


example = Example(template=tree, context={"last": 100}, expected=expected)

"""Three steps that start together and merge into one: offers for a freight."""

from __future__ import annotations

from decimal import Decimal

from pydantic import BaseModel

from tasker import TaskTemplate

from .example import Example


class Freight(BaseModel):
    """What has to go how far, and when it must be there."""

    kilograms: int
    kilometres: int
    hours: float


class Offer(BaseModel):
    """A price and a time. Decimals travel as text in JSON, so no cent is lost."""

    by: str
    price: Decimal
    hours: float


parallel_merge = TaskTemplate(
    "examples/parallel-merge", version="1.0.0", context=Freight, description="The best offer for a freight."
)


@parallel_merge.step
def road(context: Freight) -> Offer:
    """By the kilometre, and a little by weight."""
    price = Decimal("1.10") * context.kilometres + Decimal("0.05") * context.kilograms
    return Offer(by="road", price=price, hours=context.kilometres / 70)


@parallel_merge.step
def rail(context: Freight) -> Offer:
    """A fixed price for loading, then cheap."""
    price = 120 + Decimal("0.30") * context.kilometres + Decimal("0.02") * context.kilograms
    return Offer(by="rail", price=price, hours=24 + context.kilometres / 50)


@parallel_merge.step
def air(context: Freight) -> Offer:
    """By weight, and fast."""
    return Offer(by="air", price=Decimal("2.50") * context.kilograms, hours=6 + context.kilometres / 700)


@parallel_merge.step
def best(road: Offer, rail: Offer, air: Offer, context: Freight) -> Offer:
    """The cheapest offer that arrives in time; waits for all three."""
    in_time = [offer for offer in (road, rail, air) if offer.hours <= context.hours]
    return min(in_time, key=lambda offer: offer.price)


def expected() -> dict[str, object]:
    """By hand: rail is the cheapest but takes 38 hours, and air costs more than road."""
    road = {"by": "road", "price": "795.00", "hours": 10}
    return {
        "road": road,
        "rail": {"by": "rail", "price": "340.00", "hours": 38},
        "air": {"by": "air", "price": "1250.00", "hours": 7},
        "best": road,
    }


example = Example(
    template=parallel_merge, context={"kilograms": 500, "kilometres": 700, "hours": 12}, expected=expected
)

"""Steps that change the world, each exactly once however often it runs: an order in a shop."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from psycopg import Connection
from pydantic import BaseModel, Field, PositiveInt

from tasker import PermanentError, Retry, RetryableError, StepContext, Task, TaskTemplate

from .example import Example
from .shop import open_shop, transaction


class Order(BaseModel):
    """Goods by their number in the shop. `line_drops` makes the bank's first answer get lost."""

    order_id: int
    goods: dict[str, PositiveInt] = Field(min_length=1, examples=[{"lamp": 2}])
    line_drops: bool = False


class Payment(BaseModel):
    """Money that the bank has moved."""

    order_id: int
    amount: Decimal


order_fulfilment = TaskTemplate(
    "examples/order-fulfilment", version="1.0.0", context=Order, description="From an order to its shipment."
)


@order_fulfilment.step
def validate(context: Order) -> dict[str, Decimal]:
    """The price of each of the goods; an order for what the shop does not know is refused for good."""
    open_shop()
    with transaction() as shop:
        query = "select sku, price from example_shop.products where sku = any(%s)"
        prices: dict[str, Decimal] = dict(shop.execute(query, [list(context.goods)]).fetchall())
    if unknown := context.goods.keys() - prices.keys():
        raise PermanentError(f"the shop has no {', '.join(sorted(unknown))}")
    return prices


@order_fulfilment.step(depends_on=["validate"], transactional=True)
def reserve(context: Order, step: StepContext, connection: Connection[Any]) -> int:
    """Take the goods off the shelf: all of them, or, when one is sold out, none.

    The shop lives in Tasker's own database, so these writes commit together with the step's completion: an
    interrupted run leaves nothing behind, and there is nothing to recognise and skip in the next one.
    """
    for sku, quantity in sorted(context.goods.items()):
        connection.execute(
            "insert into example_shop.reservations (key, sku, quantity) values (%s, %s, %s)",
            [step.idempotency_key, sku, quantity],
        )
        taken = connection.execute(
            "update example_shop.products set in_stock = in_stock - %s where sku = %s and in_stock >= %s",
            [quantity, sku, quantity],
        )
        if taken.rowcount == 0:
            raise PermanentError(f"{sku} is sold out")
    return sum(context.goods.values())


@order_fulfilment.step(
    depends_on=["reserve"], retry=Retry(max_attempts=5, backoff="constant", base_seconds=0.2)
)
def charge(validate: dict[str, Decimal], context: Order, step: StepContext) -> Payment:
    """Move the money.

    When the bank's answer is lost, nobody knows whether it moved. So the step runs again, under the same key,
    and the bank does not move it twice.
    """
    payment = Payment(
        order_id=context.order_id,
        amount=sum((validate[sku] * quantity for sku, quantity in context.goods.items()), Decimal(0)),
    )
    with transaction() as bank:
        bank.execute(
            "insert into example_shop.payments (key, order_id, amount) values (%s, %s, %s)"
            " on conflict do nothing",
            [step.idempotency_key, payment.order_id, payment.amount],
        )
    if context.line_drops and not step.is_retry:
        raise RetryableError("the line to the bank dropped before its answer came")
    return payment


@order_fulfilment.step
def ship(charge: Payment, reserve: int, step: StepContext) -> dict[str, int]:
    """Hand the paid goods over in parcels of two."""
    parcels = (reserve + 1) // 2
    with transaction() as shop:
        shop.execute(
            "insert into example_shop.shipments (key, order_id, parcels) values (%s, %s, %s)"
            " on conflict do nothing",
            [step.idempotency_key, charge.order_id, parcels],
        )
    return {"parcels": parcels}


def expected() -> dict[str, object]:
    """By hand. One payment, although `charge` ran twice; no good is neither on the shelf nor reserved."""
    return {
        "charge": {"order_id": 42, "amount": "507.00"},
        "ship": {"parcels": 3},
        "goods reserved": {"chair": 4, "desk": 1},
        "payments": ["507.00"],
        "parcels shipped": [3],
        "goods astray": 0,
    }


EFFECTS = """
    select json_build_object(
        'goods reserved', (
            select json_object_agg(sku, quantity)
            from example_shop.reservations where key = %(task)s || '/reserve'),
        'payments', (
            select json_agg(amount::text) from example_shop.payments where key = %(task)s || '/charge'),
        'parcels shipped', (
            select json_agg(parcels) from example_shop.shipments where key = %(task)s || '/ship'),
        'goods astray', (
            select sum(in_stock) - 3000000 from example_shop.products) + (
            select sum(quantity) from example_shop.reservations))
"""


def effects(task: Task) -> dict[str, Any]:
    """What the task has left in the shop."""
    with transaction() as shop:
        found: tuple[dict[str, Any]] | None = shop.execute(EFFECTS, {"task": str(task.id)}).fetchone()
    return found[0] if found else {}


example = Example(
    template=order_fulfilment,
    context={"order_id": 42, "goods": {"chair": 4, "desk": 1}, "line_drops": True},
    expected=expected,
    effects=effects,
)

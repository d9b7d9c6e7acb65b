"""Three branches, each extracting and transforming, and one report: a shop's sales in a CSV file."""

from __future__ import annotations

import csv
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, Field

from tasker import TaskTemplate

from .example import Example

SALES = Path(__file__).with_name("sales.csv")


class Period(BaseModel):
    """The calendar year to report."""

    year: int = Field(examples=[2025])


class Sale(BaseModel):
    """What a branch keeps of one line of the file: one of its columns, and a number."""

    of: str
    count: Decimal


data_pipeline = TaskTemplate(
    "examples/data-pipeline", version="1.0.0", context=Period, description="A year's sales as one report."
)


def lines(year: int) -> Iterator[dict[str, str]]:
    """The lines of the file that belong to a year."""
    with SALES.open(newline="", encoding="utf-8") as file:
        yield from (line for line in csv.DictReader(file) if line["date"].startswith(f"{year}-"))


def amount(line: dict[str, str]) -> Decimal:
    """The money of one line."""
    return int(line["quantity"]) * Decimal(line["unit_price"])


def totals(sales: list[Sale]) -> dict[str, Decimal]:
    """The sum for each thing counted."""
    found: dict[str, Decimal] = defaultdict(Decimal)
    for sale in sales:
        found[sale.of] += sale.count
    return found


@data_pipeline.step
def extract_regions(context: Period) -> list[Sale]:
    """Who bought for how much."""
    return [Sale(of=line["region"], count=amount(line)) for line in lines(context.year)]


@data_pipeline.step
def transform_regions(extract_regions: list[Sale]) -> dict[str, Decimal]:
    """Revenue by region."""
    return totals(extract_regions)


@data_pipeline.step
def extract_products(context: Period) -> list[Sale]:
    """What was bought how often."""
    return [Sale(of=line["product"], count=Decimal(line["quantity"])) for line in lines(context.year)]


@data_pipeline.step
def transform_products(extract_products: list[Sale]) -> list[str]:
    """The products, the most bought first."""
    bought = totals(extract_products)
    return sorted(bought, key=lambda product: (-bought[product], product))


@data_pipeline.step
def extract_months(context: Period) -> list[Sale]:
    """When it was bought for how much."""
    return [Sale(of=line["date"][:7], count=amount(line)) for line in lines(context.year)]


@data_pipeline.step
def transform_months(extract_months: list[Sale]) -> dict[str, Decimal]:
    """Revenue by month."""
    return totals(extract_months)


@data_pipeline.step
def report(
    transform_regions: dict[str, Decimal], transform_products: list[str], transform_months: dict[str, Decimal]
) -> dict[str, object]:
    """The year in four figures; two branches have counted the same money."""
    revenue = sum(transform_regions.values())
    if revenue != sum(transform_months.values()):
        raise ValueError("regions and months do not add up to the same revenue")
    return {
        "revenue": revenue,
        "best_region": max(transform_regions, key=transform_regions.__getitem__),
        "best_month": max(transform_months, key=transform_months.__getitem__),
        "best_products": transform_products[:3],
    }


def expected() -> dict[str, object]:
    """The same figures by SQL, in whole cents."""
    database = sqlite3.connect(":memory:")
    database.execute("create table sales (month text, region text, product text, quantity int, cents int)")
    with SALES.open(encoding="utf-8") as file:
        next(file)
        for date, region, product, quantity, price in (line.strip().split(",") for line in file):
            if date >= "2025":
                cents = int(quantity) * int(price.replace(".", ""))
                database.execute(
                    "insert into sales values (?, ?, ?, ?, ?)", (date[:7], region, product, quantity, cents)
                )

    def first(column: str, by: str, limit: int = 1) -> list[str]:
        query = f"select {column} from sales group by 1 order by sum({by}) desc, 1 limit {limit}"  # noqa: S608
        return [name for (name,) in database.execute(query)]

    (cents,) = database.execute("select sum(cents) from sales").fetchone()
    return {
        "report": {
            "revenue": f"{cents // 100}.{cents % 100:02}",
            "best_region": first("region", "cents")[0],
            "best_month": first("month", "cents")[0],
            "best_products": first("product", "quantity", 3),
        }
    }


example = Example(template=data_pipeline, context={"year": 2025}, expected=expected)

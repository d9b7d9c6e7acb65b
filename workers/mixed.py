"""A graph with several roots, written in `mixed.yaml`; here are the functions it names: a mortgage."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from pydantic import BaseModel

from tasker import StepContext, load_templates, step_handler

from .example import Example


class Home(BaseModel):
    """What is bought, and what a square metre was sold for nearby."""

    square_metres: float
    prices_nearby: list[float]


class Loan(BaseModel):
    """What is asked for."""

    amount: float
    years: int


class Application(BaseModel):
    """Yearly salaries, monthly payments on other debts, the home and the loan."""

    salaries: list[float]
    debts: list[float]
    home: Home
    loan: Loan


@step_handler("mortgage.income")
def income(context: Application) -> float:
    """A month's income of the household."""
    return sum(context.salaries) / 12


@step_handler("mortgage.obligations")
def obligations(context: Application) -> float:
    """What goes to other lenders each month."""
    return sum(context.debts)


@step_handler("mortgage.valuation")
def valuation(context: Application) -> float:
    """What the home is worth, by its neighbours."""
    return median(context.home.prices_nearby) * context.home.square_metres


@step_handler("mortgage.free_income")
def free_income(income: float, obligations: float) -> float:
    """What is left each month."""
    return income - obligations


@step_handler("mortgage.loan_to_value")
def loan_to_value(valuation: float, context: Application) -> float:
    """The part of the home that the bank pays."""
    return context.loan.amount / valuation


@step_handler("mortgage.rate")
def rate(loan_to_value: float, step: StepContext) -> float:
    """Per cent a year; the limits are the step's `config` in the file."""
    limits = step.config
    return float(limits["risky" if loan_to_value > limits["risky_above"] else "safe"])


@step_handler("mortgage.instalment")
def instalment(rate: float, context: Application) -> float:
    """What is paid each month until nothing is owed."""
    monthly, months = rate / 100 / 12, context.loan.years * 12
    return round(context.loan.amount * monthly / (1 - (1 + monthly) ** -months), 2)


@step_handler("mortgage.decision")
def decision(free_income: float, loan_to_value: float, instalment: float) -> dict[str, object]:
    """Granted when the instalment takes at most 40 % of what is free and the home covers the loan."""
    return {"granted": instalment <= 0.4 * free_income and loan_to_value <= 1, "instalment": instalment}


(mixed,) = load_templates(Path(__file__).with_name("mixed.yaml"))


def owed_at_the_end(instalment: float) -> float:
    """The debt after 240 months of the example, a month at a time."""
    debt = 300_000.0
    for _ in range(240):
        debt += debt * 4.2 / 1200 - instalment
    return debt


def expected() -> dict[str, object]:
    """The instalment by search: the whole cents that leave the least owed, or owing, at the end."""
    low, high = 0, 300_000_00
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if owed_at_the_end(middle / 100) > 0 else (low, middle)
    cents = min(low, high, key=lambda each: abs(owed_at_the_end(each / 100)))
    return {
        "free_income": 5_100,
        "valuation": 360_000,
        "rate": 4.2,
        "decision": {"granted": True, "instalment": cents / 100},
    }


example = Example(
    template=mixed,
    context={
        "salaries": [42_000, 24_000],
        "debts": [250, 150],
        "home": {"square_metres": 90, "prices_nearby": [3_700, 4_000, 5_200]},
        "loan": {"amount": 300_000, "years": 20},
    },
    expected=expected,
)

"""What is typed at a shell in these tests, and how it ends."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 30
STORED = "orders/fulfilment"

SHOP = """
from pathlib import Path
from tasker import PermanentError, TaskTemplate

fulfilment = TaskTemplate("orders/fulfilment", version="1.0.0")

@fulfilment.step
def validate(context: dict) -> dict:
    return {"ok": context["amount"] > 0}

@fulfilment.step
def reserve(validate: dict) -> str:
    return "shelf 4"

@fulfilment.step
def charge(validate: dict) -> str:
    if not Path("card").exists():
        raise PermanentError("no card")
    return "paid"

@fulfilment.step
def ship(reserve: str, charge: str) -> str:
    return f"{charge}, from {reserve}"
"""
CELERY = """
import os
from celery import Celery
from tasker import Tasker

app = Celery("shop", broker=os.environ["TASKER_BROKER_URL"])
tasks = Tasker(celery=app)
"""
CELERY_PROGRAM = (
    "from celery.bin.celery import celery; celery(auto_envvar_prefix='CELERY', prog_name='celery')"
)
TASK_KEYS = [
    "task_id",
    "template",
    "version",
    "state",
    "execution_status",
    "created",
    "context",
    "steps",
    "started_at",
    "finished_at",
]
UNKNOWN = "01981f6e-7c1a-7cc3-98c4-dc0c0c07398f"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ended]


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(text))

"""The shop's own database: the world that the steps of `order_fulfilment` change.

It is a schema beside Tasker's in the same database here; it could be anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tasker import Tasker

TABLES = Path(__file__).with_name("shop.sql")


@contextmanager
def transaction() -> Iterator[psycopg.Connection[Any]]:
    """A transaction on the shop: committed at the end of the block, rolled back when it raises."""
    with psycopg.connect(Tasker().settings.require_database_url()) as connection:
        yield connection


def open_shop() -> None:
    """Make the tables and put goods on the shelves, unless that was done before."""
    with transaction() as shop:
        # `if not exists` is no protection from a second process that does the same at this moment
        shop.execute("select pg_advisory_xact_lock(hashtext('example_shop'))")
        shop.execute(TABLES.read_bytes())

"""error_fingerprint: equal for errors that are alike, different for others."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from tests.sql.protocol import Connection


def fingerprint(session: Connection, message: str | None, kind: str = "ValueError", **more: Any) -> str:
    """The fingerprint of an error."""
    error = {"type": kind, "message": message, **more}
    ((found,),) = session.execute("select tasker.error_fingerprint(%s)", [Jsonb(error)]).fetchall()
    return str(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("order 42 is closed", "order 7 is closed"),
        ("took 1.5 s, limit 30", "took 12.75 s, limit 60"),
        ("no task 01981f6e-7c1a-7cc3-98c4-dc0c0c07398f", "no task abcdefab-cdef-abcd-efab-1bcdefabcdef"),
        ("<Order object at 0x7f21d0>", "<Order object at 0x1>"),
        ("blob deadbeef is gone", "blob cafebabe01 is gone"),
        (
            "connect to 10.0.0.1:5432 at 2026-01-02T03:04:05Z",
            "connect to 10.12.0.7:6432 at 2027-11-12T13:14:15Z",
        ),
        ("unknown key 'colour'", "unknown key 'size'"),
        ('unknown key "colour" of `a`', 'unknown key "size" of `b`'),
        ("can't open 'x'", "can't open 'y z'"),
        ("a  b\n c", "a b c"),
        ("", None),
        ("x" * 1000, "x" * 1000 + " and whatever follows"),
    ],
)
def test_errors_that_differ_only_from_case_to_case_have_one(
    session: Connection, one: str, other: str | None
) -> None:
    assert fingerprint(session, one) == fingerprint(session, other)


@pytest.mark.parametrize(
    ("message", "kind", "more"),
    [
        ("gateway is away", "TypeError", {}),
        ("gateway is full", "ValueError", {}),
        ("gateway is away", "ValueError", {"frame": "shop.charge"}),
        ("gateway isn't away", "ValueError", {}),
        ("", "ValueError", {}),
    ],
)
def test_other_errors_have_others(session: Connection, message: str, kind: str, more: dict[str, Any]) -> None:
    assert fingerprint(session, "gateway is away") != fingerprint(session, message, kind, **more)


def test_it_is_sixteen_hexadecimal_digits_and_never_changes(session: Connection) -> None:
    found = fingerprint(session, "order 42 is closed", frame="shop.charge")
    assert found == sha256(b"ValueError\norder is closed\nshop.charge").hexdigest()[:16]
    assert fingerprint(session, None) == sha256(b"ValueError\n").hexdigest()[:16]


def test_the_traceback_does_not_count(session: Connection) -> None:
    assert fingerprint(session, "no", traceback="line 1") == fingerprint(session, "no", traceback="line 2")


def test_a_long_message_full_of_quotes_costs_little(session: Connection) -> None:
    session.execute("set local statement_timeout = '500ms'")
    for hostile in ("'" * 999_999, "'\"`" * 300_000, "a'" * 500_000, "f" * 1_000_000, "-_1" * 300_000):
        assert fingerprint(session, hostile)

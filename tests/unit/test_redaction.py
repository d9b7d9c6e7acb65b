"""What is hidden in stored errors and logs, and what is not."""

from __future__ import annotations

import time

import pytest
from pydantic import SecretStr

from tasker.domain.redaction import BY_RULES, Redaction, passwords
from tasker.settings import Settings, redaction


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://shop:hunter2@db:5432/shop", "postgresql://shop:***@db:5432/shop"),
        ("postgresql+psycopg://shop:p@ss:w@db/shop", "postgresql+psycopg://shop:***@db/shop"),
        ("redis://:hunter2@cache/0 is away", "redis://:***@cache/0 is away"),
        ("host=db password='a b' user=shop", "host=db password=*** user=shop"),
        (
            "postgresql://db/shop?password=hunter2&sslmode=require",
            "postgresql://db/shop?password=***&sslmode=require",
        ),
        ("Authorization: Bearer abc.def.ghi", "Authorization: ***"),
        ("{'Authorization': 'Basic aGk6aG8=', 'x': 1}", "{'Authorization': '***', 'x': 1}"),
        ("sent bearer eyJhbGciOi.J9 to x", "sent bearer *** to x"),
        ("GET /?access_token=hunter2&page=2", "GET /?access_token=***&page=2"),
        ('{"api_key": "hunter 2", "page": 2}', '{"api_key": ***, "page": 2}'),
        (r"{\"client_secret\": \"hunter2\"}", r"{\"client_secret\": ***}"),
        ("connect(host='db', password=b'hunter2', port=1)", "connect(host='db', password=***, port=1)"),
        ("AWS_SECRET_ACCESS_KEY=hunter2", "AWS_SECRET_ACCESS_KEY=***"),
        ("PASSWORD = hunter2\nnext", "PASSWORD = ***\nnext"),
    ],
)
def test_a_secret_is_hidden_and_hidden_again_stays_as_it_is(text: str, shown: str) -> None:
    assert BY_RULES.hide(text) == shown
    assert BY_RULES.hide(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://db:5432/path@home",
        "mail to someone@example.org: no",
        "unexpected token: expected )",
        "if password == other:",
        "tokens_used=512 idempotency_key=order-1 max_tokens=4",
        "bearer of bad news; authorization failed for ann",
        "the password is wrong",
        'File "/srv/shop/passwords.py", line 3, in check',
    ],
)
def test_what_only_resembles_one_is_shown(text: str) -> None:
    assert BY_RULES.hide(text) == text


def test_a_known_secret_is_hidden_wherever_it_stands_the_longest_first() -> None:
    hiding = Redaction(["hunter2", "hunter2-long", ""])
    assert hiding.hide("login with hunter2-long, not hunter2!") == "login with ***, not ***!"


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("postgresql://shop:hunter2@db/shop", {"hunter2"}),
        ("postgresql://shop:p%40ssw0rd@db/shop", {"p%40ssw0rd", "p@ssw0rd"}),
        ("postgresql://db/shop?password=hunter2", {"hunter2"}),
        ("postgresql://postgres:postgres@db/postgres", set()),
        ("redis://:short@cache/0", set()),
        ("redis://cache", set()),
        ("http://[::1", set()),
    ],
)
def test_the_passwords_of_a_url_are_known_as_written_and_decoded(url: str, known: set[str]) -> None:
    assert passwords(url) == known


def test_the_passwords_of_the_settings_servers_are_hidden() -> None:
    settings = Settings(
        database_url=SecretStr("postgresql://shop:p%40ssw0rd@db/shop"),
        broker_url=SecretStr("redis://:hunter2@cache/0"),
    )
    assert redaction(settings).hide("neither p@ssw0rd nor p%40ssw0rd nor hunter2") == (
        "neither *** nor *** nor ***"
    )


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a.",
        "a-",
        "x://",
        "x://:y@",
        "x:y@",
        "password=",
        "password='",
        "bearer ",
        "authorization:",
        '\\"',
        "=",
    ],
)
def test_the_cost_is_linear_whatever_the_text(unit: str) -> None:
    begun = time.perf_counter()
    BY_RULES.hide(unit * (400_000 // len(unit)))
    assert time.perf_counter() - begun < 2

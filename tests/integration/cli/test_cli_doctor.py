"""`tasker doctor`."""

from __future__ import annotations

from pathlib import Path

import redis

from tests.integration.cli.typed import CELERY, SHOP, Run, write

DURABLE = "-c synchronous_commit=on"
"""Unlike the tests' servers."""


def test_doctor_names_what_is_wrong_and_the_remedy(
    run: Run, redis_client: redis.Redis, tmp_path: Path
) -> None:
    write(tmp_path / "shop.py", CELERY + SHOP)
    before = redis_client.config_get("maxmemory-policy")["maxmemory-policy"]
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        ended = run("-A", "shop", "doctor", "-o", "json", TASKER_LOG_LEVLE="DEBUG", PGOPTIONS=DURABLE)
    finally:
        redis_client.config_set("maxmemory-policy", before)
    assert ended.code == 1
    assert not ended.json["ok"]
    wrong = {each["name"]: each for each in ended.json["findings"] if not each["ok"]}
    assert wrong.keys() == {"settings", "coordinator", "broker_memory"}
    assert wrong["broker_memory"]["remedy"] == "set maxmemory-policy to noeviction"
    assert "did you mean TASKER_LOG_LEVEL?" in wrong["settings"]["text"]
    advice = [each["text"] for each in ended.json["findings"] if each["ok"] and each["remedy"]]
    assert [text.partition(" is ")[0] for text in advice] == ["worker_prefetch_multiplier"]


def test_doctor_goes_on_where_servers_are_away(run: Run) -> None:
    away = "localhost:1"
    ended = run(
        "doctor", TASKER_DATABASE_URL=f"postgresql://{away}/shop", TASKER_BROKER_URL=f"redis://{away}/0"
    )
    assert ended.code == 1
    wrong = [line for line in ended.out.splitlines() if line.startswith("wrong")]
    assert len(wrong) == 2
    assert "PostgreSQL does not answer" in wrong[0]
    assert f"the broker redis://{away}/0 does not answer" in wrong[1]

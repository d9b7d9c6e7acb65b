"""The examples through a real worker: right, right after failures, failed for good and brought back."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tasker import StepFailed
from tasker.settings import Settings
from tests.acceptance.system import RECOVERY_THRESHOLDS, System
from workers import EXAMPLES

SERVERS = ("TASKER_DATABASE_URL", "TASKER_BROKER_URL")


class Pattern(NamedTuple):
    """A step in the middle of an example that gets into trouble, and which steps do not depend on it."""

    example: str
    troubled: str
    independent: set[str]

    @property
    def template(self) -> str:
        return str(EXAMPLES[self.example].template.full_name)

    @property
    def steps(self) -> int:
        return len(EXAMPLES[self.example].template.definition.steps)


PATTERNS = [
    Pattern("linear", "root", {"discriminant"}),
    Pattern("diamond", "spread", {"trimmed", "mean"}),
    Pattern("parallel_merge", "rail", {"road", "air"}),
    Pattern("tree", "evens", {"numbers", "odds", "odds_total", "odds_largest"}),
    Pattern("mixed", "valuation", {"income", "obligations", "free_income"}),
]
every_pattern = pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.example)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_comes_out_as_it_must(system: System, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in SERVERS:  # with which an example looks at what it did to the shop
        monkeypatch.setenv(variable, system.variables()[variable])
    example = EXAMPLES[name]
    task = system.tasker.submit(example.template, example.context).wait(timeout=20)
    assert task.state == "complete"
    assert example.found(task) == example.expected()


@every_pattern
def test_a_step_that_fails_twice_delays_its_task_and_changes_nothing(
    system: System, pattern: Pattern
) -> None:
    example = EXAMPLES[pattern.example]
    trouble = {"step": pattern.troubled, "failures": 2}
    task = system.submit(pattern.template, {**example.context, "trouble": trouble}).wait(timeout=20)
    assert task.state == "complete"
    assert example.found(task) == example.expected()
    failures = system.failures(task.id)
    assert failures.pop(pattern.troubled) == 2
    assert set(failures.values()) == {0}


@every_pattern
def test_a_step_that_fails_for_good_stops_its_descendants_only_until_retried(
    system: System, pattern: Pattern, tmp_path: Path
) -> None:
    example = EXAMPLES[pattern.example]
    healed = tmp_path / "healed"
    trouble = {"step": pattern.troubled, "until": str(healed)}
    task = system.submit(pattern.template, {**example.context, "trouble": trouble}).wait(timeout=20)

    assert task.state == "error"
    states = system.states(task.id)
    assert states.pop(pattern.troubled) == "error"
    assert {name for name, state in states.items() if state == "complete"} == pattern.independent
    assert {state for name, state in states.items() if name not in pattern.independent} <= {"pending"}
    with pytest.raises(StepFailed, match="trouble"):
        task.result(pattern.troubled)

    healed.touch()
    system.retry(task)
    assert task.wait(timeout=20).state == "complete"
    assert example.found(task) == example.expected()
    assert len(system.states(task.id)) == pattern.steps


def test_the_lowered_thresholds_name_the_defaults_they_stand_for() -> None:
    defaults = {name: Settings.model_fields[name].default for name in RECOVERY_THRESHOLDS}
    assert {name: default for name, (_, default) in RECOVERY_THRESHOLDS.items()} == defaults

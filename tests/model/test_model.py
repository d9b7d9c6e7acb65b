"""The model in its small form; `make model` explores it with two faults at a time, in two minutes."""

from __future__ import annotations

from inspect import isfunction

import pytest

from tests.model import __main__ as command
from tests.model import actions, disturbances
from tests.model.cases import BROKEN, CASES, ONE, SMALL_CASES
from tests.model.explore import explore
from tests.model.world import Case

ACTIONS = {
    name
    for module in (actions, disturbances)
    for name, it in vars(module).items()
    if isfunction(it) and it.__doc__ and not it.__doc__[0].isupper()
}
OF_BROKEN_RULES = {"read"}
AFTER_ANOTHER_FAULT = {"stop_main_only"}


def test_every_state_is_sound_and_has_a_way_to_a_settled_one_and_everything_happens() -> None:
    explored = [explore(case) for case in SMALL_CASES]
    assert [(found.case.name, found.wrong, found.trace) for found in explored if found.wrong] == []
    assert (
        frozenset.union(*(found.actions for found in explored))
        == ACTIONS - OF_BROKEN_RULES - AFTER_ANOTHER_FAULT
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_with_two_faults_every_state_is_sound_and_has_a_way_to_a_settled_one(case: Case) -> None:
    found = explore(case)
    assert (found.wrong, found.trace) == ("", ())


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.without)
def test_a_broken_rule_is_noticed(case: Case) -> None:
    found = explore(case)
    assert found.wrong
    assert f"=> {found.wrong}" in found.trace


@pytest.mark.parametrize(
    ("cases", "broken", "said", "code"),
    [
        ((Case("fine", ONE),), (), "all", 0),
        (
            (Case("not fine", ONE, faults=frozenset({"lose"}), budget=1, without="republisher"),),
            (),
            "settle",
            1,
        ),
        ((), (Case("harmless", ONE, without="republisher"),), "NOT NOTICED", 1),
    ],
)
def test_the_command_says_what_is_wrong_and_fails(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    cases: tuple[Case, ...],
    broken: tuple[Case, ...],
    said: str,
    code: int,
) -> None:
    monkeypatch.setattr(command, "CASES", cases)
    monkeypatch.setattr(command, "BROKEN", broken)
    assert command.main(["--traces"]) == code
    assert said in capsys.readouterr().out

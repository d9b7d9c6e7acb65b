"""The words of the schema's domains are those of the table of moves."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from tasker.domain.states import StepState, TaskState


@pytest.mark.parametrize(("domain", "states"), [("step_state", StepState), ("task_state", TaskState)])
def test_a_domain_holds_exactly_the_states_of_python(
    session: psycopg.Connection[Any], domain: str, states: Any
) -> None:
    query = "select pg_get_constraintdef(oid) from pg_constraint where contypid = %s::regtype"
    ((definition,),) = session.execute(query, [f"tasker.{domain}"]).fetchall()
    assert sorted(re.findall(r"'(\w+)'", definition)) == sorted(states)


def test_a_column_refuses_a_word_that_is_no_state(session: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="step_state"):
        session.execute("select 'done'::tasker.step_state")

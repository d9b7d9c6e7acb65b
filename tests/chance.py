"""What tests draw lots from: the same at every run, and other lots with SEED=n in the environment."""

from __future__ import annotations

import os
from random import Random

SEED = int(os.environ.get("SEED", "0"))


def chance_of(number: int) -> Random:
    """Chance that decides the same way every time; told in what a failed test has printed."""
    print(f"SEED={SEED}")  # noqa: T201 - pytest shows it
    return Random(f"{SEED} {number}" if SEED else number)  # noqa: S311 - no secret is made of it

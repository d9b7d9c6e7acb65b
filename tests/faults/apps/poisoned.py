"""Handlers that kill their process, beside ordinary ones."""

from __future__ import annotations

from tests.acceptance.apps import ledger  # noqa: F401 - registers its template
from tests.faults.apps import misbehaving  # noqa: F401 - registers its template

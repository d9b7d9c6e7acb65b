"""An application whose worker replaces a child after each message."""

from __future__ import annotations

import os

from celery import Celery

from tasker import Tasker
from tests.acceptance.apps import ledger  # noqa: F401 - registers its template

app = Celery("recycled", broker=os.environ["TASKER_BROKER_URL"])
app.conf.worker_max_tasks_per_child = 1
tasks = Tasker(celery=app)

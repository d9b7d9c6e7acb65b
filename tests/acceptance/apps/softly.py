"""The halting steps on an application's own Celery app, which gives what runs a second to end."""

from __future__ import annotations

import os

from celery import Celery

from tasker import Tasker
from tests.acceptance.apps import halting  # noqa: F401 - registers the steps

app = Celery("softly", broker=os.environ["TASKER_BROKER_URL"])
app.conf.worker_soft_shutdown_timeout = 1
tasks = Tasker(celery=app)

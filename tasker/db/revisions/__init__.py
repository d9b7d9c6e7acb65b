"""The history of the schema, one Alembic revision per released change."""

HISTORY = ("0001",)
"""All revisions, oldest first, known without loading Alembic: every worker looks at start."""

HEAD = HISTORY[-1]

"""The history of the schema, one Alembic revision per released change."""

HEAD = "0001"
"""The newest revision, known without loading Alembic: every worker compares it at start."""

"""The history of the schema, one Alembic revision per released change."""

HISTORY = ("0001",)
"""All revisions, oldest first, known without loading Alembic: every worker looks at start."""

HEAD = HISTORY[-1]

SERVES = "0.1.0"
"""The oldest release whose workers and applications run on the schema and functions of this one.

Once a release is out, the next one serves it: columns it knows stay, functions it calls keep their names,
arguments and results. The one after may drop what only it has used.
"""

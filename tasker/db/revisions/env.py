"""Alembic's entry: runs the revisions on the connection that `tasker.db.migrate` holds, or prints them."""

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    # The caller writes the one transaction around the whole printed script.
    context.configure(dialect_name="postgresql", version_table_schema="tasker", transactional_ddl=False)
else:
    context.configure(connection=connection, version_table_schema="tasker")
with context.begin_transaction():
    context.run_migrations()

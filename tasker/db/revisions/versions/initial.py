"""All tables of the first release."""

from alembic import op

from tasker.db.revisions import HEAD

revision = HEAD
down_revision = None


def upgrade() -> None:
    """Apply the files of sql/schema, as they are: Alembic would take their colons for parameters."""
    context = op.get_context()
    if context.config is None:
        raise RuntimeError("run through tasker.db.migrate, which passes the SQL files in the configuration")
    script: str = context.config.attributes["schema_script"]
    if context.as_sql:
        context.impl.static_output(script)
    else:
        op.get_bind().exec_driver_sql(script, execution_options={"no_parameters": True})

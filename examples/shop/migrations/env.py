"""Run the migrations against the shop's own database: DATABASE_URL, or SQLite in the instance directory."""

from __future__ import annotations

from alembic import context

from shop import database

engine = database.connect(database.url_from_environment())
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=database.Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()

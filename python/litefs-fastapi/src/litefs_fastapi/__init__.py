"""FastAPI, Starlette, Flask and SQLAlchemy on SQLite that is replicated by litefs-py."""

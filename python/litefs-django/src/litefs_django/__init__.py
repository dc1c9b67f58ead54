"""Django on SQLite that is replicated by litefs-py."""

"""The engine `litefs_django.db.backends.litefs`: Django's SQLite, on the mount of a node."""

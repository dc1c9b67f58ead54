"""Django on SQLite that is replicated by litefs-py.

DATABASES = {"default": {"ENGINE": "litefs_django.db.backends.litefs", "NAME": "app.db"}}
LITEFS = {"MOUNT": "/litefs"}
INSTALLED_APPS = [..., "litefs_django"]
MIDDLEWARE = ["litefs_django.middleware.LitefsMiddleware", ...]
"""

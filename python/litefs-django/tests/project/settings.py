"""A project as users have it. The environment says where the mount is; without one, plain SQLite."""

import json
import os
from pathlib import Path

BASE_DIR = Path(os.environ.get("PROJECT_DIR", "/nonexistent"))
SECRET_KEY = "k" * 50
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
DATABASES = {
    "default": {
        "ENGINE": "litefs_django.db.backends.litefs",
        "NAME": os.environ.get("PROJECT_DATABASE", "app.db"),
    }
}
LITEFS = json.loads(os.environ.get("PROJECT_LITEFS", '{"ENABLED": false}'))
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "litefs_django",
    "debug_toolbar",
    "notes",
]
MIDDLEWARE = [
    "litefs_django.middleware.LitefsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cached"}
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

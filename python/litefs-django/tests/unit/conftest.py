import os
import sys
from pathlib import Path

import django
import pytest

PROJECT = Path(__file__).parents[1] / "project"


@pytest.fixture(scope="session", autouse=True)
def _django(tmp_path_factory):
    """Django is set up once in a process: on plain SQLite, in a folder of its own."""
    os.environ["PROJECT_DIR"] = str(tmp_path_factory.mktemp("django"))
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    sys.path.insert(0, str(PROJECT))
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    yield
    from django.db import connections

    connections.close_all()


@pytest.fixture
def litefs(monkeypatch):
    """Other settings for a test."""
    from django.test.utils import override_settings
    from litefs_django import conf

    entered = []

    def change(**settings):
        changed = override_settings(LITEFS=settings)
        changed.enable()
        entered.append(changed)
        return conf

    yield change
    for changed in reversed(entered):
        changed.disable()

"""The system checks: each has an id, and a hint that says what to do."""

import pytest
from django.core.checks import run_checks
from django.test.utils import override_settings

ENGINE = "litefs_django.db.backends.litefs"


def ids():
    found = run_checks(tags=["litefs"])
    assert all(message.hint for message in found)
    return [message.id for message in found]


def test_a_good_project_has_none(litefs):
    assert ids() == []
    litefs(MOUNT="/litefs", API=["http://127.0.0.1:8008", "http://10.0.0.2:8008"])
    assert ids() == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MUONT": "/x"}, "did you mean MOUNT?"),
        ({"mount": "/x"}, "did you mean MOUNT?"),
        ({"BUSY_TIMEOUT": -1}, "BUSY_TIMEOUT: "),
        ({"COOKIE_NAME": "a b"}, "COOKIE_NAME: "),
        ({"SYNCHRONOUS": "SOMETIMES"}, "SYNCHRONOUS: "),
        ({"DEV": True, "ENABLED": False}, "contradict"),
    ],
)
def test_wrong_settings(litefs, settings, said):
    litefs(**settings)
    found = run_checks(tags=["litefs"])
    assert [message.id for message in found] == ["litefs.E001"]
    assert said in found[0].msg


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ({"NAME": "/elsewhere/app.db"}, ["litefs.E002"]),
        ({"NAME": "/litefs/app.db"}, []),
        ({"NAME": ":memory:"}, []),
        ({"NAME": "a.db", "OPTIONS": {"init_command": "PRAGMA journal_mode = DELETE"}}, ["litefs.E003"]),
        ({"NAME": "a.db", "OPTIONS": {"init_command": "PRAGMA journal_mode=WAL"}}, []),
        ({"NAME": "a.db", "OPTIONS": {"timeout": 1}}, ["litefs.W001"]),
        ({"NAME": "a.db", "OPTIONS": {"transaction_mode": "deferred"}}, ["litefs.W003"]),
        ({"ENGINE": "django.db.backends.sqlite3", "NAME": "/elsewhere/app.db"}, []),
    ],
)  # fmt: skip
def test_databases(litefs, database, expected):
    litefs(MOUNT="/litefs")
    with override_settings(
        DATABASES={
            "default": {"ENGINE": ENGINE, **database},
            "b": {"ENGINE": ENGINE, "NAME": "b.db"},
        }
    ):
        assert ids() == expected


def test_middleware(litefs):
    litefs(MOUNT="/litefs")
    with override_settings(MIDDLEWARE=[]):
        assert ids() == ["litefs.W002"]
    ours = "litefs_django.middleware.LitefsMiddleware"
    with override_settings(MIDDLEWARE=["django.middleware.common.CommonMiddleware", ours]):
        assert ids() == ["litefs.W002"]


def test_the_node_is_asked_for_deployment_only(litefs, tmp_path):
    litefs(MOUNT=str(tmp_path), API="http://127.0.0.1:1")
    from django.core.checks import run_checks

    found = run_checks(tags=["litefs"], include_deployment_checks=True)
    assert "litefs.W004" in [message.id for message in found]
    assert ids() == []

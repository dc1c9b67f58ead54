"""Tests of Django's own suite that cannot hold here, each with the reason. All others have to pass."""

SKIPPED: dict[str, set[str]] = {}


def apply() -> None:
    """Tells Django of them in the way in which an engine tells its own."""
    from litefs_django.db.backends.litefs.base import DatabaseWrapper

    class Features(DatabaseWrapper.features_class):
        @property
        def django_test_skips(self):
            return {**super().django_test_skips, **SKIPPED}

    DatabaseWrapper.features_class = Features

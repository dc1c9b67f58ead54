"""Tests of Django's own suite that cannot hold here, each with the reason. All others have to pass."""

import os

import django

IMMEDIATE = (
    "Transactions begin IMMEDIATE here, with the write lock; the tests look for a plain BEGIN."
)
SKIPPED: dict[str, set[str]] = {
    IMMEDIATE: {
        "backends.base.test_base.DatabaseWrapperLoggingTests.test_commit_debug_log",
        "backends.base.test_base.DatabaseWrapperLoggingTests.test_rollback_debug_log",
    },
    "The relative name of a test database is one on the mount.": {
        "backends.sqlite.test_creation.TestDbSignatureTests.test_custom_test_name",
    },
    "They make the test databases once more, and Django asks before it overwrites one in a file: in parallel with plain "
    "SQLite and a TEST NAME, too.": {
        f"test_runner.test_debug_sql.TestDebugSQL.test_{name}"
        for name in ("output_normal", "output_verbose", "setupclass_exception")
    },
}
if django.VERSION >= (5, 1):
    # Since there are modes.
    SKIPPED[IMMEDIATE].add(
        "backends.sqlite.tests.TestTransactionMode.test_default_transaction_mode"
    )
if os.geteuid() == 0:
    SKIPPED["Root is refused nothing because of a file's mode: with plain SQLite, too."] = {
        "file_uploads.tests.DirectoryCreationTests.test_readonly_root",
        "i18n.test_compilation.PoFileTests.test_no_write_access",
        "template_tests.test_loaders.FileSystemLoaderTests.test_permissions_error",
    }


def apply() -> None:
    """Tells Django of them in the way in which an engine tells its own."""
    from django.utils.functional import cached_property
    from litefs_django.db.backends.litefs.base import DatabaseWrapper

    class Features(DatabaseWrapper.features_class):
        @cached_property
        def django_test_skips(self):
            return {**super().django_test_skips, **SKIPPED}

    DatabaseWrapper.features_class = Features

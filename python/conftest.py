"""The folder says which kind a test is."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items):
    """Marks each test."""
    for item in items:
        kind = "integration" if "integration" in Path(item.fspath).parts else "unit"
        item.add_marker(getattr(pytest.mark, kind))
        if "hypothesis" in getattr(item, "keywords", {}) or getattr(
            getattr(item, "obj", None), "is_hypothesis_test", False
        ):
            item.add_marker(pytest.mark.property)

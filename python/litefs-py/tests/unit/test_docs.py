"""The manual says what the code does."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_the_page_of_settings():
    made = runpy.run_path(str(ROOT / "python/tools/settings_docs.py"), run_name="tool")[
        "document"
    ]()
    assert made == (ROOT / "docs/python-settings.md").read_text(), "uv run tools/settings_docs.py"


def test_every_check_is_in_the_manual():
    text = (ROOT / "docs/django.md").read_text()
    code = (ROOT / "python/litefs-django/src/litefs_django/checks.py").read_text()
    ids = {part.split('"')[1] for part in code.split("id=")[1:]}
    assert len(ids) == 8
    assert all(id in text for id in ids)

"""Every patch here still applies, and every promise and rule has one. That each is caught is for
`scripts/mutants.py` to show, which takes longer."""

import sys

# Cargo's root is two folders up; the script is the one that runs them.
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import mutants  # noqa: E402

ALL = mutants.all_mutants()


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_it_applies(mutant: mutants.Mutant) -> None:
    """To the code as it is now."""
    assert mutants.applies(mutant, ROOT, "--dry-run") == ""


@pytest.mark.parametrize("kept", [*mutants.PROMISES, *mutants.RULES])
def test_it_has_a_mutant(kept: str) -> None:
    """Promises and rules alike."""
    assert any(kept in mutant.keeps for mutant in ALL)


def test_nothing_else_is_kept() -> None:
    """No promise or rule is misspelt."""
    known = {*mutants.PROMISES, *mutants.RULES}
    assert {kept for mutant in ALL for kept in mutant.keeps} <= known


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name)
def test_the_test_that_it_names_is_there(mutant: mutants.Mutant) -> None:
    """As far as a file and a name can say."""
    target, rest = mutant.test.split(maxsplit=1)
    if target in mutants.PYTHON:
        file, _, function = rest.partition("::")
        assert f"def {function}" in (ROOT / "tests" / target / file).read_text()
    elif target == "lib":
        folder = ROOT / "src" / rest.split("::")[0]
        assert folder.is_dir()
    else:
        files = [ROOT / "tests" / f"{target}.rs", *(ROOT / "tests" / target).glob("**/*.rs")]
        text = "\n".join(str(path) + path.read_text() for path in files if path.is_file())
        assert rest.startswith("-") or rest.split("::")[-1] in text


def test_the_table_is_up_to_date() -> None:
    """`scripts/mutants.py --table` writes it."""
    written = (ROOT / "tests" / "mutants" / "README.md").read_text()
    assert written == mutants.HEAD + mutants.table(ALL)

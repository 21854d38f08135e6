"""The documentation is complete: settings, Redis names, error codes, commands and links are compared with the code."""

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from executors.alerts import AlertCode
from executors.errors import Code
from tradedist import keys

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
READERS = {"envaddress", "envdirectory", "envstr", "envint", "envbool", "envchoice", "envlist", "envsecret"}


@cache
def text(path: Path) -> str:
    return path.read_text()


def table_names(path: Path) -> set[str]:
    """What stands in backquotes in the first column of the page's tables."""
    return set(re.findall(r"^\| `([^`]+)`", text(path), re.MULTILINE))


def settings_read() -> set[str]:
    tree = ast.parse(text(ROOT / "tradedist" / "settings.py"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in READERS:
            name = node.args[0]
            assert isinstance(name, ast.Constant), f"settings.py:{node.lineno}: write the name out"
            found.add(str(name.value))
    return found


def redis_names() -> set[str]:
    """Every constant and function of keys.py, by its name in the code."""
    constants = {name for name in vars(keys) if name.isupper() and name != "PREFIX"}
    functions = {name for name, _ in inspect.getmembers(keys, inspect.isfunction)}
    return constants | functions


def commands() -> set[str]:
    paths = ROOT.glob("*/management/commands/*.py")
    return {path.stem for path in paths if not path.stem.startswith("_")}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", text(ROOT / "Makefile"), re.MULTILINE))


def pages() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def test_every_setting_is_explained_and_every_explained_setting_exists() -> None:
    assert table_names(DOCS / "configuration.md") == settings_read()


def test_every_redis_name_is_explained() -> None:
    documented = set(re.findall(r"`([A-Za-z_]+)(?:\([a-z_, ]*\))?`", text(DOCS / "redis-keys.md")))
    assert redis_names() - documented == set()


def test_every_error_code_is_explained_and_every_explained_code_exists() -> None:
    assert table_names(DOCS / "errors.md") == {str(code) for code in Code}


def test_every_alert_is_explained_and_every_explained_alert_exists() -> None:
    assert table_names(DOCS / "alerts.md") == {str(code) for code in AlertCode}


def test_every_command_is_explained() -> None:
    told = text(DOCS / "operating.md") + text(ROOT / "README.md")
    assert {name for name in commands() if f"manage.py {name}" not in told} == set()


def test_every_make_target_is_explained_and_there_are_few() -> None:
    told = text(DOCS / "operating.md") + text(ROOT / "README.md")
    assert {name for name in make_targets() if f"make {name}" not in told} == set()
    assert len(make_targets()) <= 14


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        assert (page.parent / target.partition("#")[0]).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_exist(page: Path) -> None:
    """A page that names a module by its path names one that is there."""
    for name in re.findall(
        r"`((?:tradedist|executors|charts|history|tests|bench|deploy|docs|static|templates)/[\w./-]+\.\w+)`",
        text(page),
    ):
        assert (ROOT / name).exists(), f"{page}: {name}"

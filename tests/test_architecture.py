"""The rules of dependency, name and size, read from the source itself. docs/how-it-works.md says why they are so."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("executors", "charts", "history")
PACKAGES = ("tradedist", *APPS)

# They decide, and touch nothing: no file, socket, clock, Redis, Django. Everyone may import them.
PURE = {
    "charts.candles",
    "charts.ingest",
    "charts.market",
    "charts.messages",
    "charts.pipeline",
    "charts.resample",
    "executors.answers",
    "executors.breaker",
    "executors.drift",
    "executors.errors",
    "executors.foreign",
    "executors.graces",
    "executors.holdings",
    "executors.journal_schema",
    "executors.legs",
    "executors.levels",
    "executors.messages",
    "executors.signals",
    "executors.orders",
    "executors.netting",
    "executors.comparing",
    "executors.endings",
    "executors.plans",
    "executors.protection",
    "executors.wishes",
    "executors.queueing",
    "executors.reconcile",
    "executors.reporting",
    "executors.restarts",
    "executors.retcodes",
    "executors.settlement",
    "executors.sizing",
    "executors.symbols",
    "executors.traces",
    "executors.terminals.base",
    "executors.terminals.servertime",
    "tradedist.keys",
    "tradedist.mailbox",
    "tradedist.rates",
    "tradedist.wire",
}
PURE_LIBRARIES = {"pydantic", "pydantic_core", "numpy"}
IMPURE_STANDARD = {
    "asyncio",
    "concurrent",
    "ctypes",
    "http",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "urllib",
}
LEAVES = {
    "tradedist.keys",
    "tradedist.redis",
    "tradedist.clock",
    "tradedist.env",
    "tradedist.nodes",
    "tradedist.primary",
}
# What runs in a process that owns a terminal, or forks such processes: a broken database must not stop trading.
EXECUTOR_SIDE = {"executors.supervisor", "executors.worker", "executors.executor"}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "data", "common", "misc"}
MOST_LINES = 500


@cache
def sources() -> dict[str, Path]:
    """Every module of ours by its dotted name; migrations are Django's."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "migrations" not in parts:
                found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(sources()[module].read_text())


@cache
def imports(module: str) -> frozenset[str]:
    """Dotted names that a module imports anywhere in it, except for type checking only."""
    found: set[str] = set()
    for node in _executed(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in sources() else node.module)
    return frozenset(found)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if (
            isinstance(child, ast.If)
            and isinstance(child.test, ast.Name)
            and child.test.id == "TYPE_CHECKING"
        ):
            continue
        yield child
        yield from _executed(child)


def ours(names: frozenset[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] in PACKAGES}


def test_the_list_of_pure_modules_is_true() -> None:
    assert set() == PURE - set(sources()), "these pure modules do not exist"


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_touch_nothing(module: str) -> None:
    for name in imports(module):
        top = name.partition(".")[0]
        if top in PACKAGES:
            assert name in PURE, f"{module} is pure and may not import {name}"
        else:
            assert top in PURE_LIBRARIES or (top in sys.stdlib_module_names and top not in IMPURE_STANDARD), (
                f"{module} is pure and may not import {name}"
            )
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today"):
            raise AssertionError(f"{module}:{node.lineno} reads the clock; pass the time in")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "open", f"{module}:{node.lineno} opens a file"


@pytest.mark.parametrize("app", APPS)
def test_apps_meet_only_at_pure_modules(app: str) -> None:
    for module in sources():
        if module.partition(".")[0] != app:
            continue
        for name in ours(imports(module)):
            other = name.partition(".")[0]
            if other not in (app, "tradedist"):
                assert name in PURE, f"{module} imports {name}, which is not pure; meet at a stream instead"


def test_leaves_import_nothing_of_ours_but_leaves() -> None:
    for module in LEAVES:
        assert ours(imports(module)) <= {"tradedist.settings", *LEAVES}, module


def test_apps_do_not_import_the_celery_application() -> None:
    """Tasks are `shared_task`. A command is an entry point and may know the application that it runs."""
    for module in sources():
        if module.partition(".")[0] in APPS and ".management.commands." not in module:
            assert "tradedist.celery" not in imports(module), module


def test_one_importer_of_metatrader5() -> None:
    importers = {
        module for module in sources() if "MetaTrader5" in {n.partition(".")[0] for n in imports(module)}
    }
    assert importers <= {"executors.terminals.metatrader"}


def test_executors_do_without_django_but_for_its_settings() -> None:
    seen: set[str] = set()
    waiting = set(EXECUTOR_SIDE)
    while waiting:
        module = waiting.pop()
        seen.add(module)
        for name in imports(module):
            if name.partition(".")[0] == "django":
                assert name == "django.conf", f"{module} imports {name} and runs in an executor"
            if name in sources() and name not in seen:
                waiting.add(name)
    assert "executors.journal" in seen


@pytest.mark.parametrize("module", sorted(sources()))
def test_modules_are_small_named_and_explained(module: str) -> None:
    path = sources()[module]
    lines = path.read_text().splitlines()
    assert len(lines) <= MOST_LINES, f"{path} has {len(lines)} lines; split it"
    assert not BANNED_NAMES & set(module.split(".")), f"{path}: a name that says nothing"
    if any(line.strip() for line in lines):
        assert ast.get_docstring(tree(module)), f"{path} does not say what it owns"


HOMES = {("/", "root"), ("/", "home")}


def test_exported_paths_do_not_lead_to_one_machine() -> None:
    """Nothing that is tracked may name a directory of the machine on which it was written."""
    for module, path in sources().items():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert PurePosixPath(node.value).parts[:2] not in HOMES, f"{path}:{node.lineno}"

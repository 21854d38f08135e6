"""docs/errors.md and docs/api.md say everything there is, and nothing that is not."""

import re
from pathlib import Path

from executors.errors import Code

DOCS = Path(__file__).parents[3] / "docs"


def test_every_code_is_explained_once() -> None:
    explained = re.findall(r"^\| `([A-Z_]+)` \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(Code)


def test_every_route_is_described() -> None:
    from tradedist.api import api

    text = (DOCS / "api.md").read_text()
    for path, item in api.get_openapi_schema()["paths"].items():
        for method in item:
            assert re.search(rf"{method.upper()} {re.escape(path)}(?![\w/])", text), f"{method} {path}"

"""What is done once, before the executors are forked, is not done again in each of them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.stack import ROOT

PROGRAM = """
from tradedist.celery import app
from executors.warm import warm_up
from django.core import checks

ran = []
checks.register(lambda app_configs, **_: ran.append(app_configs) or [])
if {warm}:
    warm_up(app, ["paper"])
app.loader.init_worker()  # as each worker does
print(len(ran), "executors.tasks.execute_order" in app.tasks)
"""


def checks_of_a_worker(directory: Path, *, warm: bool) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(warm=warm)],
        cwd=ROOT,
        env=os.environ | {"DATA_DIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_django_is_checked_by_other_workers_and_not_by_a_warmed_executor(tmp_path: Path) -> None:
    assert checks_of_a_worker(tmp_path, warm=False) == "1 True"
    assert checks_of_a_worker(tmp_path, warm=True) == "0 True"

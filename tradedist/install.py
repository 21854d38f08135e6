"""Installs what the platform needs, with nothing but Python's standard library; a second call does nothing.

Precedes everything: the Makefile calls it with the machine's own Python. `install.py run` makes `.venv/` from
requirements.txt and brings the page's npm packages; `install.py test` adds what the tests and checks need.
"""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LIMIT_S = 1500
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class CannotInstall(Exception):
    """Something is missing that this user may not install. The text names the command that helps."""


def say(text: str) -> None:
    print(f"-- {text}", flush=True)


def call(*command: str | Path, quiet: bool = False) -> None:
    subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        check=True,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if quiet else None,
    )


def apt_install(*packages: str, purpose: str) -> None:
    """With Debian's apt when this user may, else says the one command."""
    command = f"apt-get install -y {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise CannotInstall(
            f"{purpose} is missing. Install it with your system's package manager, then repeat."
        )
    if os.geteuid() != 0:
        raise CannotInstall(f"{purpose} is missing. Run this, then repeat:\n\n    sudo {command}\n")
    say(f"{purpose} is missing: {command}")
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for step in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
    ):
        subprocess.run(
            step,
            check=True,
            timeout=LIMIT_S,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )


def make_environment() -> None:
    """`.venv/` with pip in it. One that another Python made, or that was cut short, is made anew."""
    if PYTHON.exists():
        works = subprocess.run(
            [PYTHON, "-m", "pip", "--version"], capture_output=True, timeout=60, check=False
        )
        if works.returncode == 0:
            return
        say(".venv is not usable; making it anew")
        shutil.rmtree(VENV)
    if importlib.util.find_spec("ensurepip") is None:  # Debian keeps it in a package of its own
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        apt_install(f"python{version}-venv", purpose=f"Python's venv (python{version}-venv)")
    say("making .venv")
    call(sys.executable, "-m", "venv", VENV)


def install_requirements(name: str) -> None:
    """Pinned packages, when the file, or the Python they were installed for, is another than last time."""
    wanted = hashlib.sha256((ROOT / name).read_bytes() + os.fsencode(os.path.realpath(PYTHON))).hexdigest()
    stamp = VENV / f"{name}.sha256"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"installing {name}")
    call(PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", name)
    stamp.write_text(wanted)


def install_page() -> None:
    """lightweight-charts from npm, with the machine's Node or, when that is missing or old, the one on PyPI."""
    sys.path.insert(0, str(ROOT))
    from charts import frontend

    if frontend.machine_npm() is None:
        install_requirements("requirements-node.txt")
    call(PYTHON, "-m", "charts.frontend", "vendor")


def install_browser() -> None:
    """Debian's Chromium, and what Playwright's own Node is linked against, which a bare Debian does not have."""
    missing = [] if any(shutil.which(name) for name in BROWSERS) else ["chromium"]
    try:
        ctypes.CDLL("libatomic.so.1")
    except OSError:
        missing.append("libatomic1")
    if missing:
        apt_install(*missing, purpose=f"{' and '.join(missing)} (for the browser tests)")


def main(arguments: list[str]) -> int:
    if arguments not in (["run"], ["test"]):
        say("usage: install.py run|test")
        return 2
    try:
        make_environment()
        # The tests' requirements contain those of the platform: one call of pip instead of two.
        install_requirements("requirements-dev.txt" if arguments == ["test"] else "requirements.txt")
        install_page()
        if arguments == ["test"]:
            install_browser()
    except CannotInstall as error:
        say(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        say(f"this failed, see above: {' '.join(map(str, error.cmd))}")
        return 1
    except subprocess.TimeoutExpired as error:
        say(f"this took longer than {LIMIT_S} s: {' '.join(map(str, error.cmd))}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

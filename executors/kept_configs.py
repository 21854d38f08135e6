"""The configuration as last published, kept in a file: a supervisor that starts without Redis still starts its terminals.

Precedes: the supervisor's first turn. Follows: whatever it last read from Redis. Passwords in it stay sealed.
"""

import json
import logging
from pathlib import Path

from django.conf import settings

from executors.messages import TerminalConfig

logger = logging.getLogger(__name__)


def _path() -> Path:
    return Path(settings.DATA_DIR) / "terminals" / "configs.json"


def keep(configs: list[TerminalConfig]) -> None:
    """A disk that is full keeps the file as it was."""
    path = _path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps([config.model_dump(mode="json") for config in configs]))
        fresh.replace(path)
    except OSError as error:
        logger.error("the configuration could not be kept: %s", error)


def kept() -> list[TerminalConfig]:
    try:
        return [TerminalConfig.model_validate(item) for item in json.loads(_path().read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, OSError) as error:
        logger.error("the kept configuration cannot be read, Redis will bring it: %s", error)
        return []

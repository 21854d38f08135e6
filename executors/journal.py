"""The executor's journal: one SQLite file per terminal, the truth about an order after accept.

Precedes: publishing to Redis. Follows: every decision of execution. Only the executor's own thread writes; the publisher
reads through a connection of its own.
"""

import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from pydantic_core import to_json

from executors import journal_trades
from executors.journal_file import JournalError, JournalFile
from executors.legs import JournalReport, LegRow, RequestRow
from executors.messages import ExecutionReport, Leg
from executors.netting import Trade
from executors.orders import SETTLED, OrderState, Outcome

DAY_MS = 24 * 3_600_000
KEEP_MS = 30 * DAY_MS  # orders are recognized for so long when they come again
KEEP_LARGE_MS = 3 * DAY_MS  # in a journal above its limit; a store's record of a signal lives for two days
PRUNED_AT_ONCE = 100
PAGES_FREED_AT_ONCE = 500
NEWEST_REQUESTS = 200  # more than a second's
WRITTEN_KEPT = 50  # reports that are on disk and were not taken: older ones are read from there


@dataclass(frozen=True, slots=True)
class Pruned:
    orders: int
    more: bool  # there may be more to prune now
    too_large: bool


class Journal(JournalFile):
    """Every method that changes something returns after its commit is on disk."""

    def __init__(self, path: Path, *, installation: str, terminal_id: str) -> None:
        """Opens or makes the file. Raises JournalError when it belongs to something else or is damaged."""
        self._position = 0
        self._pruned_row = 0
        self._written: list[JournalReport] = []  # by the commit that is under way
        self._kept: list[JournalReport] = []  # on disk, and not asked for yet
        super().__init__(path, installation=installation, terminal_id=terminal_id)
        self._position = self.position()

    # --- reading ------------------------------------------------------------------------------------------------

    def position(self) -> int:
        """The newest report's position, 0 when there is none."""
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'reports'").fetchone()
        return int(row[0]) if row else 0

    def last_seq(self, epoch: int) -> int:
        """The highest leg_seq of the epoch in the journal."""
        row = self._db.execute("SELECT max(leg_seq) FROM legs WHERE epoch = ?", (epoch,)).fetchone()
        return int(row[0] or 0)

    def get(self, order_id: str) -> LegRow | None:
        row = self._db.execute(
            "SELECT leg, state, wanted_lots, filled_lots, plan, report_seq, received_ms FROM legs"
            " WHERE order_id = ?",
            (order_id,),
        ).fetchone()
        if row is None:
            return None
        found = LegRow(
            leg=Leg.model_validate_json(row[0]),
            state=OrderState(row[1]),
            wanted_lots=Decimal(row[2]),
            filled_lots=Decimal(row[3]),
            plan=json.loads(row[4]),
            report_seq=row[5],
            received_ms=row[6],
            leg_json=row[0],
        )
        for item in self._db.execute(
            "SELECT n, magic, request, lots, intent_ms, outcome, filled_lots, price, retcode, result, result_ms"
            " FROM requests WHERE order_id = ? ORDER BY n",
            (order_id,),
        ):
            found.requests.append(
                RequestRow(
                    n=item[0],
                    magic=item[1],
                    request=json.loads(item[2]),
                    lots=Decimal(item[3]),
                    intent_ms=item[4],
                    outcome=Outcome(item[5]),
                    filled_lots=Decimal(item[6]),
                    price=Decimal(item[7]),
                    retcode=item[8],
                    result=json.loads(item[9]),
                    result_ms=item[10],
                )
            )
        return found

    def open_orders(self) -> list[LegRow]:
        """Every order that is not settled, oldest first."""
        rows = self._db.execute("SELECT order_id FROM legs WHERE open = 1 ORDER BY epoch, leg_seq").fetchall()
        return [row for (order_id,) in rows if (row := self.get(order_id)) is not None]

    def knows(self, order_id: str) -> bool:
        return self._db.execute("SELECT 1 FROM legs WHERE order_id = ?", (order_id,)).fetchone() is not None

    def digest(self, order_id: str) -> str | None:
        """Of the order's signal; None when the journal does not know the order."""
        row = self._db.execute("SELECT digest FROM legs WHERE order_id = ?", (order_id,)).fetchone()
        return row[0] if row else None

    def newest_ticket(self) -> tuple[int, int]:
        """(order_ticket, UTC ms of its answer): the highest that the latest executed requests were told; (0, 0)."""
        rows = self._db.execute(
            "SELECT result, result_ms FROM requests WHERE outcome IN ('FILLED', 'PARTIAL') ORDER BY rowid DESC LIMIT 50"
        )
        return max(
            (
                (int(ticket), int(at or 0))
                for result, at in rows
                for ticket in json.loads(result).get("orders", [])
            ),
            default=(0, 0),
        )

    def not_executed(self) -> dict[int, tuple[str, int]]:
        """magic → (order_id, intent_ms) of every request that was looked for in vain: it may still show up."""
        rows = self._db.execute(
            "SELECT magic, order_id, intent_ms FROM requests WHERE outcome = 'NOT_EXECUTED'"
            " AND coalesce(json_extract(request, '$.action'), 1) IN (1, 5)"  # others leave no magic to be found by
        )
        return {int(magic): (order_id, int(at)) for magic, order_id, at in rows}

    def order_of_magic(self, magic: int) -> str | None:
        row = self._db.execute("SELECT order_id FROM requests WHERE magic = ?", (magic,)).fetchone()
        return row[0] if row else None

    def trades(self, broker_symbol: str, symbol: str, since_ms: int) -> list[Trade]:
        """The requests that may have changed the position of a netting account."""
        return journal_trades.trades(self._db, broker_symbol, symbol, since_ms)

    def recent_requests(self, limit: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """(request, result) of the newest requests to the broker, newest first."""
        rows = self._db.execute("SELECT request, result FROM requests ORDER BY rowid DESC LIMIT ?", (limit,))
        return [(json.loads(request), json.loads(result)) for request, result in rows]

    def answered_since(self, since_ms: int) -> list[LegRow]:
        """Orders with a request of the newest ones that was sent or answered since then, by this machine's clock."""
        rows = self._db.execute(
            "SELECT order_id, coalesce(result_ms, intent_ms) FROM requests ORDER BY rowid DESC LIMIT ?",
            (NEWEST_REQUESTS,),
        ).fetchall()
        names = dict.fromkeys(name for name, at in reversed(rows) if at >= since_ms)
        return [row for name in names if (row := self.get(name)) is not None]

    def adopted_seq(self) -> int:
        """Up to this leg_seq an earlier journal, now lost, may have run legs that this one does not know."""
        return int(self._meta("adopted_seq") or 0)

    def last_report(self, order_id: str) -> ExecutionReport | None:
        row = self._db.execute(
            "SELECT report FROM reports WHERE order_id = ? ORDER BY report_seq DESC LIMIT 1", (order_id,)
        ).fetchone()
        return ExecutionReport.model_validate_json(row[0]) if row else None

    def tripped(self) -> int | None:
        """The count of operators' resumes at which the breaker was tripped by rejections; None when it is not."""
        found = self._meta("tripped")
        return int(found) if found else None

    def protections(self) -> list[tuple[str, int, str]]:
        """(order_id, position_ticket, protection as JSON) of all that is armed."""
        return self._db.execute("SELECT order_id, position_ticket, protection FROM protections").fetchall()

    # `_value_` below: an enum's `value` costs two calls in Python, an order a dozen of them

    # --- writing ------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> int:
        """The position of the last report written; it may be on disk only with the commit that is under way."""
        return self._position

    def take_written(self) -> list[JournalReport]:
        """The newest reports that are on disk and were not taken before, at most some dozens."""
        taken, self._kept = self._kept, []
        return taken

    def note_tripped(self, resumed: int | None) -> None:
        """See `tripped`; a restart does not release the breaker."""
        with self._transaction:
            text = "" if resumed is None else str(resumed)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('tripped', ?)", (text,))

    def note_adopted(self, leg_seq: int) -> None:
        """See `adopted_seq`. Never lowered."""
        if leg_seq > self.adopted_seq():
            with self._transaction:
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('adopted_seq', ?)", (str(leg_seq),))

    def protect(self, order_id: str, position_ticket: int, protection: str | None) -> None:
        """Keeps what is armed, or with None forgets it."""
        with self._transaction:
            if protection is None:
                self._db.execute(
                    "DELETE FROM protections WHERE order_id = ? AND position_ticket = ?",
                    (order_id, position_ticket),
                )
            else:
                self._db.execute(
                    "INSERT OR REPLACE INTO protections VALUES (?, ?, ?)",
                    (order_id, position_ticket, protection),
                )

    def record(self, row: LegRow, *reports: ExecutionReport, request: RequestRow | None = None) -> None:
        """Writes the order as it stands, one of its requests if given, and reports about it, in one commit.

        `report_seq` of each report must follow the row's; the row takes the last one.
        """
        with self._transaction:
            for report in reports:
                if report.report_seq != row.report_seq + 1:
                    raise JournalError(
                        f"{row.order_id}: report {report.report_seq} does not follow {row.report_seq}"
                    )
                row.report_seq = report.report_seq
            leg = row.leg
            row.leg_json = row.leg_json or leg.model_dump_json()
            if not (row.plan_kept and self._moved_on(row)):
                self._db.execute(
                    "INSERT INTO legs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (order_id) DO UPDATE SET"
                    " state = excluded.state, wanted_lots = excluded.wanted_lots, filled_lots = excluded.filled_lots,"
                    " plan = excluded.plan, report_seq = excluded.report_seq, open = excluded.open",
                    (
                        row.order_id,
                        leg.leg_seq,
                        leg.epoch,
                        leg.digest,
                        row.leg_json,
                        row.state._value_,
                        str(row.wanted_lots),
                        str(row.filled_lots),
                        _text(row.plan),
                        row.report_seq,
                        int(row.state not in SETTLED),
                        row.received_ms,
                    ),
                )
            if request is not None:
                self._put_request(row.order_id, request)
            for position, report in enumerate(reports, self._position + 1):
                placed = (
                    report
                    if report.position == position
                    else report.model_copy(update={"position": position})
                )
                text = placed.model_dump_json()
                self._db.execute(
                    "INSERT INTO reports VALUES (?, ?, ?, ?)",
                    (position, row.order_id, report.report_seq, text),
                )
                self._written.append(JournalReport(position, placed, text, row.leg_json, leg.deadline_ms))
        self._position += len(reports)
        row.plan_kept = True

    def _moved_on(self, row: LegRow) -> bool:
        """An order whose leg and plan are here already: only what changes is written. False: it is not here."""
        moved = self._db.execute(
            "UPDATE legs SET state = ?, wanted_lots = ?, filled_lots = ?, report_seq = ?, open = ?"
            " WHERE order_id = ?",
            (
                row.state._value_,
                str(row.wanted_lots),
                str(row.filled_lots),
                row.report_seq,
                int(row.state not in SETTLED),
                row.order_id,
            ),
        )
        return moved.rowcount == 1

    def _put_request(self, order_id: str, request: RequestRow) -> None:
        if request.kept and self._answered(order_id, request):
            return
        self._db.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (order_id, n) DO UPDATE SET"
            " outcome = excluded.outcome, filled_lots = excluded.filled_lots, price = excluded.price,"
            " retcode = excluded.retcode, result = excluded.result, result_ms = excluded.result_ms",
            (
                order_id,
                request.n,
                request.magic,
                to_json(request.request).decode(),
                str(request.lots),
                request.intent_ms,
                request.outcome._value_,
                str(request.filled_lots),
                str(request.price),
                request.retcode,
                _text(request.result),
                request.result_ms,
            ),
        )
        request.kept = True

    def _answered(self, order_id: str, request: RequestRow) -> bool:
        """A request whose question is here already: only what became of it is written. False: it is not here."""
        answered = self._db.execute(
            "UPDATE requests SET outcome = ?, filled_lots = ?, price = ?, retcode = ?, result = ?, result_ms = ?"
            " WHERE order_id = ? AND n = ?",
            (
                request.outcome._value_,
                str(request.filled_lots),
                str(request.price),
                request.retcode,
                _text(request.result),
                request.result_ms,
                order_id,
                request.n,
            ),
        )
        return answered.rowcount == 1

    # --- age ----------------------------------------------------------------------------------------------------

    def prune(self, now_ms: int, *, published: int) -> Pruned:
        """Forgets settled orders older than 30 days, a few in each call; in a journal above its limit, than 3 days.

        `published`: Redis has the reports up to this position; what it has not stays. Unsettled orders stay for ever.
        """
        too_large = self._size() > settings.JOURNAL_MAX_MB * 1024 * 1024
        before_ms = now_ms - (KEEP_LARGE_MS if too_large else KEEP_MS)
        rows = self._db.execute(
            "SELECT rowid, order_id, open, received_ms FROM legs WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (self._pruned_row, PRUNED_AT_ONCE),
        ).fetchall()
        old: list[str] = []
        for rowid, order_id, is_open, received_ms in rows:
            if received_ms >= before_ms:  # they are in the order in which they came
                self._pruned_row = 0
                break
            self._pruned_row = rowid
            if not is_open and self._published(order_id, published):
                old.append(order_id)
        else:
            if len(rows) < PRUNED_AT_ONCE:
                self._pruned_row = 0
        if old:
            with self._transaction:
                for table in ("requests", "reports", "legs"):
                    self._db.executemany(f"DELETE FROM {table} WHERE order_id = ?", [(name,) for name in old])
        freed = self._db.execute("PRAGMA freelist_count").fetchone()[0]
        if freed > PAGES_FREED_AT_ONCE:
            self._db.execute(f"PRAGMA incremental_vacuum({PAGES_FREED_AT_ONCE})").fetchall()
        return Pruned(len(old), more=self._pruned_row > 0, too_large=too_large)

    def _published(self, order_id: str, published: int) -> bool:
        row = self._db.execute("SELECT max(position) FROM reports WHERE order_id = ?", (order_id,)).fetchone()
        return int(row[0] or 0) <= published

    # --- inside -------------------------------------------------------------------------------------------------

    def _committed(self) -> None:
        self._kept += self._written
        self._written.clear()
        del self._kept[:-WRITTEN_KEPT]

    def _rolled_back(self) -> None:
        self._written.clear()
        self._position = self.position()


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value) if value else "{}"

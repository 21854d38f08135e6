"""The journal's requests that may have changed a netting account's position, with the open that each close names.

Precedes: netting works out whose lots are left. Follows: the executor's own thread, which writes the journal.
"""

import json
import sqlite3
from decimal import Decimal

from executors.levels import BUYING
from executors.netting import EVERYTHING, UNDECIDED, Trade
from executors.orders import Outcome, order_id
from executors.wishes import PENDING_TYPES

# Those that were answered or found since then, however long ago they were begun, and those that have no outcome yet.
# Requests that a lost journal may have made are known by their magic only: they have no symbol.
WHEN = "coalesce(result_ms, 9223372036854775807)"
SYMBOL = "json_extract(request, '$.symbol')"
TRADES = f"""
SELECT r.order_id, r.magic, r.lots, r.filled_lots, r.outcome, r.result,
       json_extract(r.request, '$.type'), json_extract(r.request, '$.symbol'),
       json_extract(l.leg, '$.signal.action'), json_extract(l.leg, '$.signal.opened_by'),
       json_extract(l.leg, '$.signal.symbol'), json_extract(l.leg, '$.terminal_id'), l.open
FROM requests r JOIN legs l USING (order_id)
WHERE r.rowid IN (
    SELECT rowid FROM requests WHERE {SYMBOL} = :symbol AND {WHEN} >= :since
    UNION SELECT rowid FROM requests WHERE {SYMBOL} IS NULL AND {WHEN} >= :since
    UNION SELECT rowid FROM requests
    WHERE outcome IN ('PENDING', 'UNKNOWN', 'PLACED') AND coalesce({SYMBOL}, :symbol) = :symbol)
ORDER BY r.rowid
"""
INDEX = f"CREATE INDEX IF NOT EXISTS requests_of_symbol ON requests({SYMBOL}, {WHEN});"


def trades(db: sqlite3.Connection, broker_symbol: str, symbol: str, since_ms: int) -> list[Trade]:
    """Of a symbol, by the broker's name and by ours, in the order in which they were begun."""
    found: list[Trade] = []
    for row in db.execute(TRADES, {"symbol": broker_symbol, "since": since_ms}):
        (
            name,
            magic,
            lots,
            filled,
            outcome,
            result,
            kind,
            asked,
            action,
            opened_by,
            meant,
            terminal,
            is_open,
        ) = row
        opens = action == "open"
        if action not in ("open", "close") or (asked is None and meant not in (None, symbol)):
            continue
        told, known = json.loads(result), Outcome(outcome)
        if known in UNDECIDED and not is_open:
            known = Outcome.MANUAL  # a person has said what became of it
        found.append(
            Trade(
                order_id=name,
                charged_to=order_id(opened_by, terminal) if opened_by and not opens else "",
                opens=opens,
                pending=kind in PENDING_TYPES,
                buys=kind in BUYING,
                magic=magic,
                lots=EVERYTHING if asked is None and not opens else Decimal(lots),
                filled_lots=Decimal(filled),
                outcome=known,
                orders=frozenset(told.get("orders", [])),
                deals=frozenset(told.get("deals", [])),
            )
        )
    return found

"""Pure: the tables of an executor's journal.

Precedes: journal opens a file with them, and journal_trades adds an index. Follows: legs, their requests and reports, as
the executor thinks of them.
"""

SCHEMA_VERSION = "1"

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL           -- journal_id, installation, terminal_id, schema_version, adopted_seq, tripped
) STRICT;

CREATE TABLE IF NOT EXISTS legs (
    order_id     TEXT PRIMARY KEY,
    leg_seq      INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    digest       TEXT NOT NULL,   -- a known id with another digest is refused
    leg          TEXT NOT NULL,   -- messages.Leg as JSON, the whole signal included
    state        TEXT NOT NULL,   -- orders.OrderState, the fold over the requests
    wanted_lots  TEXT NOT NULL,   -- after sizing
    filled_lots  TEXT NOT NULL,
    plan         TEXT NOT NULL,   -- JSON: what a close froze before its first send (tickets and lots)
    report_seq   INTEGER NOT NULL,
    open         INTEGER NOT NULL, -- 1 until settled
    received_ms  INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS legs_open ON legs(open) WHERE open = 1;
CREATE INDEX IF NOT EXISTS legs_seq ON legs(epoch, leg_seq);

CREATE TABLE IF NOT EXISTS requests (
    order_id    TEXT NOT NULL REFERENCES legs(order_id),
    n           INTEGER NOT NULL,  -- from 1
    magic       INTEGER NOT NULL UNIQUE,
    request     TEXT NOT NULL,     -- terminals.base.TradeRequest as JSON
    lots        TEXT NOT NULL,
    intent_ms   INTEGER NOT NULL,
    outcome     TEXT NOT NULL,     -- orders.Outcome; PENDING = no answer recorded
    filled_lots TEXT NOT NULL,
    price       TEXT NOT NULL,
    retcode     INTEGER,
    result      TEXT NOT NULL,     -- JSON: tickets, comment, last_error, how it was resolved
    result_ms   INTEGER,
    PRIMARY KEY (order_id, n)
) STRICT;
CREATE INDEX IF NOT EXISTS requests_open ON requests(outcome) WHERE outcome IN ('PENDING', 'UNKNOWN', 'PLACED');
CREATE INDEX IF NOT EXISTS requests_missing ON requests(outcome) WHERE outcome = 'NOT_EXECUTED';

CREATE TABLE IF NOT EXISTS reports (
    position   INTEGER PRIMARY KEY AUTOINCREMENT,  -- rising; the published one is kept in RIS
    order_id   TEXT NOT NULL,
    report_seq INTEGER NOT NULL,
    report     TEXT NOT NULL,      -- messages.ExecutionReport as JSON
    UNIQUE (order_id, report_seq)
) STRICT;

CREATE TABLE IF NOT EXISTS protections (
    order_id        TEXT NOT NULL,     -- the open whose position it is; empty when it is not ours
    position_ticket INTEGER NOT NULL,  -- 0: for the positions that the open will have
    protection      TEXT NOT NULL,     -- protection.Protection as JSON
    PRIMARY KEY (order_id, position_ticket)
) STRICT;
"""

"""Every name in Redis: keys, streams, channels, queues. Documented for operators in `docs/redis-keys.md`.

State Redis (nothing may be evicted): RTSS signal store, RTRS result stream, RTS trade state, RIS instance state,
configuration as the executors read it, Celery's queues. Tick Redis (`allkeys-lru`): ticks, candles, symbols.
"""

PREFIX = "td"

# --- RTSS: the signal store, written by accept, moved forward by the executors' reports ---
SIGNALS = f"{PREFIX}:rtss:signals"  # zset signal_id by accepted_ms: the list, newest last


def signal(signal_id: str) -> str:
    """hash: body (JSON as sent), digest, user_id, username, source, accepted_ms, deadline_ms, orders (JSON list);
    partial = 1 when an executor made it again after a rollback, until accept completes it."""
    return f"{PREFIX}:rtss:signal:{signal_id}"


def refused(user_id: int, signal_id: str) -> str:
    """string, an hour: the user was told that this signal is too old; no earlier send of it is recorded any more."""
    return f"{PREFIX}:rtss:refused:{user_id}:{signal_id}"


def order(order_id: str) -> str:
    """hash: leg (JSON, see messages.Leg), state, report_seq, report (latest JSON), overdue (0/1)."""
    return f"{PREFIX}:rtss:order:{order_id}"


def outbox(terminal_id: str) -> str:
    """zset order_id by leg_seq: legs that the terminal's executor has not reported past QUEUED."""
    return f"{PREFIX}:rtss:outbox:{terminal_id}"


def leg_seq(terminal_id: str) -> str:
    """integer: the last leg number given to the terminal."""
    return f"{PREFIX}:rtss:leg_seq:{terminal_id}"


def settlements(terminal_id: str) -> str:
    """hash order_id -> settlement.Settlement as JSON: what operators ask the terminal's executor to settle by hand."""
    return f"{PREFIX}:rtss:settlements:{terminal_id}"


def settlement_answers(terminal_id: str) -> str:
    """hash order_id -> settlement.Answer as JSON: what the executor made of it, until it is in the audit log."""
    return f"{PREFIX}:rtss:settlements:answers:{terminal_id}"


UNSETTLED = f"{PREFIX}:rtss:unsettled"  # zset order_id by deadline_ms: what the expiry flag looks at

# integer, rises with each change of users, roles, grants, groups and terminals: accept compares it
ACCESS_VERSION = f"{PREFIX}:access:version"

# --- RTRS: the result stream ---
REPORTS = f"{PREFIX}:rtrs"  # stream; field `report`: messages.ExecutionReport as JSON
# string: names the stream's life; another one makes clients' cursors void
REPORTS_EPOCH = f"{PREFIX}:rtrs:epoch"

# --- RTS: the trade state, as each executor last read it from its terminal ---


def account(terminal_id: str) -> str:
    """string: messages.AccountState as JSON."""
    return f"{PREFIX}:rts:account:{terminal_id}"


def positions(terminal_id: str) -> str:
    """string: JSON list of messages.PositionState."""
    return f"{PREFIX}:rts:positions:{terminal_id}"


def pending_orders(terminal_id: str) -> str:
    """string: JSON list of messages.PendingOrderState."""
    return f"{PREFIX}:rts:orders:{terminal_id}"


def drift(terminal_id: str) -> str:
    """string: messages.DriftLog as JSON, what at the terminal no order of ours explains."""
    return f"{PREFIX}:rts:drift:{terminal_id}"


# channel: messages.TerminalUpdate as JSON, at each change and every 500 ms
RTS_CHANGES = f"{PREFIX}:rts:changes"
# stream; field `account`: AccountState as JSON, every 5 minutes
ACCOUNT_SNAPSHOTS = f"{PREFIX}:rts:snapshots"

# --- RIS: the instance state ---


def instance(terminal_id: str) -> str:
    """hash: pid, state, epoch, journal_id, position (published), config_version, last_error, restarts, seen_ms (its
    thread last moved), latency_us (last order's own time), broker_us, address."""
    return f"{PREFIX}:ris:{terminal_id}"


# hash `terminals:<host_id>` -> UTC ms: each supervisor writes its own every second, for /api/health
HEARTBEATS = f"{PREFIX}:ris:heartbeats"


# --- Alerts ---
ALERTS = f"{PREFIX}:alerts"  # stream, about 1,000; field `alert`: messages.Alert as JSON, with an empty text at its end
ALERT_COUNTS = f"{PREFIX}:alerts:counts"  # hash `<terminal_id> <code>` -> how often it was raised


def open_alerts(terminal_id: str) -> str:
    """hash code -> messages.Alert as JSON: what holds now."""
    return f"{PREFIX}:alerts:open:{terminal_id}"


# --- Operators' commands to a host's supervisor ---


def host_commands(host_id: str) -> str:
    """list: JSON {id, command, terminals}; the host's supervisor takes them from the left."""
    return f"{PREFIX}:host:commands:{host_id}"


def host_answers(command_id: str) -> str:
    """list, expiring: what the supervisor says while it obeys; JSON {text, done, failed}."""
    return f"{PREFIX}:host:answers:{command_id}"


# --- Configuration as published by the web process and the beat ---
CONFIGS = f"{PREFIX}:config"  # hash terminal_id -> messages.TerminalConfig as JSON
CONFIG_VERSIONS = f"{PREFIX}:config:versions"  # hash terminal_id -> version (integer)
# hash `global` | `terminal:<id>` -> ACTIVE | REDUCING | HALTED; `resumed:<id>` -> count of operators' resumes
MODES = f"{PREFIX}:modes"
# channel: terminal_id, `*` for modes, `access` for users and grants
CONFIG_CHANGES = f"{PREFIX}:config:changes"

# --- Tick Redis ---
SYMBOLS = f"{PREFIX}:symbols"  # hash symbol -> charts.messages.SymbolInfo as JSON
LATEST_TICKS = f"{PREFIX}:ticks:latest"  # hash symbol -> charts.messages.Tick as JSON


def ticks(symbol: str) -> str:
    """stream, about 1,000 entries: fields time_ms, bid, ask."""
    return f"{PREFIX}:ticks:{symbol}"


def candles(symbol: str, seconds: int) -> str:
    """stream of closed candles, bounded; field `candle`: charts.messages.Candle as JSON; id `<open_ms>-0`."""
    return f"{PREFIX}:candles:{seconds}:{symbol}"


def forming(symbol: str, seconds: int) -> str:
    """string: the forming candle as JSON."""
    return f"{PREFIX}:forming:{seconds}:{symbol}"


def settling(symbol: str, seconds: int) -> str:
    """string: JSON list of closed candles that a late tick may still amend (2 s); they enter the stream after that."""
    return f"{PREFIX}:settling:{seconds}:{symbol}"


def market_channel(symbol: str) -> str:
    """channel on the tick Redis: charts.messages.MarketUpdate as JSON (tick, forming and closed candles)."""
    return f"{PREFIX}:market:{symbol}"


MARKET_PATTERN = f"{PREFIX}:market:*"


def candle_cache(symbol: str, seconds: int) -> str:
    """zset candle JSON by open_ms: older candles read from a terminal, expiring."""
    return f"{PREFIX}:history:{seconds}:{symbol}"


def candle_cache_span(symbol: str, seconds: int) -> str:
    """string, expiring: JSON [from_ms, to_ms]: every closed candle that opened in between is in the cache."""
    return f"{PREFIX}:history:span:{seconds}:{symbol}"


def candle_reply(request_id: str) -> str:
    """list, expiring: a terminal's answer to a request for candles, pushed once."""
    return f"{PREFIX}:history:reply:{request_id}"


# What a restarted feed goes on from; written in one transaction with the candles.
FEED_SYMBOLS = f"{PREFIX}:feed:symbols"  # hash symbol -> JSON: unfinished candles to the tick
FEED_SOURCES = f"{PREFIX}:feed:sources"  # hash terminal_id -> JSON: boot, sequence, replay window, priority
FEED_BATCH = f"{PREFIX}:feed:batch"  # string: id of the last batch that was written
# string, 5 s: JSON with pid, time_ms, ticks_per_s, sources, symbols
FEED_HEARTBEAT = f"{PREFIX}:feed:heartbeat"


# --- Celery queues on the state Redis ---


def terminal_queue(terminal_id: str) -> str:
    return f"terminal.{terminal_id}"


def unacked(terminal_id: str) -> str:
    """hash, with zset `….index` and lock `….mutex`: tasks that the terminal's worker has taken and not ended."""
    return f"unacked.{terminal_id}"


HOUSEKEEPING_QUEUE = "housekeeping"  # beat's periodic tasks

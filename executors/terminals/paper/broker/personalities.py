"""Reads personalities.toml: feeds, symbols and brokers. Unknown keys are refused, with the key's name.

Precedes: the desks and every rule. Follows: the shipped file and, on top of it, one in the broker's directory.
"""

import tomllib
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).resolve().parent / "personalities.toml"


class ConfigurationError(ValueError):
    """The configuration cannot be used; says what to change."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol as one broker offers it. Levels, spreads and markups in points."""

    name: str
    feed: str
    base: str
    profit: str
    margin: str
    digits: int
    path: str = "Forex"
    description: str = ""
    contract_size: float = 100_000.0
    calc_mode: int = 0  # SYMBOL_CALC_MODE_*
    exemode: int = 2  # SYMBOL_TRADE_EXECUTION_*
    trade_mode: int = 4  # SYMBOL_TRADE_MODE_*
    filling: int = 3  # FOK 1, IOC 2, BOC 4
    expiration: int = 15
    order_mode: int = 127
    gtc_mode: int = 0
    chart_mode: int = 0
    stops_level: int = 0
    freeze_level: int = 0
    volume_min: float = 0.01
    volume_max: float = 500.0
    volume_step: float = 0.01
    volume_limit: float = 0.0
    tick_size: float = 0.0  # 0: one point
    tick_value: float = 0.0  # futures and index contracts only
    face_value: float = 0.0  # bonds
    accrued_interest: float = 0.0  # bonds
    liquidity_rate: float = 0.0  # collateral: the part of its worth that counts as equity
    margin_initial: float = 0.0
    option_margin: str = "initial"  # what an option binds: margin_initial, or its "premium"
    margin_maintenance: float = 0.0
    margin_hedged: float = -1.0  # -1: one contract, so that a covered pair costs one leg
    margin_use_leg: bool = False
    swap_mode: int = 1
    swap_long: float = 0.0
    swap_short: float = 0.0
    swap_rollover3: int = 3  # weekday of the triple swap; -1 for none
    spread: int = 0  # fixed; 0: as recorded
    markup: int = 0  # on the ask
    commission: float = 0.0  # per lot and side, in the account's currency
    book_depth: int = 0  # levels a side; 0: endless at the top
    book_lots: float = 0.0  # on each level
    starts: str = ""  # "2026-06-01 10:00" on the server's clock: not traded before; '' for always
    expires: str = (
        ""  # likewise: then orders expire, positions are settled at the last price, and trading ends
    )
    closed_weekends: bool = False
    sessions: tuple[
        tuple[int, str, str], ...
    ] = ()  # (day of week, from, to) in server time; none: always open
    holidays: tuple[str, ...] = ()  # server dates
    sltp_at_open: bool = True  # False: 10016 when a market order brings SL or TP
    filling_lies: bool = False  # SymbolInfo shows FOK and IOC, whatever is allowed

    @property
    def point(self) -> float:
        return round(10.0**-self.digits, 10)

    @property
    def by_last(self) -> bool:
        """Stops and protective levels look at the last trade, not at the quote."""
        return self.chart_mode == 1

    def alone(self, currency: str) -> bool:
        """Can profit and margin be told in that currency from this symbol's own prices?"""
        forex = self.calc_mode in (0, 5)
        own_profit = self.profit == currency or (self.base == currency and forex)
        own_margin = self.margin == currency or (self.profit == currency and forex)
        return own_profit and own_margin

    @property
    def step(self) -> float:
        return self.tick_size or self.point


@dataclass(frozen=True, slots=True)
class Personality:
    """One broker."""

    key: str
    server: str
    company: str
    currency: str
    leverage: int
    margin_mode: int
    symbols: tuple[str, ...]
    instruments: dict[str, Instrument] = field(hash=False)
    server_timezone: str = "UTC"
    suffix: str = ""
    prefix: str = ""
    fifo_close: bool = False
    no_hedging: bool = False
    limit_orders: int = 200
    limit_positions: int = 0
    so_mode: int = 0
    margin_call: float = 100.0
    stop_out: float = 50.0
    margin_free_profit: bool = True  # free margin counts floating profit
    negative_protection: bool = False
    comment_length: int = 31  # kept on orders, deals and positions
    comment_mode: str = "keep"  # keep, append, replace, empty
    latency_ms: tuple[float, float] = (0.0, 0.0)  # times the broker's latency scale
    latency_shape: str = (
        "uniform"  # from the first to the second; lognormal: they are the median and the 99th percentile
    )
    slippage_points: float = 0.0  # of market execution, both ways
    requote_rate: float = 0.0
    rate_limit: int = 0  # requests a second; 0: none
    max_bars: int = 100_000
    improve: bool = True  # instant execution fills at the better price
    echo_comment: bool = False  # a placed pending order's result carries the request's comment
    first_tick_ms: int = 0  # after it was selected, a symbol's first tick comes so late
    cold_history: bool = False  # the first request of a symbol's candles or ticks fails
    market_watch_strict: bool = False  # symbols must be selected first
    trade_mode: int = 0  # ACCOUNT_TRADE_MODE_*
    scramble_reason: bool = False  # deals and orders say reasons that are not theirs
    float_noise: bool = False  # volumes and prices one bit off, as 0.30000000000000004
    # What no source settles: see docs/paper-broker.md
    unknown_symbol: int = 10013
    unknown_order: int = 10013
    unknown_history: int = -1
    unselected_tick: int = -4
    odd_history: int = -2
    unknown_calc: int = -4
    unselect_again: bool = True
    wrong_type: int = 10013
    barred_stops: int = 10016
    api_off: int = -8
    no_liquidity: int = 10006
    boc_crossing: int = 10015
    pending_filling: str = "mask"
    reversed_range: str = "empty"
    tick_flags: str = "mask"
    limit_improves: bool = True
    history_by: str = "done"
    history_inclusive: bool = True
    profit_with_swap: bool = True
    margin_at: str = "open"
    request_ids: str = "counter"
    remove_when_closed: bool = True
    commission_on: str = "both"
    stop_out_comment: str = "[so {level:.2f}%]"
    expiry_comment: str = ""
    result_comments: dict[str, str] = field(default_factory=dict, hash=False)  # by return code


CHOICES: dict[str, tuple[Any, ...]] = {
    "comment_mode": ("keep", "append", "replace", "empty"),
    "latency_shape": ("uniform", "lognormal"),
    "api_off": (-8, 10027),
    "unknown_history": (-1, -2, -4),
    "unselected_tick": (-1, -2, -4),
    "odd_history": (-1, -2),
    "unknown_calc": (-1, -2, -4),
    "option_margin": ("initial", "premium"),
    "pending_filling": ("mask", "return", "any"),
    "reversed_range": ("empty", "none"),
    "tick_flags": ("mask", "named"),
    "history_by": ("done", "setup"),
    "request_ids": ("counter", "random"),
    "margin_at": ("open", "current"),
    "commission_on": ("both", "in"),
}


@dataclass(frozen=True, slots=True)
class FeedSpec:
    name: str
    recording: str = ""
    walk: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    feeds: dict[str, FeedSpec]
    personalities: dict[str, Personality]


def load(directory: Path | None = None) -> Configuration:
    raw = tomllib.loads(SHIPPED.read_text())
    if directory is not None and (own := directory / "personalities.toml").exists():
        try:
            raw = _merged(raw, tomllib.loads(own.read_text()))
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(f"{own} is not TOML: {error}") from None
    return parse(raw)


def parse(raw: dict[str, Any]) -> Configuration:
    feeds = {
        name: FeedSpec(name, **_known(FeedSpec, spec, f"feeds.{name}")) for name, spec in raw["feeds"].items()
    }
    symbols: dict[str, dict[str, Any]] = raw["symbols"]
    personalities = {
        key: _personality(key, dict(spec), symbols, feeds) for key, spec in raw["personalities"].items()
    }
    servers = [item.server for item in personalities.values()]
    if len(set(servers)) != len(servers):
        raise ConfigurationError("two personalities have the same server; give each its own")
    return Configuration(feeds, personalities)


def _personality(
    key: str, spec: dict[str, Any], symbols: dict[str, dict[str, Any]], feeds: dict[str, FeedSpec]
) -> Personality:
    every = spec.pop("all", {})
    only = spec.pop("only", {})
    affixes = spec.get("prefix", ""), spec.get("suffix", "")
    instruments: dict[str, Instrument] = {}
    for symbol in spec["symbols"]:
        own = dict(only.get(symbol, {}))
        canonical = own.pop("like", symbol)
        values = {**symbols.get(canonical, {}), **every, **own}
        where = f"personalities.{key}, symbol {symbol}"
        values.setdefault("feed", canonical)
        if values["feed"] not in feeds:
            raise ConfigurationError(f"{where}: there is no feed {values['feed']!r}; add it under feeds")
        values.setdefault("margin", values.get("base", ""))
        if "sessions" in values:
            values["sessions"] = tuple((int(day), str(a), str(b)) for day, a, b in values["sessions"])
        values["holidays"] = tuple(values.get("holidays", ()))
        name = f"{affixes[0]}{symbol}{affixes[1]}"
        instruments[name] = Instrument(name=name, **_known(Instrument, values, where))
    spec["symbols"] = tuple(instruments)
    if "latency_ms" in spec:
        low, high = spec["latency_ms"]
        spec["latency_ms"] = (float(low), float(high))
    return Personality(key=key, instruments=instruments, **_known(Personality, spec, f"personalities.{key}"))


def _known(kind: type, values: dict[str, Any], where: str) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    if unknown := set(values) - names:
        raise ConfigurationError(f"{where}: unknown key {', '.join(sorted(unknown))}; correct or remove it")
    for item in fields(kind):
        if item.name not in values:
            continue
        value, wanted = values[item.name], item.type
        if wanted is float and type(value) is int:
            value = values[item.name] = float(value)
        if wanted in (bool, int, float, str) and type(value) is not wanted:
            raise ConfigurationError(f"{where}: {item.name} must be of type {wanted.__name__}, not {value!r}")
        if item.name in CHOICES and value not in CHOICES[item.name]:
            listed = ", ".join(map(str, CHOICES[item.name]))
            raise ConfigurationError(f"{where}: {item.name} must be one of {listed}, not {value!r}")
        if item.name == "result_comments":
            _told_by_code(value, where)
        if item.name in ("starts", "expires") and value:
            try:
                datetime.strptime(value, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
            except ValueError:
                raise ConfigurationError(
                    f"{where}: {item.name} must look like 2026-12-18 18:00, not {value!r}"
                ) from None
    return values


def _told_by_code(value: Any, where: str) -> None:
    """{"10036": "Position doesn't exist"}"""
    sound = isinstance(value, dict) and all(
        code.isascii() and code.isdigit() and isinstance(text, str) for code, text in value.items()
    )
    if not sound:
        raise ConfigurationError(
            f"{where}: result_comments must be a table of texts by return code, such as "
            f'{{ 10036 = "Position doesn\'t exist" }}, not {value!r}'
        )


def _merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in top.items():
        known = out.get(key)
        out[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return out

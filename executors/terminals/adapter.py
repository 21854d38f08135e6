"""`base.Terminal` over any module that speaks MetaTrader5: the official package, the paper module, or a remote object.

Precedes: the executor. Follows: `factory.py`, which chooses the module. Decimal and UTC outside, floats and the server's clock
inside; every number is cast, since MetaTrader refuses an int for a float and numpy's for an int; None becomes TerminalError.
"""

import ntpath
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any

from executors.errors import TerminalError, TerminalUnavailable
from executors.terminals.base import (
    Account,
    Deal,
    Identity,
    Order,
    Position,
    Rate,
    SendReply,
    SendResult,
    SymbolSpec,
    TerminalStatus,
    Tick,
    TradeRequest,
)
from executors.terminals.servertime import server_clock

TIMEFRAMES = {
    60: 1, 120: 2, 180: 3, 240: 4, 300: 5, 360: 6, 600: 10, 720: 12, 900: 15, 1200: 20, 1800: 30, 3600: 16385,
    7200: 16386, 10800: 16387, 14400: 16388, 21600: 16390, 28800: 16392, 43200: 16396, 86400: 16408, 604800: 32769,
}  # fmt: skip
REALS = ("volume", "price", "stoplimit", "sl", "tp")
WHOLES = ("deviation", "type_filling", "type_time", "magic", "order", "position", "position_by")
_reals, _wholes = attrgetter(*REALS), attrgetter(*WHOLES)
NOT_CONNECTED = -10004
NOT_FOUND = frozenset({-1, -4})  # symbol calls answer so for what they do not know
LOST = frozenset({-10000, -10001, -10002, -10003, -10004, -10005})
IPC_TIMEOUT = -10005
ATTACH_MS = 5_000  # for a terminal that is logged in already
LONGEST_COMMENT = 28  # 29 fit by the client's own check; some builds refuse the last


def exact(value: float) -> Decimal:
    """What this float was meant to be: 0.3 and not 0.30000000000000004, which terminals give. Fifteen digits are exact."""
    return Decimal(f"{float(value):.15g}")


def same_place(configured: str, said: str) -> bool:
    """Does the terminal run where it was configured to? It names its folder, a configuration mostly the program in it;
    Windows does not care for case, for the kind of slashes, or for one more at the end."""
    wanted, is_at = (ntpath.normcase(ntpath.normpath(text.strip(' "'))) for text in (configured, said))
    return is_at in (wanted, ntpath.dirname(wanted))


class ModuleTerminal:
    """One MetaTrader5-compatible module (or object), logged in to one account. Not thread-safe, as the module is not."""

    def __init__(
        self,
        module: Any,
        *,
        login: int,
        password: str,
        server: str,
        path: str = "",
        server_timezone: str = "UTC",
        connect_timeout_ms: int = 60_000,
    ) -> None:
        self._mt5 = module
        self._login = login
        self._password = password
        self._server = server
        self._path = path
        self._clock = server_clock(server_timezone)
        self._connect_timeout_ms = connect_timeout_ms

    # --- Connection --------------------------------------------------------------------------------------------------

    def connect(self) -> Identity:
        """Initialize and log in. Raises TerminalUnavailable; may be called again after a loss.

        Some running terminals answer credentials with a timeout, again and again, and let themselves be attached to
        without: then that is done, if our account is the one that they are logged in to.
        """
        keywords: dict[str, Any] = {"timeout": self._connect_timeout_ms}
        if self._path:
            keywords["path"] = self._path
        credentials = {"login": self._login, "password": self._password, "server": self._server}
        if not self._mt5.initialize(**keywords, **(credentials if self._login else {})):
            error = self._error()
            if error[0] != IPC_TIMEOUT or not self._login or not self._attached(keywords):
                raise TerminalUnavailable("initialize", error)
        return self.identity()

    def _attached(self, keywords: dict[str, Any]) -> bool:
        if not self._mt5.initialize(**(keywords | {"timeout": min(ATTACH_MS, self._connect_timeout_ms)})):
            return False
        account = self._call("account_info")
        if account is not None and (int(account.login), str(account.server)) == (self._login, self._server):
            return True
        self._mt5.shutdown()
        return False

    def disconnect(self) -> None:
        self._mt5.shutdown()

    def identity(self) -> Identity:
        """`path` is the configured one where the terminal says that it runs from there, else what it says."""
        account = self._one("account_info")
        said = str(self._one("terminal_info").path)
        same = not self._path or same_place(self._path, said)
        return Identity(int(account.login), str(account.server), said, misplaced="" if same else self._path)

    def status(self) -> TerminalStatus:
        terminal, account = self._one("terminal_info"), self._one("account_info")
        return TerminalStatus(
            connected=bool(terminal.connected),
            trade_allowed=bool(terminal.trade_allowed and account.trade_allowed and account.trade_expert),
            ping_us=int(terminal.ping_last),
            build=int(terminal.build),
        )

    def account(self) -> Account:
        row = self._one("account_info")
        return Account(
            login=int(row.login), server=str(row.server), currency=str(row.currency),
            currency_digits=int(row.currency_digits), balance=exact(row.balance), equity=exact(row.equity),
            margin=exact(row.margin), margin_free=exact(row.margin_free), margin_level=exact(row.margin_level),
            profit=exact(row.profit), leverage=int(row.leverage), margin_mode=int(row.margin_mode),
            trade_allowed=bool(row.trade_allowed), trade_expert=bool(row.trade_expert),
        )  # fmt: skip

    # --- Symbols and prices ------------------------------------------------------------------------------------------

    def symbols(self) -> tuple[SymbolSpec, ...]:
        return tuple(map(_spec, self._many("symbols_get")))

    def spec(self, symbol: str) -> SymbolSpec | None:
        """None when the broker has no such symbol. Selects it into Market Watch."""
        row = self._maybe("symbol_info", symbol)
        if row is None:
            return None
        if not row.select and not self._mt5.symbol_select(symbol, True):
            raise self._failure("symbol_select")
        return _spec(row)

    def tick(self, symbol: str) -> Tick | None:
        """None when there is no quote yet."""
        row = self._maybe("symbol_info_tick", symbol)
        if row is None or not row.bid:
            return None
        return Tick(
            symbol, exact(row.bid), exact(row.ask), exact(row.last), int(row.volume),
            self._clock.to_utc(int(row.time_msc)),
        )  # fmt: skip

    def rates(self, symbol: str, seconds: int, to_ms: int, count: int) -> tuple[Rate, ...]:
        """The last `count` candles with open time ≤ to_ms, ascending."""
        if seconds not in TIMEFRAMES:
            raise ValueError(f"MetaTrader has no timeframe of {seconds} seconds")
        # mt5linux can only send datetimes; an aware one is exact everywhere
        until = datetime.fromtimestamp(self._server_s(to_ms), UTC)
        rows = self._call("copy_rates_from", symbol, TIMEFRAMES[seconds], until, int(count))
        if rows is None:
            raise self._failure("copy_rates_from")
        to_utc = self._clock.to_utc
        return tuple(
            Rate(to_utc(time * 1000), opened, high, low, close, volume, spread, real)
            for time, opened, high, low, close, volume, spread, real in rows.tolist()
        )

    # --- What the account holds and held -----------------------------------------------------------------------------

    def positions(self) -> tuple[Position, ...]:
        to_utc = self._clock.to_utc
        return tuple(
            Position(
                int(row.ticket),
                int(row.identifier),
                row.symbol,
                int(row.type),
                int(row.magic),
                exact(row.volume),
                exact(row.price_open),
                exact(row.price_current),
                exact(row.sl),
                exact(row.tp),
                exact(row.profit),
                exact(row.swap),
                row.comment,
                to_utc(int(row.time_msc)),
                to_utc(int(row.time_update_msc)),
            )
            for row in self._many("positions_get")
        )

    def orders(self) -> tuple[Order, ...]:
        return tuple(map(self._order, self._many("orders_get")))

    def history_orders(self, from_ms: int, to_ms: int) -> tuple[Order, ...]:
        rows = self._many("history_orders_get", self._server_s(from_ms), self._server_s(to_ms) + 1)
        return tuple(map(self._order, rows))

    def history_deals(self, from_ms: int, to_ms: int) -> tuple[Deal, ...]:
        to_utc = self._clock.to_utc
        return tuple(
            Deal(
                int(row.ticket),
                int(row.order),
                int(row.position_id),
                row.symbol,
                int(row.type),
                int(row.entry),
                int(row.reason),
                int(row.magic),
                exact(row.volume),
                exact(row.price),
                exact(row.profit),
                exact(row.commission),
                exact(row.swap),
                exact(row.fee),
                row.comment,
                to_utc(int(row.time_msc)),
            )
            for row in self._many("history_deals_get", self._server_s(from_ms), self._server_s(to_ms) + 1)
        )

    def _order(self, row: Any) -> Order:
        to_utc = self._clock.to_utc
        return Order(
            int(row.ticket), row.symbol, int(row.type), int(row.state), int(row.magic), int(row.position_id),
            int(row.position_by_id), exact(row.volume_initial), exact(row.volume_current), exact(row.price_open),
            exact(row.price_stoplimit), exact(row.sl), exact(row.tp), int(row.type_filling), int(row.type_time),
            to_utc(int(row.time_expiration) * 1000), row.comment, to_utc(int(row.time_setup_msc)),
            to_utc(int(row.time_done_msc)),
        )  # fmt: skip

    # --- Trade -------------------------------------------------------------------------------------------------------

    def check(self, request: TradeRequest) -> SendReply:
        """`deal`, `order`, `volume` and prices are zero: a check places nothing."""
        row = self._call("order_check", self._request(request))
        if row is None:
            return SendReply(None, self._error())
        zero = Decimal(0)
        return SendReply(SendResult(int(row.retcode), 0, 0, zero, zero, zero, zero, str(row.comment), 0))

    def send(self, request: TradeRequest) -> SendReply:
        """Nothing is sent while the terminal is logged in to another account: whoever switched it, this order is ours."""
        if (stranger := self._stranger()) is not None:
            return SendReply(None, stranger)
        row = self._call("order_send", self._request(request))
        if row is None:
            return SendReply(None, self._error())
        return SendReply(
            SendResult(
                int(row.retcode),
                int(row.deal),
                int(row.order),
                exact(row.volume),
                exact(row.price),
                exact(row.bid),
                exact(row.ask),
                str(row.comment),
                int(row.request_id),
            )
        )

    def _stranger(self) -> tuple[int, str] | None:
        """Why an order may not go out now, as a definite "not sent"; None when the account is ours."""
        if not self._login:
            return None
        account = self._call("account_info")
        if account is None:
            code, text = self._error()
            return NOT_CONNECTED, f"the account could not be verified before sending ({code}: {text})"
        if int(account.login) != self._login:
            return NOT_CONNECTED, f"the terminal is logged in as {account.login}, not {self._login}"
        return None

    def _request(self, request: TradeRequest) -> dict[str, Any]:
        """Only what is set: absent is zero to MetaTrader."""
        out: dict[str, Any] = {"action": int(request.action), "type": int(request.type)}
        for name, number in zip(REALS, _reals(request), strict=True):
            if number:
                out[name] = float(number)
        for name, number in zip(WHOLES, _wholes(request), strict=True):
            if number:
                out[name] = int(number)
        if request.symbol:
            out["symbol"] = str(request.symbol)
        if request.comment:
            out["comment"] = str(request.comment)[:LONGEST_COMMENT]
        if request.expiration_ms:
            out["expiration"] = self._server_s(request.expiration_ms)
        return out

    # --- Calls -------------------------------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: Any) -> Any:
        return getattr(self._mt5, name)(*arguments)

    def _server_s(self, utc_ms: int) -> int:
        return max(self._clock.to_server(utc_ms) // 1000, 0)

    def _error(self) -> tuple[int, str]:
        code, text = self._mt5.last_error()
        return int(code), str(text)

    def _failure(self, call: str) -> TerminalError:
        error = self._error()
        return (TerminalUnavailable if error[0] in LOST else TerminalError)(call, error)

    def _one(self, name: str) -> Any:
        row = self._call(name)
        if row is None:
            raise self._failure(name)
        return row

    def _maybe(self, name: str, symbol: str) -> Any:
        row = self._call(name, symbol)
        if row is None and (failure := self._failure(name)).error[0] not in NOT_FOUND:
            raise failure
        return row

    def _many(self, name: str, *arguments: Any) -> Iterable[Any]:
        rows = self._call(name, *arguments)
        if rows is None or rows is False:
            raise self._failure(name)
        found: Iterable[Any] = rows
        return found


def _spec(row: Any) -> SymbolSpec:
    return SymbolSpec(
        symbol=row.name, digits=int(row.digits), point=exact(row.point), tick_size=exact(row.trade_tick_size),
        tick_value=exact(row.trade_tick_value), contract_size=exact(row.trade_contract_size),
        volume_min=exact(row.volume_min), volume_max=exact(row.volume_max), volume_step=exact(row.volume_step),
        stops_level=int(row.trade_stops_level), freeze_level=int(row.trade_freeze_level),
        trade_mode=int(row.trade_mode), exemode=int(row.trade_exemode), filling_mode=int(row.filling_mode),
        currency_base=row.currency_base, currency_profit=row.currency_profit,
        currency_margin=row.currency_margin, description=row.description, path=row.path,
        order_mode=int(row.order_mode), expiration_mode=int(row.expiration_mode),
    )  # fmt: skip

"""Tries a terminal out: `python -m executors.terminals.probe --kind metatrader --login 123 --server Broker-Demo`.

Reads account, symbols, prices, candles and history; with `--trade EURUSD` it also opens, protects and closes a position of
the smallest size, so use a demo account. Each step is a case of tests/contract/test_terminal.py, on a terminal that no test
controls. The password comes from MT5_PASSWORD. Ends with 1 when a step failed.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from executors.errors import TerminalError
from executors.terminals import metatrader
from executors.terminals.adapter import ModuleTerminal
from executors.terminals.base import Position, SendResult, SymbolSpec, Tick, TradeRequest
from tradedist.clock import now_ms

DEAL, SLTP = 1, 6
BUY, SELL = 0, 1
DONE = (10008, 10009, 10010)
EXEMODE_MARKET = 2
FOK, IOC, RETURN = 0, 1, 2
SHOWN_WITHIN_S = 5.0
MAGIC = 2**52 + 4242
HOUR_MS = 3_600_000


class Failed(Exception):
    """A step did not give what the contract asks for."""


@dataclass(slots=True)
class Probe:
    terminal: ModuleTerminal
    login: int
    server: str
    symbol: str
    say: Callable[[str], None]

    def run(self, *, trade: bool) -> int:
        """How many steps failed."""
        steps = [
            self.t01_identity,
            self.t03_account,
            self.t04_specs,
            self.t05_tick,
            self.t06_candles,
            self.t20_history,
        ]
        if trade:
            steps += [self.t18_check, self.t08_to_t10_trade]
        failed = 0
        for step in steps:
            name = step.__name__
            try:
                self.say(f"ok      {name}: {step()}")
            except (Failed, TerminalError) as error:
                failed += 1
                self.say(f"FAILED  {name}: {error}")
                if step == self.t01_identity:
                    break
        self.terminal.disconnect()
        return failed

    def t01_identity(self) -> str:
        identity = self.terminal.connect()
        if stranger := identity.stranger(self.login, self.server):
            raise Failed(stranger)
        status = self.terminal.status()
        if not status.connected:
            raise Failed("the terminal has no link to its trade server")
        trading = "allowed" if status.trade_allowed else "switched off: press Algo Trading"
        return f"{identity.login} at {identity.server}, build {status.build}, trading {trading}, path {identity.path}"

    def t03_account(self) -> str:
        account = self.terminal.account()
        kind = {0: "netting", 1: "exchange", 2: "hedging"}.get(account.margin_mode, "?")
        return f"{account.balance} {account.currency}, 1:{account.leverage}, {kind}"

    def _spec(self) -> SymbolSpec:
        spec = self.terminal.spec(self.symbol)
        if spec is None:
            raise Failed(f"the broker has no symbol {self.symbol}; its own name may have a suffix")
        return spec

    def t04_specs(self) -> str:
        count = len(self.terminal.symbols())
        spec = self._spec()
        return f"{count} symbols; {spec.symbol}: {spec.volume_min} lots at least, filling mask {spec.filling_mode}"

    def _tick(self) -> Tick:
        limit = time.monotonic() + SHOWN_WITHIN_S
        while (tick := self.terminal.tick(self.symbol)) is None:
            if time.monotonic() > limit:
                raise Failed(f"no price of {self.symbol} within {SHOWN_WITHIN_S:.0f} s; is its market open?")
            time.sleep(0.1)
        return tick

    def t05_tick(self) -> str:
        tick = self._tick()
        age_ms = now_ms() - tick.time_ms
        hours = round(age_ms / HOUR_MS)
        if hours and abs(age_ms - hours * HOUR_MS) < 60_000:
            raise Failed(f"the price is {hours} hours old by our clock: set --timezone to the broker's")
        return f"{tick.bid} / {tick.ask}, {age_ms} ms old"

    def t06_candles(self) -> str:
        rates = self.terminal.rates(self.symbol, 60, now_ms(), 100)
        times = [rate.time_ms for rate in rates]
        if times != sorted(set(times)) or len(rates) > 100:
            raise Failed("the candles are not in order")
        return f"{len(rates)} minutes up to {times[-1] if times else 'never'}"

    def t20_history(self) -> str:
        deals = self.terminal.history_deals(now_ms() - 30 * 24 * HOUR_MS, now_ms() + 24 * HOUR_MS)
        orders = self.terminal.history_orders(now_ms() - 30 * 24 * HOUR_MS, now_ms() + 24 * HOUR_MS)
        return f"{len(deals)} deals and {len(orders)} orders in 30 days"

    # --- With --trade ------------------------------------------------------------------------------------------------

    def _request(self, side: int, **more: Any) -> TradeRequest:
        spec, tick = self._spec(), self._tick()
        instant = spec.exemode < EXEMODE_MARKET
        policy = FOK if instant or spec.filling_mode & 1 else IOC if spec.filling_mode & 2 else RETURN
        price = (tick.ask if side == BUY else tick.bid) if instant else Decimal(0)
        return TradeRequest(
            DEAL,
            self.symbol,
            spec.volume_min,
            side,
            price,
            deviation=50,
            type_filling=policy,
            magic=MAGIC,
            **more,
        )

    def t18_check(self) -> str:
        reply = self.terminal.check(self._request(BUY))
        if reply.result is None or reply.result.retcode:
            raise Failed(f"order_check says {reply}")
        return reply.result.comment

    def _send(self, request: TradeRequest) -> SendResult:
        reply = self.terminal.send(request)
        if reply.result is None or reply.result.retcode not in DONE:
            raise Failed(f"order_send says {reply}")
        return reply.result

    def _shown(self, order_ticket: int) -> Position:
        limit = time.monotonic() + SHOWN_WITHIN_S
        while True:
            for position in self.terminal.positions():
                if position.magic == MAGIC and order_ticket in (position.ticket, position.identifier):
                    return position
            if time.monotonic() > limit:
                raise Failed(f"order {order_ticket} is not among the positions after {SHOWN_WITHIN_S:.0f} s")
            time.sleep(0.05)

    def t08_to_t10_trade(self) -> str:
        started = time.perf_counter()
        opened = self._send(self._request(BUY, comment="td probe"))
        took_ms = (time.perf_counter() - started) * 1000
        position = self._shown(opened.order)
        spec = self._spec()
        away = max(spec.stops_level, 500) * 2 * spec.point
        self._send(TradeRequest(SLTP, self.symbol, position=position.ticket, sl=position.price_open - away))
        self._send(self._request(SELL, position=position.ticket))
        limit = time.monotonic() + SHOWN_WITHIN_S
        while True:
            deals = self.terminal.history_deals(position.time_ms - HOUR_MS, now_ms() + 24 * HOUR_MS)
            mine = [deal for deal in deals if deal.position_id == position.identifier]
            if [deal.entry for deal in mine] == [0, 1]:
                break
            if time.monotonic() > limit:
                raise Failed(f"the deals of position {position.ticket} are {mine}")
            time.sleep(0.05)
        kept = f"comment kept as {position.comment!r}"
        return f"opened in {took_ms:.0f} ms, protected, closed; {kept}; result {sum(deal.profit for deal in mine)}"


def module_of(kind: str, address: str) -> Any:
    match kind:
        case "metatrader":
            return metatrader.module()
        case "remote":
            from executors.terminals.remote import DEFAULT_PORT, RemoteModule

            host, _, port = address.partition(":")
            return RemoteModule(host or "127.0.0.1", int(port or DEFAULT_PORT), timeout_s=120)
        case _:
            from executors.terminals import paper

            return paper


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="probe", description="Try a MetaTrader terminal out")
    parser.add_argument("--kind", choices=("metatrader", "remote", "paper"), default="metatrader")
    parser.add_argument("--address", default="", help="of mt5linux's server, host:port, for --kind remote")
    parser.add_argument("--path", default="", help="of terminal64.exe; for --kind paper the broker's address")
    parser.add_argument("--login", type=int, required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--timezone", default="NY+7", help="the broker's clock: an IANA name or NY+7")
    parser.add_argument("--symbol", default="EURUSD", help="the broker's own name")
    parser.add_argument(
        "--trade", action="store_true", help="open and close the smallest position: demo accounts only"
    )
    options = parser.parse_args(arguments)
    password = os.environ.get("MT5_PASSWORD", "")
    if not password:
        parser.error("put the account's password into the environment as MT5_PASSWORD")
    terminal = ModuleTerminal(
        module_of(options.kind, options.address),
        login=options.login,
        password=password,
        server=options.server,
        path=options.path,
        server_timezone=options.timezone,
    )
    out = sys.stdout
    probe = Probe(terminal, options.login, options.server, options.symbol, lambda line: print(line, file=out))
    return 1 if probe.run(trade=options.trade) else 0


if __name__ == "__main__":
    sys.exit(main())

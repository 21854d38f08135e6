"""Pure: execution reports made from an order, and the trace of where its time went.

Precedes: the journal keeps the reports, the link publishes them. Follows: every step of execution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from executors.legs import ZERO, LegRow, RequestRow
from executors.messages import ExecutionReport, OpenSignal
from executors.orders import OrderState

PRICE_PLACES = Decimal("1e-8")


def heard(points: dict[str, int], *, mono_us: int, redis_us: int) -> None:
    """Notes in a leg's trace that it has come to this process: when, and how long after accept."""
    points["heard_mono_us"] = mono_us
    if "accepted_us" in points:
        points["wake_us"] = max(0, redis_us - points["accepted_us"])


@dataclass(slots=True)
class Trace:
    """Points in UTC ms, spans in µs. `path`: the wake-up that won. See ExecutionReport.trace."""

    path: str
    points: dict[str, int]
    now_ms: Callable[[], int]
    mono_ms: Callable[[], float]
    woken_mono: float
    broker_us: int = 0
    rules_us: int = 0
    journal_us: int = 0
    _last_mono: float = field(default=0.0)

    @classmethod
    def begin(
        cls, points: dict[str, int], path: str, now_ms: Callable[[], int], mono_ms: Callable[[], float]
    ) -> "Trace":
        mono = mono_ms()
        found = points | {"woken": now_ms()}
        came = found.pop("heard_mono_us", None)
        if came is not None and path not in (
            "",
            "restart",
        ):  # else it came to an earlier process, or long ago
            found["queue_us"] = max(0, round(mono * 1000) - came)
        return cls(path, found, now_ms, mono_ms, mono, _last_mono=mono)

    def intent(self) -> None:
        self.points["intent"] = self.now_ms()
        self.rules_us += self._since_last()

    def sent(self) -> None:
        self.points["sent"] = self.now_ms()
        self.journal_us += self._since_last()

    def answered(self) -> None:
        self.points["answered"] = self.now_ms()
        self.broker_us += self._since_last()

    def _since_last(self) -> int:
        now = self.mono_ms()
        span, self._last_mono = round((now - self._last_mono) * 1000), now
        return span

    def own_us(self) -> int:
        """Our own part inside the executor: since the wake-up, without the broker's."""
        return max(0, round((self.mono_ms() - self.woken_mono) * 1000) - self.broker_us)

    def report(self) -> dict[str, int]:
        spans = {"own_us": self.own_us(), "broker_us": self.broker_us}
        if "intent" in self.points:
            spans |= {"rules_us": self.rules_us, "journal_us": self.journal_us}
        return self.points | spans


def build_report(
    row: LegRow,
    state: OrderState,
    *,
    seq: int,
    time_ms: int,
    position: int = 0,
    trace: Trace,
    code: str = "",
    message: str = "",
) -> ExecutionReport:
    """The report that tells the order as the row has it now. `position`: that it will have in the journal."""
    signal = row.leg.signal
    last = row.requests[-1] if row.requests else None
    # on the way, only what the last request brought: the reports of a close of 800 positions must stay small
    told = row.requests[-1:] if state is OrderState.INTENT else row.requests
    closed = _closed(row) if state is not OrderState.INTENT else []
    path: Any = trace.path
    return ExecutionReport(
        order_id=row.order_id,
        signal_id=signal.signal_id,
        terminal_id=row.leg.terminal_id,
        report_seq=seq,
        state=state,
        action=signal.action,
        symbol=signal.symbol or "",
        side=signal.side if isinstance(signal, OpenSignal) else None,
        lots=row.wanted_lots,
        filled_lots=row.filled_lots,
        price=_price(row),
        code=code,
        message=message,
        retcode=last.retcode if last else None,
        request_n=len(row.requests),
        position_tickets=_tickets(told, "positions") or closed,
        order_tickets=_tickets(told, "orders"),
        deal_tickets=_tickets(told, "deals"),
        time_ms=time_ms,
        position=position,
        trace=trace.report(),
        woken_by=path,
        user_id=row.leg.user_id,
    )


def _price(row: LegRow) -> Decimal | None:
    """Over the fills so far; none when they are of several symbols. A request's price may come later than its lots."""
    filled = [item for item in row.requests if item.filled_lots and item.price]
    if not filled or len({item.request.get("symbol", "") for item in filled}) > 1:
        return None
    price = filled[0].price
    if len(filled) > 1:
        lots = sum((item.filled_lots for item in filled), ZERO)
        price = sum((item.filled_lots * item.price for item in filled), ZERO) / lots
    return price.quantize(PRICE_PLACES).normalize()


def _tickets(requests: list[RequestRow], kind: str) -> list[int]:
    if len(requests) == 1:
        return list(dict.fromkeys(requests[0].result.get(kind, ())))
    found: list[Any] = [ticket for item in requests for ticket in item.result.get(kind, ())]
    return list(dict.fromkeys(found))


def _closed(row: LegRow) -> list[int]:
    armed = row.plan.get("protect", {}).get("positions", [])
    return [int(item[0]) for item in (*row.plan.get("tickets", []), *armed)]

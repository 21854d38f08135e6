"""Pure: every order message that crosses a process, a socket or REST. One schema serves all of them.

Follows: signals, which are part of it and may be imported from here. Decimals are JSON numbers for the outside
(`public()`) and strings inside Redis, Celery and datagrams. Times are UTC milliseconds. Unknown fields are refused.
Requests are lower-case, states upper-case.
"""

import json
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, TypeAdapter

from executors.orders import OrderState, order_id
from executors.signals import (
    ACTIONS as ACTIONS,
)
from executors.signals import (
    SIGNAL as SIGNAL,
)
from executors.signals import (
    SLUG as SLUG,
)
from executors.signals import (
    Action as Action,
)
from executors.signals import (
    AnySignal as AnySignal,
)
from executors.signals import (
    BreakEven as BreakEven,
)
from executors.signals import (
    CancelSignal as CancelSignal,
)
from executors.signals import (
    CloseBySignal as CloseBySignal,
)
from executors.signals import (
    CloseSignal as CloseSignal,
)
from executors.signals import (
    Level as Level,
)
from executors.signals import (
    Message as Message,
)
from executors.signals import (
    ModifySignal as ModifySignal,
)
from executors.signals import (
    Number as Number,
)
from executors.signals import (
    OpenSignal as OpenSignal,
)
from executors.signals import (
    PositiveNumber as PositiveNumber,
)
from executors.signals import (
    ProtectSignal as ProtectSignal,
)
from executors.signals import (
    Side as Side,
)
from executors.signals import (
    Signal as Signal,
)
from executors.signals import (
    SignalId as SignalId,
)
from executors.signals import (
    Slug as Slug,
)
from executors.signals import (
    Symbol as Symbol,
)
from executors.signals import (
    Targets as Targets,
)
from executors.signals import (
    Trailing as Trailing,
)

MAX_MESSAGE_BYTES = 64 * 1024  # of any socket message or request body

Mode = Literal["ACTIVE", "REDUCING", "HALTED"]


def public(message: BaseModel) -> Any:
    """JSON-ready, for people and programs outside: decimals as numbers."""
    return json.loads(public_json(message))


def public_json(message: BaseModel) -> str:
    return message.model_dump_json(context={"public": True})


class Leg(Message):
    """One signal on one terminal, as an executor receives it by any path. `order_id = signal_id:terminal_id`."""

    signal: Signal
    digest: str
    terminal_id: Slug
    epoch: int
    leg_seq: int  # counts per terminal without gaps, from 1
    accepted_ms: int  # Redis time
    deadline_ms: int  # Redis time: not sent after this
    user_id: int
    trace: dict[str, int] = Field(default_factory=dict)  # hop → UTC ms or µs, see ExecutionReport.trace

    @cached_property  # an order asks for it a dozen times
    def order_id(self) -> str:
        return order_id(self.signal.signal_id, self.terminal_id)


# --- Execution reports: what happened ---


class ExecutionReport(Message):
    """An append-only event about an order; `report_seq` counts per order from 0 (accept) without gaps."""

    order_id: str
    signal_id: str
    terminal_id: Slug
    report_seq: int = Field(ge=0)
    state: OrderState
    action: Action
    symbol: str = ""
    side: Side | None = None
    lots: Number = Decimal(0)  # asked of the broker, after sizing; what the signal asked until then
    filled_lots: Number = Decimal(0)
    price: Number | None = (
        None  # volume-weighted over the fills so far; none when they are of several symbols
    )
    code: str = ""  # errors.Code when it was refused, denied or is unknown
    message: str = ""  # a sentence for people
    retcode: int | None = None  # MetaTrader's, of the last request
    request_n: int = 0  # requests sent so far
    position_tickets: list[int] = Field(default_factory=list)
    order_tickets: list[int] = Field(default_factory=list)
    deal_tickets: list[int] = Field(default_factory=list)
    time_ms: int
    position: int = 0  # in the executor's journal; 0 for accept's own report
    # Where the time went. Points in UTC ms: received (by the web process), accepted (in Redis), woken (taken up), intent,
    # sent, answered. Spans in µs, one after the other: accept_us, wake_us (to this executor, by `woken_by`), queue_us
    # (its turn), rules_us, journal_us (INTENT on disk), broker_us; own_us: the executor's whole part but the broker's.
    trace: dict[str, int] = Field(default_factory=dict)
    woken_by: Literal["", "udp", "tcp", "celery", "outbox", "restart"] = ""
    user_id: int = 0


class OrderView(Message):
    """An order in answers and lists: its latest report and whether it is late."""

    order_id: str
    terminal_id: str
    state: OrderState
    overdue: bool = (
        False  # past its deadline and not settled; flagged by the beat, ended only by the executor
    )
    report: ExecutionReport


class SignalView(Message):
    """A signal and those of its orders that the reader may see."""

    signal_id: str
    action: str
    signal: Signal
    user: str
    source: str
    accepted_ms: int
    deadline_ms: int
    orders: list[OrderView]
    durability: Literal["full", "degraded"] = "full"


# --- RTS: what a terminal holds ---


class AccountState(Message):
    """Money in `currency`, the terminal's own figures."""

    terminal_id: str
    login: int
    server: str
    currency: str
    balance: Number
    equity: Number
    margin: Number
    margin_free: Number
    margin_level: Number  # percent; 0 without margin
    profit: Number
    leverage: int
    hedging: bool
    trade_allowed: bool
    connected: bool
    time_ms: int


class PositionState(Message):
    terminal_id: str
    position_ticket: int
    position_id: int = 0  # what deals name; a reversal changes the ticket only. 0: not known
    symbol: str  # canonical
    broker_symbol: str
    side: Side
    lots: Number
    price_open: Number
    price_current: Number
    stop_loss: Number | None = None
    take_profit: Number | None = None
    profit: Number
    swap: Number
    magic: int
    order_id: str | None = None  # ours, when the position is known in the journal
    opened_ms: int
    trailing: Trailing | None = None  # armed in the executor
    break_even: BreakEven | None = None
    protect_moves: int = 0  # how often the executor has moved its stop loss
    protect_error: str = ""  # why the last move failed, or none is made


class PendingOrderState(Message):
    terminal_id: str
    order_ticket: int
    symbol: str
    broker_symbol: str
    order_type: str
    lots: Number
    price: Number
    limit_price: Number | None = None  # of a stop_limit
    expires_ms: int | None = None  # None: until it is cancelled
    stop_loss: Number | None = None
    take_profit: Number | None = None
    magic: int
    order_id: str | None = None
    placed_ms: int


class DriftEvent(Message):
    """Something at the terminal that no order of ours explains: a code and a sentence. Nothing is traded on it."""

    code: str  # see docs/operating.md
    message: str
    symbol: str = ""
    ticket: int | None = None  # of the position or pending order
    time_ms: int


class DriftLog(Message):
    """What has drifted on a terminal so far: how often each code, and the newest events, newest first."""

    counts: dict[str, int] = Field(default_factory=dict)
    events: list[DriftEvent] = Field(default_factory=list)


InstanceStatus = Literal[
    "STARTING", "CONNECTING", "READY", "STUCK", "DISCONNECTED", "HALTED", "STOPPED", "FAILED"
]
INSTANCE_STATUSES: tuple[str, ...] = get_args(InstanceStatus)


class Alert(Message):
    """What an operator must know of a terminal. `text` is a sentence; empty in the record of an alert's end."""

    code: str  # executors.alerts.AlertCode
    terminal_id: str
    text: str
    time_ms: int
    until_ms: int | None = None  # shown until then; None: until whoever raised it ends it


class TerminalUpdate(Message):
    """What the executor (or the supervisor) says of a terminal now; parts that did not change are absent."""

    terminal_id: str
    status: InstanceStatus
    account: AccountState | None = None
    positions: list[PositionState] | None = None
    pending_orders: list[PendingOrderState] | None = None
    latency_us: int | None = None  # our own part of the last order
    broker_us: int | None = None
    drift: DriftLog | None = None
    last_error: str = ""
    alerts: list[Alert] | None = None  # all that are open
    time_ms: int


# --- Configuration, published to Redis with a version ---


class Sizing(Message):
    """fixed: `value` lots whatever the signal says. multiplier: signal lots x `value`. Then min, max and step."""

    method: Literal["fixed", "multiplier"] = "multiplier"
    value: PositiveNumber = Decimal(1)


class RiskLimits(Message):
    """The executor's last line. 0 = no limit."""

    max_lots: Number = Decimal(0)  # per order
    max_positions: int = 0  # open at once on the account
    orders_per_second: int = 10


class TerminalConfig(Message):
    """Everything an executor needs, without the database. The password stays sealed (AES-256-GCM)."""

    terminal_id: Slug
    version: int
    label: str
    kind: Literal["metatrader", "remote", "paper"]
    enabled: bool
    host_id: str
    epoch: int
    login: int
    server: str
    sealed_password: str
    path: str = (
        ""  # metatrader: terminal64.exe; remote: host:port; paper: broker URL, empty = PAPER_BROKER_URL
    )
    server_timezone: str = "UTC"  # of the broker's clock: an IANA name, or `NY+7`
    symbol_map: dict[str, str] = Field(
        default_factory=dict
    )  # canonical → broker_symbol, where suffix is not enough
    symbol_prefix: str = ""
    symbol_suffix: str = ""
    symbols: list[str] = Field(
        default_factory=list
    )  # canonical names allowed; empty = every one the broker has
    tick_priority: int = 0  # 0 = sends no ticks; else 1 is the first source of a symbol
    deviation_points: int = 20
    max_attempts: int = 3  # requests for one open or one position to close, retries included
    sizing: Sizing = Field(default_factory=Sizing)
    limits: RiskLimits = Field(default_factory=RiskLimits)


# --- The order socket, /ws/orders/ ---
# Every message of the server carries `n`, from 1 without gaps on a connection. See docs/api.md.


class SendSignal(Message):
    """client → server: place or repeat a signal. `request_id` comes back in the answer."""

    type: Literal["signal"]
    request_id: str = Field(default="", max_length=64)
    signal: dict[str, Any]  # validated by SIGNAL, so that the answer can carry the request_id


class Resume(Message):
    """client → server, first message: go on after `cursor`; without one a snapshot comes."""

    type: Literal["resume"]
    cursor: str | None = Field(default=None, max_length=80)


class Ping(Message):
    type: Literal["ping"]
    at: float = 0  # returned unchanged


Moment = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]


class BrowserTrace(Message):
    """client → server: one order's times on the page's monotonic clock, and how that differs from the server's.

    Sent once per order, after its outcome is on the page. Nothing is answered.
    """

    type: Literal["trace"]
    order_id: str = Field(max_length=120)
    clicked_ms: Moment
    accepted_ms: Moment | None = None
    reported_ms: Moment
    offset_ms: Annotated[float, Field(ge=-1e15, le=1e15, allow_inf_nan=False)]  # server's UTC − page's clock
    rtt_ms: Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)]  # of the ping that measured it


ClientMessage = Annotated[SendSignal | Resume | Ping | BrowserTrace, Field(discriminator="type")]
CLIENT_MESSAGE: TypeAdapter[SendSignal | Resume | Ping | BrowserTrace] = TypeAdapter(ClientMessage)

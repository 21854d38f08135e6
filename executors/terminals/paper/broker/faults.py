"""Faults on command: what goes wrong, for whom, and when (a chosen call, a rate, a time). Seeded, so that a run repeats.

Precedes: sessions and the server, which act on them. Follows: the admin calls `fault_add`, `fault_clear`, `fault_list`.
A fault of a call strikes calls. A standing one holds; with `at`, `rate`, `times` or `method` it too strikes calls, and
holds for each of them alone, or for `lasts_ms` from then on.
"""

import itertools
import random
from dataclasses import asdict, dataclass
from typing import Any

# kind → what `value` means; kinds of one call act on `method` (order_send unless it is named)
OF_A_CALL = {
    "reject": "return code (10006)",
    "requote": "unused: 10004 with new prices",
    "price_off": "unused: 10021",
    "partial": "part of the volume that is filled (0.5)",
    "slippage": "points against the client (10)",
    "delay": "ms before it is executed (500)",
    "slow_answer": "ms between execution and answer (500)",
    "blank": "unused: 10009 without deal, price and volume",
    "placed": "unused: 10008, the deal is told of later only",
    "ambiguous": "return code of an order that was executed (10012)",
    "late_fill": "ms after which an accepted order is filled; 10009 without a deal (500)",
    "race_fill": "unused: the order or position that is named fills or ends first: 10023, 10036",
    "lose_answer": "unused: executed, then the connection is cut",
    "lose_question": "unused: the connection is cut before it is executed",
    "double_answer": "unused: the answer comes twice",
    "crash": "ms until the terminal can be started again; it dies before this call is executed (1000)",
    "crash_after": "the same, after it was executed and before it is answered (1000)",
    "stuck": "the same as crash, but its pipe stays: every call fails with -10001 until initialize (1000)",
    "hang": "seconds without an answer; nothing is executed (3600)",
    "hang_after": "seconds without an answer after it was executed (3600)",
    "timeout": "unused: -10005 at once, nothing is executed",
    "error": "last_error code of a failed call (-1)",
    "last_error_race": "unused: executed, no result, and last_error says Success, since another thread's call came between",
}
# kinds that hold as long as they stand, or for the calls that they strike
STANDING = {
    "algo_off": "unused: the Algo Trading button, 10027",
    "expert_off": "unused: by the server, 10026",
    "api_off": "unused: order_send gives None and -8",
    "trade_disabled": "unused: 10017",
    "market_closed": "unused: 10018",
    "no_connection": "unused: the terminal has no link to its server, 10031",
    "version_mismatch": "unused: logins fail with -5",
    "auth_fail": "unused: logins fail with -6",
    "login_timeout": "unused: logins fail with -10005 when the client's timeout is over",
    "relogin_timeout": "unused: a running terminal does not take credentials, -10005; attaching without them works",
    "cross_wired": "unused: the process is attached to another terminal than the one it asked for",
    "pipe_busy": "unused: initialize waits without limit, since another client has the pipe",
    "history_lag": "ms before orders and deals are in the history (500)",
    "position_lag": "ms before a new position is seen (500)",
    "wide_spread": "points that the ask is dearer from the next tick on, as at rollover or news, for every account (50)",
    "outage": "unused: connections are refused and cut",
}
DEFAULTS: dict[str, float] = {
    "reject": 10006, "partial": 0.5, "slippage": 10, "delay": 500, "slow_answer": 500, "ambiguous": 10012, "late_fill": 500,
    "hang": 3600, "hang_after": 3600, "error": -1, "history_lag": 500, "position_lag": 500,
    "wide_spread": 50, "crash": 1000, "crash_after": 1000, "stuck": 1000,
}  # fmt: skip
# at a login nobody speaks of a symbol; and these count calls of initialize unless another is named
AT_LOGIN = frozenset(
    {"version_mismatch", "auth_fail", "login_timeout", "relogin_timeout", "cross_wired", "pipe_busy"}
)
LOGIN_CALLS = ("initialize", "login")
# what only an order that is sent can meet
OF_AN_ORDER = frozenset(
    {"reject", "requote", "price_off", "partial", "slippage", "blank", "placed", "ambiguous", "late_fill", "race_fill"}
)  # fmt: skip
LAGS = ("history_lag", "position_lag")
MAX_FAULTS = 1000
MOST = 1_000_000_000_000
SETTINGS: dict[str, Any] = {
    "kind": str, "value": int | float, "login": int, "symbol": str, "method": str, "at": int, "rate": int | float,
    "times": int, "for_ms": int | float, "lasts_ms": int | float,
}  # fmt: skip
PLAIN = ("login", "symbol", "method", "at", "rate", "times", "lasts_ms")  # that go into the fault as they are


class FaultError(ValueError):
    """A fault that cannot be; says what to change."""


@dataclass(slots=True)
class Fault:
    kind: str
    value: float
    login: int = 0  # 0: every account
    symbol: str = ""  # '': every symbol
    method: str = "order_send"
    at: int = 0  # only the n-th matching call from now on; 0: each, by `rate`
    rate: float = 1.0
    times: int = 0  # so often at most; 0: without end (1 with `at`)
    until_ms: int = 0  # 0: until it is cleared
    lasts_ms: int = 0  # a standing kind that strikes a call holds so long from then on; 0: for that call
    chosen: bool = False  # a standing kind that strikes calls
    fault_id: int = 0
    seen: int = 0  # matching calls so far
    done: int = 0  # times it struck

    @property
    def strikes(self) -> bool:
        return self.chosen or self.kind in OF_A_CALL


class Faults:
    def __init__(self, seed: int) -> None:
        self._ids = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self._random = random.Random(seed)
        self.methods: frozenset[str] = frozenset()  # that a call may have; empty: not known here

    def __bool__(self) -> bool:
        return bool(self._faults)

    def seed(self, seed: int) -> None:
        self._random.seed(seed)

    def add(self, now_ms: int, spec: dict[str, Any]) -> int:
        if len(self._faults) >= MAX_FAULTS:
            raise FaultError(f"{MAX_FAULTS} faults stand already; clear some")
        self._checked(spec)
        kind = spec["kind"]
        more = {name: spec[name] for name in PLAIN if name in spec}
        fault = Fault(kind, float(spec.get("value", DEFAULTS.get(kind, 0))), **more)
        fault.chosen = kind in STANDING and (
            bool(fault.at or fault.times or "method" in spec) or fault.rate < 1
        )
        if kind in AT_LOGIN:
            fault.method = spec.get("method", "initialize")
        self._fitting(fault)
        fault.until_ms = now_ms + int(spec["for_ms"]) if spec.get("for_ms") else 0
        fault.lasts_ms = int(fault.lasts_ms)
        fault.times = fault.times or (1 if fault.at else 0)
        fault.fault_id = next(self._ids)
        self._faults[fault.fault_id] = fault
        return fault.fault_id

    @staticmethod
    def _checked(spec: dict[str, Any]) -> None:
        """Each setting by itself."""
        kind = spec.get("kind", "")
        if kind not in OF_A_CALL and kind not in STANDING:
            raise FaultError(
                f"there is no fault {kind!r}; choose one of {', '.join([*OF_A_CALL, *STANDING])}"
            )
        for name, setting in spec.items():
            if name not in SETTINGS:
                raise FaultError(f"a fault takes {', '.join(SETTINGS)}; it has no {name!r}")
            if isinstance(setting, bool) or not isinstance(setting, SETTINGS[name]):
                raise FaultError(
                    f"{name} must be a {'text' if SETTINGS[name] is str else 'number'}, not {setting!r}"
                )
            if isinstance(setting, int | float) and not abs(setting) < MOST:
                raise FaultError(f"{name} must lie within {MOST}, not {setting}")
            if name in (*PLAIN, "for_ms") and isinstance(setting, int | float) and setting < 0:
                raise FaultError("login, at, rate, times, for_ms and lasts_ms are 0 or more")

    def _fitting(self, fault: Fault) -> None:
        """The settings together."""
        kind = fault.kind
        if not 0 <= fault.rate <= 1:
            raise FaultError(f"rate is a share from 0 to 1, not {fault.rate}")
        self._value(kind, fault.value)
        if self.methods and fault.method not in self.methods:
            raise FaultError(
                f"there is no call {fault.method!r}; choose one of {', '.join(sorted(self.methods))}"
            )
        if kind in OF_AN_ORDER and fault.method != "order_send":
            raise FaultError(f"{kind} is a matter of order_send: leave method away")
        if kind == "wide_spread" and (fault.login or fault.chosen):
            raise FaultError(
                "wide_spread is a matter of the market, which no call makes: leave login, at, rate, times and method "
                "away, and take for_ms"
            )
        if kind in AT_LOGIN and fault.symbol:
            raise FaultError(f"{kind} is a matter of the login, which has no symbol: leave symbol away")
        if kind == "pipe_busy" and fault.chosen and not fault.lasts_ms:
            raise FaultError(
                "pipe_busy at a chosen call needs lasts_ms: how long the other client has the pipe"
            )
        if kind in AT_LOGIN and fault.chosen and not fault.lasts_ms and fault.method not in LOGIN_CALLS:
            raise FaultError(
                f"{kind} at a call of {fault.method} needs lasts_ms: a login comes later, if at all"
            )
        if fault.lasts_ms and not fault.chosen:
            raise FaultError(
                "lasts_ms goes with at, rate, times or method of a standing fault; else take for_ms"
            )

    @staticmethod
    def _value(kind: str, value: float) -> None:
        if kind == "partial" and not 0 <= value < 1:
            raise FaultError(f"partial takes the share that is filled, from 0 to below 1, not {value}")
        if kind == "error" and not value < 0:
            raise FaultError(f"error takes a code of last_error, which is below 0, not {value}")
        if kind in ("reject", "ambiguous") and value < 1:
            raise FaultError(f"{kind} takes a return code such as 10006, not {value}")
        if kind not in ("slippage", "error") and value < 0:
            raise FaultError(f"the value of {kind} is 0 or more, not {value}")

    def clear(self, fault_id: int = 0) -> None:
        """One, or all of them."""
        if fault_id:
            self._faults.pop(fault_id, None)
            self._faults.pop(-fault_id, None)
        else:
            self._faults.clear()

    def listed(self) -> list[dict[str, Any]]:
        return [asdict(fault) for fault in self._faults.values()]

    def strike(self, method: str, login: int, symbol: str, now_ms: int) -> list[Fault]:
        """The faults of this very call; counts it."""
        if not self._faults:
            return []
        struck = []
        for fault in list(self._faults.values()):
            if not fault.strikes or fault.method != method or not self._meant(fault, login, symbol, now_ms):
                continue
            fault.seen += 1
            if fault.at and fault.seen != fault.at:
                continue
            if fault.rate < 1 and self._random.random() >= fault.rate:
                continue
            fault.done += 1
            if fault.times and fault.done >= fault.times:
                self._faults.pop(fault.fault_id, None)
            struck.append(fault)
            if fault.lasts_ms:
                self._begin(fault, now_ms)
        return struck

    def _begin(self, fault: Fault, now_ms: int) -> None:
        """From the call that was struck on it stands for a time, for all that it means."""
        self._faults[-fault.fault_id] = Fault(
            fault.kind,
            fault.value,
            fault.login,
            fault.symbol,
            until_ms=now_ms + fault.lasts_ms,
            fault_id=-fault.fault_id,
        )

    def standing(self, kind: str, login: int, symbol: str, now_ms: int) -> Fault | None:
        if not self._faults:
            return None
        for fault in list(self._faults.values()):
            if fault.kind == kind and not fault.strikes and self._meant(fault, login, symbol, now_ms):
                return fault
        return None

    def _meant(self, fault: Fault, login: int, symbol: str, now_ms: int) -> bool:
        if fault.until_ms and now_ms >= fault.until_ms:
            self._faults.pop(fault.fault_id, None)
            return False
        return (not fault.login or fault.login == login) and (not fault.symbol or fault.symbol == symbol)

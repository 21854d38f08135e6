"""Pure: what the nemesis does and when, from a seed alone.

Every 5 to 15 s something is killed, frozen or cut, datagrams are lost, or the broker misbehaves. Times are seconds since
the beginning of the run; a fault may last into the next one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

PAUSE_S = (5.0, 15.0)
FROZEN_S = (0.2, 10.0)
NETWORK_S = (3.0, 12.0)

Kind = Literal["kill", "freeze", "network", "cut-redis", "cut-broker", "broker"]
KINDS: tuple[tuple[Kind, float], ...] = (
    ("kill", 0.36),
    ("freeze", 0.24),
    ("network", 0.12),
    ("cut-redis", 0.04),
    ("cut-broker", 0.04),
    ("broker", 0.20),
)
EXECUTORS = 0.35  # of the processes that are killed or frozen

# kind of fault → the values it may take (None: it takes none), and the share of calls that it strikes (0: it stands)
BROKER_FAULTS: dict[str, tuple[tuple[float, ...] | None, float]] = {
    "reject": ((10006, 10007, 10018, 10019), 0.4),
    "requote": (None, 0.5),
    "price_off": (None, 0.5),
    "partial": ((0.5,), 0.5),
    "slippage": ((10, 50), 0.5),
    "delay": ((200, 1000, 3000), 0.5),
    "slow_answer": ((200, 1000, 3000), 0.5),
    "blank": (None, 0.5),
    "placed": (None, 0.5),
    "ambiguous": ((10011, 10012, 10031), 0.3),
    "late_fill": ((300, 1000, 3000), 0.5),
    "race_fill": (None, 0.3),
    "lose_answer": (None, 0.3),
    "lose_question": (None, 0.3),
    "double_answer": (None, 0.3),
    "timeout": (None, 0.3),
    "error": ((-1,), 0.3),
    "crash": ((500, 2000), 0.1),
    "crash_after": ((500, 2000), 0.1),
    "stuck": ((500, 2000), 0.1),
    "hang": ((12,), 0.2),
    "hang_after": ((12,), 0.2),
    "last_error_race": (None, 0.3),
    "algo_off": (None, 0),
    "expert_off": (None, 0),
    "api_off": (None, 0),
    "trade_disabled": (None, 0),
    "market_closed": (None, 0),
    "no_connection": (None, 0),
    "history_lag": ((500, 3000), 0),
    "position_lag": ((500, 3000), 0),
    "outage": (None, 0),
    "auth_fail": (None, 0),
    "login_timeout": (None, 0),
    "relogin_timeout": (None, 0),
    "version_mismatch": (None, 0),
    "pipe_busy": (None, 0),
    "cross_wired": (None, 0),
}
LOOKS = (
    "positions",
    "orders",
    "history_orders",
    "history_deals",
    "account_info",
)  # calls that may fail beside sends
HANGS_AT_MOST = 2  # calls in one fault: each ends an executor


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float
    kind: Kind
    target: str = ""  # a process, or a terminal; "" means all of them
    for_s: float = 0.0
    spec: dict[str, Any] = field(default_factory=dict)  # of the broker's fault, or of the network


def schedule(
    seed: int, length_s: float, processes: Sequence[str], terminals: Sequence[str], haste: float = 1.0
) -> list[Fault]:
    """`processes`: those that are no executors. `haste`: so many times as often. The same arguments, the same faults."""
    choice = random.Random(seed)
    found: list[Fault] = []
    at_s = choice.uniform(*PAUSE_S) / haste / 2
    while at_s < length_s:
        found.append(_fault(choice, at_s, processes, terminals))
        at_s += choice.uniform(*PAUSE_S) / haste
    return found


def _fault(choice: random.Random, at_s: float, processes: Sequence[str], terminals: Sequence[str]) -> Fault:
    kind = choice.choices([name for name, _ in KINDS], [weight for _, weight in KINDS])[0]
    terminal = choice.choice(terminals)
    one_or_all = terminal if choice.random() < 0.6 else ""
    match kind:
        case "kill" | "freeze":
            executor = choice.random() < EXECUTORS
            target = f"terminal.{terminal}" if executor else choice.choice(processes)
            # short ones are as telling as long ones: both ends of the range are as likely
            for_s = FROZEN_S[0] * (FROZEN_S[1] / FROZEN_S[0]) ** choice.random()
            return Fault(at_s, kind, target, for_s if kind == "freeze" else 0.0)
        case "network":
            spec = {
                "loss": choice.choice([0.2, 0.5, 1.0]),
                "double": choice.choice([0.0, 0.2]),
                "garble": choice.choice([0.0, 0.1]),
                "delay_s": choice.choice([0.0, 0.05, 0.5]),
                "reset": choice.choice([0.0, 0.1, 0.5]),
            }
            return Fault(at_s, kind, one_or_all, choice.uniform(*NETWORK_S), spec)
        case "broker":
            return _broker_fault(choice, at_s, one_or_all)
        case _:
            if kind == "cut-redis":
                return Fault(at_s, kind)
            return Fault(at_s, kind, one_or_all, spec={"mode": choice.choice(["broken", "stuck"])})


def _broker_fault(choice: random.Random, at_s: float, target: str) -> Fault:
    name = choice.choice(sorted(BROKER_FAULTS))
    values, rate = BROKER_FAULTS[name]
    for_s = choice.uniform(2.0, 8.0)
    spec: dict[str, Any] = {"kind": name}
    if values is not None:
        spec["value"] = choice.choice(values)
    if rate:
        spec["rate"] = rate
    if name in ("hang", "hang_after"):
        spec["times"] = HANGS_AT_MOST
    if name in ("error", "timeout") and choice.random() < 0.5:
        spec["method"] = choice.choice(LOOKS)
    return Fault(at_s, "broker", target, for_s, spec)

"""What the link and its executor tell each other: what Redis has for the executor, and how the executor is.

Precedes: the executor handles each event in its own thread. Follows: the link, which emits them.
"""

from dataclasses import dataclass, field

from executors.errors import EpochPassed
from executors.messages import Leg, TerminalConfig
from executors.settlement import Settlement


@dataclass(frozen=True, slots=True)
class Drained:
    """A whole read of the outbox, begun after `asked`."""

    legs: list[Leg]
    asked: int
    whole: bool  # False: the outbox holds more than was read


@dataclass(frozen=True, slots=True)
class Foreign:
    """Redis knows another journal of this terminal, or a later position of this one."""

    legs: list[tuple[Leg, str, int]]
    last_seq: int  # given out when `legs` were read, or before


@dataclass(frozen=True, slots=True)
class Compared:
    """Redis and the journal agree on who is ahead; orders may run."""


@dataclass(frozen=True, slots=True)
class ConfigRead:
    config: TerminalConfig


@dataclass(frozen=True, slots=True)
class ModesRead:
    modes: list[str]
    resumed: int  # counts the operators' resumes


@dataclass(frozen=True, slots=True)
class SettlementsRead:
    wishes: list[Settlement]


@dataclass(frozen=True, slots=True)
class Shown:
    """What Redis showed of the terminal when the connection was first made, each part as JSON."""

    account: str | None
    positions: str | None
    pending_orders: str | None
    drift: str | None


Event = EpochPassed | Drained | Foreign | Compared | ConfigRead | ModesRead | SettlementsRead | Shown


@dataclass(slots=True)
class InstanceFacts:
    """What RIS shows beside the journal's position; written by the executor, read by the link."""

    status: str = "STARTING"
    last_error: str = ""
    own_us: int = 0
    broker_us: int = 0
    config_version: int = 0
    moved_ms: int = 0  # UTC; when its thread last turned
    extra: dict[str, str] = field(default_factory=dict)

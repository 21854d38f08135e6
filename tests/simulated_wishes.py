"""Specifications, configurations, signals and legs for tests of the order protocol.

Precedes: tests.simulated, from where they may be imported as well.
"""

from decimal import Decimal
from typing import Any
from uuid import UUID

from executors.messages import SIGNAL, AnySignal, CloseSignal, Leg, OpenSignal, Targets, TerminalConfig
from executors.terminals.base import SymbolSpec

LOGIN, SERVER = 7001, "Sim-Demo"
START_MS = 1_700_000_000_000


def make_spec(symbol: str, **changes: Any) -> SymbolSpec:
    values: dict[str, Any] = {
        "symbol": symbol,
        "digits": 5,
        "point": Decimal("0.00001"),
        "tick_size": Decimal("0.00001"),
        "tick_value": Decimal(1),
        "contract_size": Decimal(100_000),
        "volume_min": Decimal("0.01"),
        "volume_max": Decimal(100),
        "volume_step": Decimal("0.01"),
        "stops_level": 0,
        "freeze_level": 0,
        "trade_mode": 4,
        "exemode": 2,
        "filling_mode": 3,
        "currency_base": "EUR",
        "currency_profit": "USD",
        "currency_margin": "EUR",
        "description": "",
        "path": "",
    }
    return SymbolSpec(**(values | changes))


def make_config(terminal_id: str = "sim-1", **changes: Any) -> TerminalConfig:
    values: dict[str, Any] = {
        "terminal_id": terminal_id,
        "version": 1,
        "label": "Simulated",
        "kind": "paper",
        "enabled": True,
        "host_id": "here",
        "epoch": 1,
        "login": LOGIN,
        "server": SERVER,
        "sealed_password": "",
        "limits": {"orders_per_second": 0},
    }
    return TerminalConfig.model_validate(values | changes)


def make_open(number: int, symbol: str = "EURUSD", lots: str = "1", **fields: Any) -> OpenSignal:
    return OpenSignal.model_validate(
        {
            "signal_id": str(UUID(int=number)),
            "targets": {"terminals": ["sim-1"]},
            "symbol": symbol,
            "side": "buy",
            "lots": lots,
        }
        | fields
    )


def make_close(number: int, *, symbol: str | None = None, ticket: int | None = None) -> CloseSignal:
    return CloseSignal(
        signal_id=str(UUID(int=number)),
        targets=Targets(terminals=["sim-1"]),
        symbol=symbol,
        position_ticket=ticket,
        all=True if symbol is None and ticket is None else None,
    )


def make_leg(
    signal: AnySignal,
    seq: int,
    *,
    ttl_ms: int = 60_000,
    epoch: int = 1,
    at_ms: int = START_MS,
    terminal_id: str = "sim-1",
) -> Leg:
    return Leg(
        signal=signal,
        digest=signal.digest(),
        terminal_id=terminal_id,
        epoch=epoch,
        leg_seq=seq,
        accepted_ms=at_ms,
        deadline_ms=at_ms + ttl_ms,
        user_id=1,
    )


def make(number: int, action: str, **fields: Any) -> AnySignal:
    """Any signal. `opened_by` may be the number of the open that is meant."""
    if isinstance(fields.get("opened_by"), int):
        fields["opened_by"] = str(UUID(int=fields["opened_by"]))
    body = {"signal_id": str(UUID(int=number)), "action": action, "targets": {"terminals": ["sim-1"]}}
    return SIGNAL.validate_python(body | fields)

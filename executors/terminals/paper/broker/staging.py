"""How one request is to be executed, where a fault or the broker's own character bends it.

Precedes: the engine, which acts on it. Follows: the request as parsed, and the faults that struck it.
"""

import math
import random
from dataclasses import dataclass

from executors.terminals.paper import constants as mt5
from executors.terminals.paper.broker import rules
from executors.terminals.paper.broker.faults import Fault
from executors.terminals.paper.broker.model import Request
from executors.terminals.paper.broker.personalities import Personality
from executors.terminals.paper.broker.state import Book, State

PERCENTILE_99 = 2.326  # standard deviations above the median


@dataclass(slots=True)
class Staging:
    retcode: int = 0  # refuse with this
    fill_part: float = 1.0  # of the volume, IOC and RETURN; FOK is refused below 1
    slip_points: float = 0.0  # against the client
    blank: bool = False  # 10009 without deal, price and volume
    placed: bool = False  # 10008, likewise
    late_ms: int = 0  # the order is accepted, its fill comes so much later
    race: bool = False  # the order or position that is named fills, or ends, just before


def latency_ms(house: Personality, chance: random.Random) -> float:
    """How long this broker takes for one request: evenly between its two figures, or with a long tail."""
    low, high = house.latency_ms
    if house.latency_shape == "lognormal" and 0 < low < high:
        return chance.lognormvariate(math.log(low), math.log(high / low) / PERCENTILE_99)
    return chance.uniform(low, high)


def staging_of(
    state: State, book: Book, request: Request, faults: list[Fault], *, symbol: str, market_closed: bool
) -> Staging:
    staging = Staging()
    house, chance = book.house.personality, state.random
    desk = book.house.desks.get(symbol)
    if house.slippage_points and desk is not None and desk.instrument.exemode == rules.MARKET:
        staging.slip_points = chance.uniform(-house.slippage_points, house.slippage_points)
    if house.requote_rate and chance.random() < house.requote_rate and request.action == 1:
        staging.retcode = mt5.TRADE_RETCODE_REQUOTE
    removing = request.action == mt5.TRADE_ACTION_REMOVE and house.remove_when_closed
    if market_closed and not removing:
        staging.retcode = mt5.TRADE_RETCODE_MARKET_CLOSED
    for fault in faults:
        match fault.kind:
            case "reject":
                staging.retcode = int(fault.value)
            case "requote":
                staging.retcode = mt5.TRADE_RETCODE_REQUOTE
            case "price_off":
                staging.retcode = mt5.TRADE_RETCODE_PRICE_OFF
            case "partial":
                staging.fill_part = fault.value
            case "slippage":
                staging.slip_points = fault.value
            case "blank":
                staging.blank = True
            case "placed":
                staging.placed = True
            case "late_fill":
                staging.late_ms = int(fault.value)
            case "race_fill":
                staging.race = True
    return staging

"""mt5forge (pinned): its connector, feed, order manager and trackers on another broker."""

import json
from pathlib import Path

from tests.paper import PaperBroker
from tests.third_party.programs import Desk

HERE = Path(__file__).resolve().parent


def test_mt5forge_trades(broker: PaperBroker) -> None:
    desk = Desk(broker, 5, "lab")
    seen = json.loads(desk.run(str(HERE / "tour_of_mt5forge.py")).splitlines()[-1])
    assert seen["candles"] == 50
    assert seen["bought"][:3] == [True, 0.04, 1.1001], seen
    assert seen["position"] == [0.04, 9]
    assert seen["steps"] == [True, True, True, True]
    assert seen["rest"] == 0.03
    assert seen["left"] == 0
    assert seen["healthy"].upper() == "HEALTHY"
    assert [deal.volume for deal in desk.trades()] == [0.04, 0.01, 0.03]

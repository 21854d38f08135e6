"""pdmt5 (pinned in requirements-dev.in): pandas frames of every call; and mt5cli's command line over it."""

import csv
import json
from pathlib import Path

from tests.paper import PaperBroker
from tests.third_party.programs import Desk

HERE = Path(__file__).resolve().parent


def test_pdmt5_makes_frames_of_everything(broker: PaperBroker) -> None:
    desk = Desk(broker, 1)
    seen = json.loads(desk.run(str(HERE / "tour_of_pdmt5.py")))
    assert seen["check"] == 0
    assert seen["sends"] == [10009] * 4
    assert seen["magic"] == 77
    rows = seen["rows"]
    assert rows["rates_from"] == rows["rates_pos"] == rows["ticks_from"] == 30
    assert rows["positions"] == rows["orders"] == 1
    assert 180 <= rows["rates_range"] <= 200
    assert seen["deals"] == [0, 0, 1]
    assert seen["orders"] == [4, 4, 2]
    assert (seen["margin"], seen["profit"]) == (1100.0, 1000.0)
    assert [deal.magic for deal in desk.trades()] == [77, 77]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_mt5cli_exports_and_trades(broker: PaperBroker, tmp_path: Path) -> None:
    desk = Desk(broker, 2)

    def mt5cli(name: str, *arguments: str) -> list[dict[str, str]]:
        output = tmp_path / f"{name}.csv"
        desk.run("mt5cli", "--output", str(output), name, *arguments)
        return rows_of(output)

    assert mt5cli("account-info")[0]["login"] == "2"
    assert {row["name"] for row in mt5cli("symbols", "--group", "*USD")} >= {"EURUSD", "GBPUSD", "BTCUSD"}
    assert len(mt5cli("latest-rates", "--symbol", "GBPUSD", "--timeframe", "M5", "--count", "20")) == 20
    request = {
        "action": 1,
        "symbol": "EURUSD",
        "volume": 0.2,
        "type": 0,
        "price": 1.1001,
        "deviation": 20,
        "magic": 5,
    }
    assert mt5cli("order-check", "--request", json.dumps(request))[0]["retcode"] == "0"
    assert mt5cli("order-send", "--yes", "--request", json.dumps(request))[0]["retcode"] == "10009"
    (position,) = mt5cli("positions")
    assert (position["symbol"], position["volume"], position["magic"]) == ("EURUSD", "0.2", "5")
    closed = mt5cli("close-positions", "--symbol", "EURUSD", "--yes")
    assert [row["retcode"] for row in closed] == ["10009"]
    assert [deal.volume for deal in desk.trades()] == [0.2, 0.2]
    refused = desk.run(
        "mt5cli", "--output", str(tmp_path / "x.csv"), "order-send", "--request", "{}", fails=True
    )
    assert "--yes" in refused

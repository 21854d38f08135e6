"""A program over pdmt5: every call of its client that there is, as frames and dicts. Prints what it saw as JSON."""

import json
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd  # type: ignore[import-untyped]
from pdmt5 import Mt5Config, Mt5DataClient  # type: ignore[import-untyped]

SYMBOL = "EURUSD"


def main() -> None:
    client = Mt5DataClient(config=Mt5Config())
    client.initialize_and_login_mt5()
    now = datetime.now(UTC) + timedelta(days=1)
    before = now - timedelta(days=3)
    tick = client.symbol_info_tick_as_dict(symbol=SYMBOL)
    request = {
        "action": 1, "symbol": SYMBOL, "volume": 0.1, "type": 0, "price": tick["ask"], "deviation": 50, "magic": 77,
        "comment": "pdmt5",
    }  # fmt: skip
    checked = client.order_check_as_dict(request=request)
    opened = client.order_send_as_dict(request=request)
    placed = client.order_send_as_dict(
        request={**request, "action": 5, "type": 2, "price": 1.0, "type_filling": 2, "magic": 78}
    )
    positions = client.positions_get_as_df(symbol=SYMBOL)
    orders = client.orders_get_as_df(symbol=SYMBOL)
    client.market_book_add(SYMBOL)
    frames = {
        "account": client.account_info_as_df(),
        "terminal": client.terminal_info_as_df(),
        "version": client.version_as_df(),
        "symbols": client.symbols_get_as_df(group="*USD*"),
        "symbol": client.symbol_info_as_df(symbol=SYMBOL),
        "tick": client.symbol_info_tick_as_df(symbol=SYMBOL),
        "rates_from": client.copy_rates_from_as_df(symbol="GBPUSD", timeframe=1, date_from=now, count=30),
        "rates_pos": client.copy_rates_from_pos_as_df(
            symbol="GBPUSD", timeframe=16385, start_pos=0, count=30
        ),
        "rates_range": client.copy_rates_range_as_df(
            symbol="GBPUSD", timeframe=15, date_from=before, date_to=now
        ),
        "ticks_from": client.copy_ticks_from_as_df(symbol="USDJPY", date_from=before, count=30, flags=-1),
        "ticks_range": client.copy_ticks_range_as_df(
            symbol="USDJPY", date_from=before, date_to=before + timedelta(hours=1), flags=-1
        ),
        "positions": positions,
        "orders": orders,
    }
    assert all(isinstance(frame, pd.DataFrame) for frame in frames.values())
    closing = {**request, "type": 1, "price": tick["bid"], "position": int(opened["order"])}
    closed = client.order_send_as_dict(request=closing)
    removed = client.order_send_as_dict(request={"action": 8, "order": int(placed["order"])})
    deals = client.history_deals_get_as_df(date_from=before, date_to=now + timedelta(days=1))
    past = client.history_orders_get_as_df(date_from=before, date_to=now + timedelta(days=1))
    margin = client.order_calc_margin(0, SYMBOL, 1.0, 1.1)
    profit = client.order_calc_profit(0, SYMBOL, 1.0, 1.1, 1.11)
    totals = [client.symbols_total(), client.positions_total(), client.orders_total()]
    totals += [client.history_deals_total(before, now), client.history_orders_total(before, now)]
    client.shutdown()
    out = {
        "check": checked["retcode"],
        "sends": [item["retcode"] for item in (opened, placed, closed, removed)],
        "rows": {name: len(frame) for name, frame in frames.items()},
        "magic": int(positions["magic"].iloc[0]),
        "deals": deals["entry"].tolist(),
        "orders": past["state"].tolist(),
        "margin": margin,
        "profit": profit,
        "totals": totals,
    }
    json.dump(out, sys.stdout)


main()

"""What the pipeline makes of frames that are authentic but odd, and of clocks."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charts.pipeline import FRAME_AGE_MS, RING_PER_BATCH, TICK_AGE_MS, TICKS_PER_FRAME, Pipeline
from tradedist.wire import Frame, Kind

NOW = 1_700_000_000_000


def frame(
    payload: Any, seq: int = 1, time_ms: int = NOW, kind: Kind = Kind.TICKS, sender: str = "one"
) -> Frame:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Frame(kind, sender, 1, 0, seq, time_ms, raw)


def ticks(*rows: list[Any], **more: Any) -> dict[str, Any]:
    return {"p": 1, "t": list(rows), **more}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ptsg"), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([Kind.TICKS, Kind.SYMBOLS]),
)
def test_odd_payloads_are_counted_and_the_next_frame_is_taken(payload: bytes, kind: Kind) -> None:
    pipeline = Pipeline("test")
    pipeline.receive(frame(payload, 1, kind=kind), "udp", NOW)
    pipeline.receive(frame(ticks(["EURUSD", NOW, 1.1, 1.2]), 2), "udp", NOW)
    pipeline.tick_clock(NOW)
    batch = pipeline.drain()
    assert [tick.bid for tick in batch.symbols["EURUSD"].ticks] == [1.1]


@pytest.mark.parametrize(
    "row",
    [
        ["EURUSD", NOW, -1.0, 1.0],
        ["EURUSD", NOW, 0, 1.0],
        ["EURUSD", NOW, float("nan"), 1.0],
        ["EURUSD", NOW, float("inf"), 1.0],
        ["EURUSD", NOW, 10**400, 1.0],
        ["EURUSD", NOW, True, 1.0],
        ["EURUSD", NOW, "1.1", 1.0],
        ["EURUSD", str(NOW), 1.1, 1.0],
        ["EURUSD", -5, 1.1, 1.0],
        ["EUR USD", NOW, 1.1, 1.2],
        ["", NOW, 1.1, 1.2],
        [7, NOW, 1.1, 1.2],
    ],
)
def test_unusable_ticks_are_refused_one_by_one(row: list[Any]) -> None:
    pipeline = Pipeline("test")
    pipeline.receive(frame(ticks(row, ["EURUSD", NOW, 1.1, 1.2])), "udp", NOW)
    batch = pipeline.drain()
    assert list(batch.symbols) == ["EURUSD"]
    assert len(batch.symbols["EURUSD"].ticks) == 1
    assert pipeline.counts["ticks_malformed"] + pipeline.counts["symbols_refused"] == 1


def test_a_frame_with_too_many_ticks_is_refused_whole() -> None:
    pipeline = Pipeline("test")
    rows = [["EURUSD", NOW, 1.1, 1.2]] * (TICKS_PER_FRAME + 1)
    pipeline.receive(frame(ticks(*rows)), "tcp", NOW)
    assert pipeline.counts["frames_malformed"] == 1
    assert pipeline.drain().symbols == {}


def test_a_tick_from_the_future_does_not_make_true_ones_late() -> None:
    pipeline = Pipeline("test")
    pipeline.receive(frame(ticks(["EURUSD", NOW + 3_600_000, 9.9, 9.9])), "udp", NOW)
    pipeline.receive(frame(ticks(["EURUSD", NOW, 1.1, 1.2]), 2), "udp", NOW)
    assert [tick.bid for tick in pipeline.drain().symbols["EURUSD"].ticks] == [1.1]
    assert pipeline.counts["ticks_ahead"] == 1


def test_a_source_whose_clock_runs_ahead_is_named() -> None:
    pipeline = Pipeline("test")
    pipeline.receive(frame(ticks(["EURUSD", NOW + 7_200_000, 1.1, 1.2])), "udp", NOW)
    assert pipeline.sources(NOW)["one"]["ahead_ms"] == 7_200_000


def test_the_last_price_of_a_closed_market_is_shown_without_a_candle() -> None:
    pipeline = Pipeline("test")
    pipeline.receive(frame(ticks(["EURUSD", NOW - TICK_AGE_MS - 1, 1.1, 1.2])), "udp", NOW)
    one = pipeline.drain().symbols["EURUSD"]
    assert one.latest.bid == 1.1
    assert (one.ticks, one.forming, one.closed) == ([], {1: None, 60: None}, [])


def test_old_frames_are_not_taken() -> None:
    pipeline = Pipeline("test")
    pipeline.receive(frame(ticks(["EURUSD", NOW, 1.1, 1.2])), "udp", NOW + FRAME_AGE_MS + 1)
    assert not pipeline.dirty


def test_a_burst_is_conflated_in_the_ring_but_not_in_the_candle() -> None:
    pipeline = Pipeline("test")
    count = 10 * RING_PER_BATCH
    for seq in range(count):
        pipeline.receive(frame(ticks(["EURUSD", NOW + seq, 1.1, 1.2]), seq + 1, NOW + seq), "udp", NOW + seq)
    one = pipeline.drain().symbols["EURUSD"]
    assert len(one.ticks) == RING_PER_BATCH
    assert pipeline.totals()["ticks_conflated"] == count - RING_PER_BATCH
    assert one.forming[60] is not None
    assert one.forming[60].ticks == count


def test_time_closes_a_candle_while_its_source_is_alive_and_not_after() -> None:
    pipeline = Pipeline("test")
    start = NOW - NOW % 60_000
    pipeline.receive(frame(ticks(["EURUSD", start + 10, 1.1, 1.2]), 1, start + 10), "udp", start + 10)
    pipeline.drain()
    pipeline.tick_clock(start + 900)
    assert not pipeline.dirty
    pipeline.tick_clock(start + 1_050)
    assert [candle.seconds for candle in pipeline.drain().symbols["EURUSD"].closed] == [1]
    pipeline.tick_clock(start + 60_500)  # nothing was heard for a minute: ticks may be on their way
    assert not pipeline.dirty
    pipeline.receive(frame(ticks(), 2, start + 60_600), "udp", start + 60_600)  # alive, with nothing new
    pipeline.tick_clock(start + 62_100)
    one = pipeline.drain().symbols["EURUSD"]
    assert [candle.seconds for candle in one.closed] == [60]
    assert [json.loads(text)["open_ms"] for texts in one.final.values() for text in texts] == [start, start]


def test_an_unreadable_saved_state_begins_anew() -> None:
    pipeline = Pipeline("test")
    pipeline.restore(
        {"EURUSD": "{}", "USDJPY": "[1", "GBPUSD": '{"latest":[1,2,3,4,5],"router":["x",1,2],"candles":{}}'},
        {"one": "no", "two": '["a",1,"zz",1]', "three": '[1,2,"f",1]'},
        NOW,
    )
    assert pipeline.counts["restore_failed"] == 5
    assert pipeline.symbols == []
    assert list(pipeline.sources(NOW)) == ["three"]


def test_symbols_are_described_by_the_best_source() -> None:
    row = {
        "symbol": "EURUSD", "digits": 5, "point": 1e-5, "volume_min": 0.01, "volume_max": 100.0,
        "volume_step": 0.01, "contract_size": 1e5,
    }  # fmt: skip
    pipeline = Pipeline("test")
    pipeline.receive(frame({"p": 1, "s": [row]}, kind=Kind.SYMBOLS), "udp", NOW)
    assert json.loads(pipeline.drain().infos["EURUSD"])["digits"] == 5
    worse = {"p": 2, "s": [row | {"digits": 4}]}
    pipeline.receive(frame(worse, kind=Kind.SYMBOLS, sender="two"), "udp", NOW)
    assert pipeline.drain().infos == {}
    better = {"p": 1, "s": [row | {"digits": 3}]}
    pipeline.receive(frame(better, 2, kind=Kind.SYMBOLS), "udp", NOW)
    assert json.loads(pipeline.drain().infos["EURUSD"])["digits"] == 3

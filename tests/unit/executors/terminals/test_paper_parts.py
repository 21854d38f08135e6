"""Small pure parts of the paper broker: configuration, masks, depth, exposure, faults, passwords, wire."""

import json
import random
import socket
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executors.terminals import metatrader, paper
from executors.terminals.adapter import exact, same_place
from executors.terminals.base import Identity
from executors.terminals.paper import wire
from executors.terminals.paper.broker import depth, personalities
from executors.terminals.paper.broker.exposure import Exposure, Part, margin_of
from executors.terminals.paper.broker.faults import FaultError, Faults
from executors.terminals.paper.broker.passwords import matches, sealed
from executors.terminals.paper.broker.personalities import ConfigurationError, Instrument
from executors.terminals.paper.broker.staging import latency_ms
from executors.terminals.paper.broker.texts import TEXTS
from executors.terminals.paper.client import FUNCTIONS
from executors.terminals.paper.constants import *  # noqa: F403
from executors.terminals.paper.link import Link
from executors.terminals.paper.masks import selects
from executors.terminals.servertime import server_clock


def instrument(**more: Any) -> Instrument:
    return Instrument(
        **{"name": "X", "feed": "X", "base": "EUR", "profit": "USD", "margin": "EUR", "digits": 5, **more}
    )


# --- Configuration ---


def test_at_least_six_brokers_that_differ() -> None:
    found = personalities.load().personalities
    assert len(found) >= 6
    assert len({item.server for item in found.values()}) == len(found)
    assert {item.margin_mode for item in found.values()} == {0, 1, 2}
    assert len({item.leverage for item in found.values()}) >= 5
    assert len({item.latency_ms for item in found.values()}) >= 6
    every = [symbol for item in found.values() for symbol in item.instruments.values()]
    assert {symbol.exemode for symbol in every} >= {1, 2, 3}
    assert {symbol.filling for symbol in every} >= {0, 1, 2, 3, 7}
    assert {symbol.digits for symbol in every if symbol.name.startswith("EURUSD")} == {4, 5}
    assert {symbol.contract_size for symbol in every} >= {1.0, 100.0, 100_000.0}
    assert any(item.suffix for item in found.values())
    assert any(symbol.commission for symbol in every)
    for item in found.values():
        server_clock(item.server_timezone)


def test_a_file_in_the_directory_adds_and_overrides(tmp_path: Path) -> None:
    (tmp_path / "personalities.toml").write_text("[personalities.ecn.all]\ncommission = 9.0\n")
    found = personalities.load(tmp_path).personalities
    assert found["ecn"].instruments["EURUSD"].commission == 9.0
    assert found["ecn"].instruments["EURUSD"].filling == 2
    assert found["classic"].instruments["EURUSD"].commission == 0.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[personalities.ecn]\nlevrage = 5\n", "unknown key levrage"),
        ("[personalities.ecn.all]\nfiling = 5\n", "unknown key filing"),
        ('[personalities.ecn.only.EURUSD]\nfeed = "NONE"\n', "there is no feed 'NONE'"),
        ("[personalities\n", "is not TOML"),
        ('[personalities.ecn]\nserver = "PaperClassic-Demo"\n', "the same server"),
    ],
)
def test_a_wrong_configuration_names_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "personalities.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        personalities.load(tmp_path)


def test_every_return_code_has_a_text() -> None:
    codes = {value for name, value in globals().items() if name.startswith("TRADE_RETCODE_")}
    assert codes <= set(TEXTS)


# --- Masks ---


@given(st.text(alphabet="AB*!,. ", max_size=20), st.text(alphabet="AB.", max_size=6))
def test_masks_never_fail_and_exclusions_win(group: str, name: str) -> None:
    assert not selects(f"{group},!{name}", name) or not name or "*" in name
    if name:
        assert selects(name, name)
        assert not selects(f"*,!{name}", name)


# --- Depth and exposure ---


def test_without_depth_all_is_at_the_top() -> None:
    assert depth.levels(instrument(), True, 1.1, 300.0) == [(1.1, 300.0)]


def test_a_limit_ends_the_sweep() -> None:
    found = depth.levels(instrument(book_depth=5, book_lots=2.0), False, 1.1, 9.0, limit=1.09998)
    assert found == [(1.1, 2.0), (1.09999, 2.0), (1.09998, 2.0)]
    assert depth.total(found) == 6.0


PARTS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(1, 500), st.floats(1.0, 2.0)), min_size=1, max_size=20
)  # fmt: skip


@given(PARTS, st.booleans(), st.data())
def test_exposure_is_the_sum_of_its_parts_whatever_came_and_went(
    parts: list[tuple[int, int, float]], use_leg: bool, data: st.DataObject
) -> None:
    def of(side: int, lots: float, price: float) -> float:
        return lots * 1000 * price

    def part(side: int, hundredths: int, price: float) -> Part:
        lots = hundredths / 100
        return Part(side, lots, lots * price, of(side, lots, price))

    grown = Exposure()
    for ticket, item in enumerate(parts):
        grown.put(ticket, part(*item))
    gone = data.draw(st.sets(st.integers(0, len(parts) - 1)))
    for ticket in gone:
        grown.drop(ticket)
    fresh = Exposure()
    for ticket, item in enumerate(parts):
        if ticket not in gone:
            fresh.put(ticket, part(*item))
    symbol = instrument(margin_use_leg=use_leg)
    assert grown.lots == fresh.lots
    assert margin_of(grown, symbol, of) == pytest.approx(margin_of(fresh, symbol, of), abs=1e-6)
    assert margin_of(grown, symbol, of) >= 0


# --- Faults ---


def test_faults_strike_at_their_call_and_then_end() -> None:
    faults = Faults(1)
    faults.add(0, {"kind": "reject", "at": 3, "login": 5})
    struck = [bool(faults.strike("order_send", 5, "EURUSD", 0)) for _ in range(5)]
    assert struck == [False, False, True, False, False]
    assert faults.listed() == []


def test_faults_keep_to_their_account_symbol_method_and_time() -> None:
    faults = Faults(1)
    faults.add(0, {"kind": "reject", "symbol": "EURUSD", "for_ms": 100})
    assert not faults.strike("order_send", 1, "GBPUSD", 50)
    assert not faults.strike("positions", 1, "EURUSD", 50)
    assert faults.strike("order_send", 1, "EURUSD", 99)
    assert not faults.strike("order_send", 1, "EURUSD", 100)


def test_a_rate_repeats_with_its_seed() -> None:
    def run() -> list[bool]:
        faults = Faults(9)
        faults.add(0, {"kind": "reject", "rate": 0.5})
        return [bool(faults.strike("order_send", 1, "", 0)) for _ in range(50)]

    assert run() == run()
    assert 10 < sum(run()) < 40


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"kind": "meteor"}, "no fault 'meteor'"),
        ({"kind": "reject", "rate": 2}, "a share"),
        ({"kind": "reject", "x": 1}, "takes"),
    ],
)  # fmt: skip
def test_impossible_faults_are_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(FaultError, match=says):
        Faults(1).add(0, spec)


# --- Passwords and wire ---


def test_passwords_are_kept_sealed() -> None:
    kept = sealed("secret")
    assert "secret" not in kept
    assert matches("secret", kept)
    assert not matches("Secret", kept)
    assert not matches("", sealed(""))
    assert sealed("secret") != kept


def test_answers_carry_numbers_texts_and_bytes() -> None:
    framed = wire.answer(7, 1, "Success", [1.1, "€", None])
    length, sequence = wire.HEAD.unpack(framed[: wire.HEAD.size])
    body = framed[wire.HEAD.size :]
    assert (length, sequence) == (len(body), 7)
    assert wire.read_answer(body) == (1, "Success", [1.1, "€", None])
    assert wire.read_answer(wire.answer(8, 1, "Success", b"\x00\xff")[wire.HEAD.size :]) == (
        1,
        "Success",
        b"\x00\xff",
    )
    assert json.loads(wire.question(1, "version", [])[wire.HEAD.size :]) == ["version", []]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8003", "http://127.0.0.1:8003", "tcp://127.0.0.1", "tcp://:1", ""]
)
def test_wrong_addresses_are_refused(url: str) -> None:
    with pytest.raises(wire.WireError, match="must look like"):
        wire.address(url)


def test_addresses() -> None:
    assert wire.address("tcp://127.0.0.1:8003") == ("127.0.0.1", 8003)
    assert wire.address("tcp://[::1]:9/") == ("::1", 9)


# --- Where a terminal runs ---


@pytest.mark.parametrize(
    ("configured", "said", "same"),
    [
        (r"C:\MT5\one\terminal64.exe", r"C:\MT5\one", True),
        (r"C:\MT5\one\terminal64.exe", r"c:\mt5\ONE", True),
        ("C:/MT5/one/terminal64.exe", r"C:\MT5\one\\", True),
        (r'"C:\MT5\one\terminal64.exe"', r"C:\MT5\one", True),
        (r"C:\MT5\one", r"C:\MT5\one", True),
        (r"C:\MT5\one\..\two\terminal64.exe", r"C:\MT5\two", True),
        (r"C:\MT5\one\terminal64.exe", r"C:\MT5\two", False),
        (r"C:\MT5\one\terminal64.exe", r"D:\MT5\one", False),
        (r"C:\MT5\one\terminal64.exe", r"C:\MT5", False),
        ("tcp://127.0.0.1:8003", "tcp://127.0.0.1:8003", True),
        ("tcp://127.0.0.1:8003", "tcp://127.0.0.1:8004", False),
    ],
)
def test_a_terminals_place_is_compared_as_windows_does(configured: str, said: str, same: bool) -> None:
    assert same_place(configured, said) is same


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        (Identity(7, "Here", "x"), ""),
        (Identity(8, "Here", "x"), "logged in as 8 at Here, not 7 at Here"),
        (Identity(7, "There", "x"), "logged in as 7 at There"),
        (Identity(7, "Here", r"C:\two", r"C:\one"), r"runs at C:\two, not at C:\one"),
    ],
)
def test_a_stranger_is_told_with_what_to_do(identity: Identity, says: str) -> None:
    told = identity.stranger(7, "Here")
    assert bool(told) == bool(says)
    assert says in told


@pytest.mark.parametrize(
    ("value", "meant"),
    [(0.1 + 0.2, "0.3"), (1.2004299999999999, "1.20043"), (0.00001, "0.00001"), (123456789.12, "123456789.12"), (0, "0")],
)  # fmt: skip
def test_the_last_bit_of_a_float_is_not_meant(value: float, meant: str) -> None:
    assert exact(value) == Decimal(meant)


@pytest.mark.parametrize(
    "spec",
    [
        {"at": "third"}, {"times": "many"}, {"rate": "half"}, {"login": "7"}, {"symbol": 7}, {"value": float("nan")},
        {"value": float("inf")}, {"at": -1}, {"fault_id": 1}, {"seen": 3}, {"until_ms": 5}, {"for_ms": True}, {"rate": 2},
    ],
)  # fmt: skip
def test_faults_that_cannot_be_are_refused_before_they_strike(spec: dict[str, Any]) -> None:
    faults = Faults(0)
    with pytest.raises(FaultError):
        faults.add(0, {"kind": "reject", **spec})
    assert faults.strike("order_send", 1, "", 0) == []


def test_latencies_lie_around_their_median(tmp_path: Path) -> None:
    """The shape of the brokers with a long tail: one of a hundred lies above the second figure."""
    slow = personalities.load().personalities["desk"]
    assert slow.latency_shape == "lognormal"
    median, tail = slow.latency_ms
    chance = random.Random(1)
    drawn = sorted(latency_ms(slow, chance) for _ in range(4000))
    assert drawn[2000] == pytest.approx(median, rel=0.1)
    assert drawn[3960] == pytest.approx(tail, rel=0.25)
    quick = personalities.load().personalities["net"]
    assert quick.latency_ms[0] <= latency_ms(quick, chance) <= quick.latency_ms[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("api_off", "5"),
        ("comment_mode", '"kep"'),
        ("leverage", '"high"'),
        ("improve", "1"),
        ("request_ids", '"odd"'),
        ("odd_history", "-4"),
        ("unknown_calc", "10013"),
        ("result_comments", '"Position gone"'),
        ("result_comments", '{ closed = "Position gone" }'),
        ("result_comments", "{ 10036 = 5 }"),
    ],
)
def test_values_that_cannot_be_are_refused_with_their_key(tmp_path: Path, key: str, value: str) -> None:
    (tmp_path / "personalities.toml").write_text(f"[personalities.ecn]\n{key} = {value}\n")
    with pytest.raises(ConfigurationError, match=key):
        personalities.load(tmp_path)


def test_a_moment_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "personalities.toml").write_text('[personalities.ecn.all]\nexpires = "next week"\n')
    with pytest.raises(ConfigurationError, match="expires must look like"):
        personalities.load(tmp_path)


def test_what_stands_in_for_the_package_has_the_very_same_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the cases that are run over the module hold where programs import MetaTrader5, too."""
    monkeypatch.setitem(sys.modules, "MetaTrader5", None)
    paper.install()
    module = metatrader.module()
    assert module is sys.modules["MetaTrader5"]
    assert len(FUNCTIONS) == 32
    assert all(getattr(module, name) is getattr(paper, name) is made for name, made in FUNCTIONS.items())


def test_a_pipe_to_nobody_is_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no broker listens, the system may give a caller the very port that it calls: it would talk to itself, and keep
    the broker from its port."""
    mirror = socket.socket()
    mirror.bind(("127.0.0.1", 0))
    mirror.connect(mirror.getsockname())
    monkeypatch.setattr("executors.terminals.paper.link.socket.create_connection", lambda *_: mirror)
    with pytest.raises(ConnectionRefusedError):
        Link("tcp://127.0.0.1:1")
    assert mirror.fileno() == -1

"""Whatever a client sends, the paper broker answers or cuts the connection, and goes on; nothing odd is executed."""

import math
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executors.terminals.paper import wire
from executors.terminals.paper.link import Link, LinkError
from tests.paper import PASSWORD, PaperBroker, running_broker

NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 0.01, 0.1, 1.0, 1.1, 1.1001, 500.0, math.inf, math.nan, -1.0, 1e308]),
)
WHOLES = st.one_of(st.integers(0, 2**63 - 1), st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 2**32 - 1]))
TEXTS = st.one_of(st.sampled_from(["EURUSD", "USDJPY", "EURUSD.thin", "", "NONE"]), st.text(max_size=29))
REQUESTS = st.tuples(
    st.sampled_from([0, 1, 1, 1, 5, 5, 6, 7, 8, 10, 99]), WHOLES, WHOLES, TEXTS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS,
    WHOLES, st.integers(0, 9), st.integers(0, 4), st.integers(0, 4), st.integers(-(2**63), 2**63 - 1), TEXTS, WHOLES, WHOLES,
)  # fmt: skip
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=12,
)
METHODS = st.sampled_from(
    ["order_send", "order_check", "rates_from", "rates_pos", "rates_range", "ticks_from", "ticks_range", "positions",
     "history_deals", "calc_margin", "calc_profit", "symbols", "symbol_select", "login", "__init__", "nonsense",
     "admin.push", "admin.fault_add", "admin.deposit", "admin.quotes", "admin.records", "admin.nonsense"]
)  # fmt: skip
PROFILE = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def broker() -> Iterator[PaperBroker]:
    with running_broker() as running:
        for login, personality in ((1, "lab"), (2, "classic"), (3, "net")):
            running.account(login, personality, 100_000.0)
        running.push("EURUSD", 1.10000, 1.10010)
        yield running
        running.check(magics_unique=False)


@given(request=REQUESTS, login=st.sampled_from([1, 2, 3]))
@PROFILE
def test_odd_requests_get_a_return_code(broker: PaperBroker, request: tuple[Any, ...], login: int) -> None:
    link = Link(broker.url)
    try:
        link.ask("login", login, PASSWORD, "", f"terminal-{login}")
        checked = link.ask("order_check", list(request))
        assert checked[0] == 0 or 10004 <= checked[0] <= 10046
        code, _, _, volume, price, *_ = link.ask("order_send", list(request))
        assert 10004 <= code <= 10046
        assert math.isfinite(price)
        if code == 10009 and request[0] == 1:
            assert 0 < volume <= 500
    finally:
        link.close()
    for record in broker.oracle.positions(login):
        assert math.isfinite(record.sl)
        assert math.isfinite(record.tp)


@given(method=METHODS, arguments=st.one_of(st.lists(JUNK, max_size=5), JUNK))
@PROFILE
def test_odd_calls_are_answered_or_cut(broker: PaperBroker, method: str, arguments: Any) -> None:
    link, refused = Link(broker.url), 0
    try:
        link.ask("login", 1, PASSWORD, "", "terminal-1")
        link.ask(method, *(arguments if isinstance(arguments, list) else [arguments]))
    except LinkError as answered:
        refused = answered.error[0]
    finally:
        link.close()
    assert refused < 1
    broker.oracle.clear_faults()
    assert broker.oracle.call("health")["accounts"] == 3


@given(
    block=st.one_of(
        st.binary(max_size=64),
        st.binary(max_size=64).map(lambda body: struct.pack("<II", len(body), 1) + body),
    )
)
@PROFILE
def test_odd_bytes_harm_nobody_else(broker: PaperBroker, block: bytes) -> None:
    with socket.create_connection(wire.address(broker.url), 5) as odd:
        odd.sendall(block)
        odd.shutdown(socket.SHUT_WR)
        odd.settimeout(60)
        try:
            while odd.recv(4096):
                pass
        except ConnectionError:
            pass
    assert broker.oracle.call("health")["accounts"] == 3

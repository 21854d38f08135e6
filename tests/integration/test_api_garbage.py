"""Every route with input that nobody should send: a clear error each time, and nothing recorded."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tradedist.celery  # noqa: F401  as in the web process: accept sends tasks
from executors import dispatch
from executors.api import Switch, parsed
from executors.api_auth import requests_of_users
from executors.errors import Code, Refused
from tests.integration.bodies import an_open
from tests.integration.test_api import Stage, error
from tradedist import keys
from tradedist.redis import close_loop_clients

pytestmark = pytest.mark.django_db(transaction=True)


@pytest_asyncio.fixture
async def stage(transactional_db: None, state_redis: Any, ticks_redis: Any) -> AsyncIterator[Stage]:
    dispatch._rate._buckets.clear()
    requests_of_users._held.clear()
    ticks_redis.hset(
        keys.SYMBOLS,
        "EURUSD",
        json.dumps(
            {
                "symbol": "EURUSD",
                "digits": 5,
                "point": 1e-5,
                "volume_min": 0.01,
                "volume_max": 100,
                "volume_step": 0.01,
                "contract_size": 1e5,
            }
        ),
    )
    yield await sync_to_async(Stage)()
    await dispatch.close_process()
    await close_loop_clients()


def changed(path: str, value: Any) -> bytes:
    """A good signal with one field as raw JSON text."""
    body = an_open()
    body[path] = "@@"
    return json.dumps(body).replace('"@@"', value).encode()


NOT_JSON = [
    b" ",
    b"{",
    b"null null",
    b"\xff\xfe{}",
    b'{"a": NaN}',
    b"[" * 30_000,
    b"1" * 5_000,
    b'{"signal_id": "\xc3\x28"}',
    changed("lots", "NaN"),
    changed("lots", "Infinity"),
    changed("lots", "-Infinity"),
    b'{"action": "open", "action": "close"}',
    json.dumps({"a": [[]]}).encode().replace(b"[[]]", b"[" * 100 + b"]" * 100),
]


@pytest.mark.parametrize("path", ["/signals", "/modes"])
async def test_what_is_not_json(stage: Stage, path: str) -> None:
    for raw in NOT_JSON:
        error(await stage.ted.post(path, raw), 400, Code.NOT_JSON)


@pytest.mark.parametrize("path", ["/signals", "/modes"])
async def test_json_that_is_no_message(stage: Stage, path: str) -> None:
    for raw in (b"null", b"[]", b'"text"', b"1", b"true", b"{}"):
        error(await stage.ted.post(path, raw), 422, Code.INVALID)


FIELDS = [
    ("lots", value)
    for value in (
        "0",
        "-1",
        "1e-9",
        "1e300",
        "1e999",
        '"much"',
        '"0x10"',
        "null",
        "[]",
        "{}",
        "true",
        '"NaN"',
        '""',
    )
] + [
    ("signal_id", '"x"'),
    ("signal_id", '"6F9619FF-8B86-D011-B42D-00C04FC964FF"'),
    ("signal_id", '"6f9619ff8b86d011b42d00c04fc964ff0000"'),
    ("signal_id", "null"),
    ("signal_id", "12"),
    ("signal_id", '["a"]'),
    ("signal_id", f'"{"a" * 60_000}"'),
    ("symbol", '""'),
    ("symbol", f'"{"A" * 30}"'),
    ("symbol", '"EUR USD"'),
    ("symbol", '"EUR\\u0000USD"'),
    ("symbol", '"€URUSD"'),
    ("symbol", '"EURUSD\\n"'),
    ("symbol", '"\\ud800"'),
    ("side", '"BUY"'),
    ("side", '"hold"'),
    ("side", "1"),
    ("order_type", '"limit"'),
    ("action", '"sell"'),
    ("action", "null"),
    ("stop_loss", "-1"),
    ("take_profit", "0"),
    ("stop_loss", "1e400"),
    ("ttl_ms", "-1"),
    ("ttl_ms", "1.5"),
    ("ttl_ms", "99"),
    ("ttl_ms", "86400001"),
    ("ttl_ms", str(10**30)),
    ("age_ms", "-5"),
    ("age_ms", str(10**18)),
    ("targets", "{}"),
    ("targets", "[]"),
    ("targets", '"all"'),
    ("targets", '{"groups": "desk"}'),
    ("targets", '{"groups": [], "terminals": []}'),
    ("targets", '{"groups": ["Desk"]}'),
    ("targets", '{"groups": ["../x"]}'),
    ("targets", '{"groups": ["desk"], "everyone": true}'),
    ("targets", json.dumps({"terminals": [f"t{n}" for n in range(1001)]})),
    ("targets", json.dumps({"groups": ["a" * 49]})),
    ("unknown", "1"),
    ("position_ticket", "5"),
    ("__proto__", "{}"),
]


async def test_a_wrong_field_is_named(stage: Stage, state_redis: Any) -> None:
    for name, value in FIELDS:
        message = error(await stage.ted.post("/signals", changed(name, value)), 422, Code.INVALID)
        assert name in message or "targets" in message, (name, value)
        assert len(message) < 1000, (name, value)
    assert state_redis.zcard(keys.SIGNALS) == 0


async def test_a_symbol_with_a_newline_or_zero_never_reaches_redis(stage: Stage, state_redis: Any) -> None:
    for value in ('"EURUSD\\n"', '"EURUSD\\r\\nSET x 1"'):
        error(await stage.ted.post("/signals", changed("symbol", value)), 422, Code.INVALID)
    assert state_redis.zcard(keys.SIGNALS) == 0
    assert not state_redis.keys("td:rtss:*")


@pytest.mark.parametrize(
    "close",
    [
        {},
        {"all": False},
        {"all": True, "symbol": "EURUSD"},
        {"position_ticket": 0},
        {"position_ticket": 2**64},
        {"position_ticket": 5},
        {"position_ticket": "5x"},
        {"all": True, "lots": 1},
    ],
)
async def test_closes_that_say_nothing_clear(stage: Stage, close: dict[str, Any]) -> None:
    body = {"signal_id": str(uuid4()), "action": "close", "targets": {"groups": ["desk"]}, **close}
    error(await stage.ted.post("/signals", body), 422, Code.INVALID)


async def test_a_stop_on_the_wrong_side_and_an_old_signal(stage: Stage) -> None:
    error(await stage.ted.post("/signals", an_open(stop_loss=1.2, take_profit=1.1)), 422, Code.INVALID)
    error(await stage.ted.post("/signals", an_open(ttl_ms=1000, age_ms=1000)), 422, Code.TOO_OLD)


async def test_large_bodies_are_refused(stage: Stage) -> None:
    big = json.dumps({"a": "x" * 70_000}).encode()
    for path in ("/signals", "/modes"):
        error(await stage.ted.post(path, big), 413, Code.TOO_LARGE)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"]
)
async def test_other_content_types_are_refused(stage: Stage, content_type: str) -> None:
    response = await stage.ted.client.post(
        "/api/signals", json.dumps(an_open()).encode(), content_type=content_type, headers=stage.ted.headers
    )
    error(response, 415, Code.INVALID)


QUERIES: list[tuple[str, dict[str, str]]] = [
    ("/signals", {"limit": value})
    for value in ("0", "-1", "201", "x", "1e3", "9" * 400, "", "1.5", "NaN", "\x00")
] + [
    ("/signals", {"cursor": "x"}),
    ("/signals", {"state": "filled"}),
    ("/signals", {"terminal": "London"}),
    ("/signals", {"terminal": "lo\x00ndon"}),
    ("/signals", {"unknown": "1"}),
    ("/terminals", {"limit": "1"}),
    ("/positions", {"cursor": "london"}),
    ("/positions", {"cursor": "london:" + "9" * 30}),
    ("/positions", {"limit": "0"}),
    ("/orders", {"cursor": "london:x"}),
    ("/me", {"x": ""}),
    ("/modes", {"x": ""}),
    ("/symbols", {"x": ""}),
    ("/health", {"x": ""}),
    ("/candles", {}),
    ("/candles", {"symbol": ""}),
    ("/candles", {"symbol": "EUR USD"}),
    ("/candles", {"symbol": "EURUSD", "timeframe": "7m"}),
    ("/candles", {"symbol": "EURUSD", "timeframe": "m"}),
    ("/candles", {"symbol": "EURUSD", "timeframe": "-60"}),
    ("/candles", {"symbol": "EURUSD", "timeframe": "٦٠"}),
    ("/candles", {"symbol": "EURUSD", "from": "-1"}),
    ("/candles", {"symbol": "EURUSD", "from": "9" * 20}),
    ("/candles", {"symbol": "EURUSD", "from": "10", "to": "5"}),
    ("/candles", {"symbol": "EURUSD", "limit": "0"}),
    ("/candles", {"symbol": "EURUSD", "limit": "5001"}),
    ("/candles", {"symbol": "EURUSD", "from_ms": "1"}),
    ("/candles", {"symbol": "EURUSD", "count": "1"}),
]


async def test_wrong_queries_are_refused(stage: Stage) -> None:
    for path, query in QUERIES:
        response = await stage.ted.get(path, **query)
        assert response.status_code == 422, (path, query)
        assert len(error(response, 422, Code.INVALID)) < 1000, (path, query)


async def test_the_parameter_at_fault_is_named(stage: Stage) -> None:
    for query, said in (
        ({"timeframe": "1m"}, "symbol: "),
        ({"symbol": "EURUSD", "limit": "0"}, "limit: "),
        ({"symbol": "EURUSD", "from": "x"}, "from: "),
    ):
        assert error(await stage.ted.get("/candles", **query), 422, Code.INVALID).startswith(said), query


async def test_a_signal_without_an_action_is_told_what_to_give(stage: Stage) -> None:
    for raw in (b"{}", changed("action", '"sell"')):
        message = error(await stage.ted.post("/signals", raw), 422, Code.INVALID)
        assert message == "action: give open, modify, close, cancel, close_by or protect"


async def test_a_parameter_given_twice_is_refused(stage: Stage) -> None:
    for path in ("/signals?limit=5&limit=6", "/candles?symbol=EURUSD&symbol=USDJPY"):
        response = await stage.ted.client.get(f"/api{path}", headers=stage.ted.headers)
        error(response, 422, Code.INVALID)


async def test_an_unknown_symbol_is_said(stage: Stage) -> None:
    error(await stage.ted.get("/candles", symbol="XXXYYY"), 404, Code.UNKNOWN_SYMBOL)
    assert (await stage.ted.get("/candles", symbol="EURUSD", timeframe="1s")).json()["items"] == []
    assert [item["symbol"] for item in (await stage.ted.get("/symbols")).json()["items"]] == ["EURUSD"]


@pytest.mark.parametrize(
    "body",
    [
        {"mode": "halted", "scope": "all"},
        {"mode": "HALTED"},
        {"mode": "HALTED", "scope": "some"},
        {"mode": "HALTED", "scope": "all", "targets": {"groups": ["desk"]}},
        {"mode": "HALTED", "targets": {}},
        {"mode": "HALTED", "targets": {"groups": ["desk"]}, "reason": "x" * 201},
        {"mode": "HALTED", "targets": {"groups": ["desk"]}, "force": True},
        {"scope": "all"},
        {"mode": "HALTED", "scope": "all", "reason": "a\x00b"},
        {"mode": "HALTED", "scope": "all", "reason": "a\nb"},
    ],
)
async def test_wrong_switches_are_refused(stage: Stage, body: dict[str, Any]) -> None:
    error(await stage.ann.post("/modes", body), 422, Code.INVALID)


# --- Methods and addresses ---


@pytest.mark.parametrize("path", ["/signals", "/terminals", "/health", "/candles"])
async def test_other_methods_are_refused(stage: Stage, path: str) -> None:
    for method in ("put", "patch", "delete", "trace", "options"):
        response = await getattr(stage.ted.client, method)(f"/api{path}", headers=stage.ted.headers)
        error(response, 405, Code.METHOD_NOT_ALLOWED)
        assert "GET" in response["Allow"]


async def test_unknown_addresses(stage: Stage) -> None:
    for path in (
        "/api/", "/api/nothing", "/api/signals/", "/api/signals/a/b", "/api//signals", "/api/../admin",
        "/api/%F0%9F%92%A9", "/api/signals/%ff", "/nothing",
    ):  # fmt: skip
        response = await AsyncClient().get(path, headers={"accept": "application/json", **stage.ted.headers})
        error(response, 404, Code.NOT_FOUND)


async def test_people_get_a_page_and_programs_json(stage: Stage) -> None:
    page = await AsyncClient().get("/nothing", headers={"accept": "text/html"})
    assert page.status_code == 404
    assert page["Content-Type"].startswith("text/html")
    assert b"Not Found" in page.content
    wrong_host = await AsyncClient().get("/api/health", headers={"host": "evil.example"})
    error(wrong_host, 400, Code.INVALID)


async def test_a_fault_of_ours_is_500_for_programs_and_unknown_for_accept(
    stage: Stage, state_redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    state_redis.set(keys.SIGNALS, "not a sorted set")
    stage.ted.client.raise_request_exception = False
    body = an_open()
    answer = await stage.ted.post("/signals", body)
    error(answer, 503, Code.ACCEPT_UNKNOWN)
    state_redis.delete(keys.SIGNALS)
    state_redis.hset(
        keys.signal(body["signal_id"]), mapping={"user_id": str(stage.world.ted.pk), "orders": "[broken"}
    )
    error(await stage.ted.get(f"/signals/{body['signal_id']}"), 500, Code.INTERNAL)
    assert "Traceback" in caplog.text


# --- Whatever comes ---

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from([*an_open(), "position_ticket", "all", "ttl_ms", "x"]), ANYTHING))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parse_refuses_or_takes_and_never_breaks(changes: dict[str, Any]) -> None:
    code, signal = refusal_or_result(lambda: dispatch.parse({**an_open(), **changes}))
    assert code is Code.INVALID or len(signal.digest()) == 64


@given(st.dictionaries(st.sampled_from(["mode", "scope", "targets", "reason", "x"]), ANYTHING))
@settings(max_examples=200, deadline=None)
def test_switches_refuse_or_take(body: dict[str, Any]) -> None:
    code, switch = refusal_or_result(lambda: parsed(Switch, body))
    assert code is Code.INVALID or isinstance(switch, Switch)


def refusal_or_result(act: Callable[[], Any]) -> tuple[Code | None, Any]:
    """Any other exception is a fault and goes through."""
    try:
        return None, act()
    except Refused as refused:
        return refused.code, None

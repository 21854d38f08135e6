"""The order socket through the real ASGI application and a real Valkey."""

import asyncio
import gc
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.sessions.models import Session
from django.test import Client

from executors import consumers, dispatch, tokens
from executors.configuration import access_changed
from executors.errors import Code, Refused
from executors.messages import AccountState, PositionState, TerminalUpdate
from executors.models import TerminalGrant
from tests.integration.live import (
    HOST,
    ORIGIN,
    Socket,
    a_report,
    a_signal,
    publish_report,
    publish_terminal,
)
from tradedist import keys
from tradedist.clock import now_ms

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/ws/orders/"


def an_account(terminal_id: str, equity: str = "10000") -> AccountState:
    return AccountState(
        terminal_id=terminal_id,
        login=1,
        server="Paper-Demo",
        currency="USD",
        balance=Decimal(10_000),
        equity=Decimal(equity),
        margin=Decimal(0),
        margin_free=Decimal(equity),
        margin_level=Decimal(0),
        profit=Decimal(0),
        leverage=100,
        hedging=True,
        trade_allowed=True,
        connected=True,
        time_ms=now_ms(),
    )


def a_position(terminal_id: str, profit: str) -> PositionState:
    return PositionState(
        terminal_id=terminal_id,
        position_ticket=77,
        symbol="EURUSD",
        broker_symbol="EURUSD.m",
        side="buy",
        lots=Decimal("0.10"),
        price_open=Decimal("1.1"),
        price_current=Decimal("1.1"),
        profit=Decimal(profit),
        swap=Decimal(0),
        magic=1,
        opened_ms=now_ms(),
    )


# --- Snapshot and live ---


async def test_a_snapshot_comes_on_connect(cookie: str, state_redis: Any) -> None:
    state_redis.set(keys.account("alpha"), an_account("alpha", "10012.5").model_dump_json())
    for terminal_id in ("alpha", "hidden"):
        rows = f"[{a_position(terminal_id, '12.5').model_dump_json()}]"
        state_redis.set(keys.positions(terminal_id), rows)
    async with Socket(PATH, cookie=cookie) as socket:
        snapshot = await socket.read()
    assert snapshot["type"] == "snapshot"
    assert snapshot["user"] == {"name": "trader", "role": "trader", "may_trade": True}
    shown = [(item["terminal_id"], item["can_trade"]) for item in snapshot["terminals"]]
    assert shown == [("alpha", True), ("beta", False)]
    assert snapshot["terminals"][0]["account"]["equity"] == 10012.5
    assert [(item["terminal_id"], item["profit"]) for item in snapshot["positions"]] == [("alpha", 12.5)]
    assert snapshot["orders"] == []
    assert snapshot["modes"]["global"] == "ACTIVE"


async def test_reports_of_visible_terminals_follow(cookie: str, state_redis: Any) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        publish_report(state_redis, a_report("hidden"))
        entry_id = publish_report(state_redis, a_report("alpha", lots="0.25"))
        message = await socket.read()
    assert message["type"] == "report"
    assert message["report"]["terminal_id"] == "alpha"
    assert message["report"]["lots"] == 0.25
    assert message["cursor"].split(":")[1] == entry_id


async def test_terminal_states_conflate_and_keep_their_parts(cookie: str, state_redis: Any) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        now = now_ms()
        for step in range(300):
            full = step == 298
            update = TerminalUpdate(
                terminal_id="alpha",
                status="READY",
                account=an_account("alpha", str(10_000 + step)),
                positions=[a_position("alpha", str(step))] if full else None,
                time_ms=now + step,
            )
            publish_terminal(state_redis, update)
        publish_terminal(state_redis, TerminalUpdate(terminal_id="hidden", status="READY", time_ms=now))
        messages, last = 0, 0
        profits = []
        while last < now + 299:
            update_message = (await socket.read())["update"]
            assert update_message["terminal_id"] == "alpha"
            messages, last = messages + 1, update_message["time_ms"]
            profits += [item["profit"] for item in update_message.get("positions", ())]
        assert update_message["account"]["equity"] == 10299
        assert profits == [298]  # came once, though the update after it had no positions
        assert messages < 100
        assert await socket.silent()


async def test_modes_follow(cookie: str, state_redis: Any) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        state_redis.hset(keys.MODES, mapping={"global": "REDUCING", "terminal:hidden": "HALTED"})
        state_redis.publish(keys.CONFIG_CHANGES, "*")
        message = await socket.read_until("modes")
    assert message["modes"]["global"] == "REDUCING"
    assert "hidden" not in json.dumps(message)


async def test_a_grant_taken_away_is_gone_at_once(cookie: str, trader: Any, state_redis: Any) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await TerminalGrant.objects.filter(user=trader, terminal_id="alpha").adelete()
        await sync_to_async(access_changed)()
        snapshot = await socket.read_until("snapshot")
        assert [item["terminal_id"] for item in snapshot["terminals"]] == ["beta"]
        publish_report(state_redis, a_report("alpha"))
        assert await socket.silent()


# --- Signals ---


async def test_a_signal_is_accepted_and_reported(cookie: str) -> None:
    signal = a_signal("alpha")
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await socket.send({"type": "signal", "request_id": "r1", "signal": signal})
        messages = {(message := await socket.read())["type"]: message for _ in range(2)}
        assert messages["accepted"]["request_id"] == "r1"
        assert messages["accepted"]["created"] is True
        order_id = f"{signal['signal_id']}:alpha"
        assert [order["order_id"] for order in messages["accepted"]["signal"]["orders"]] == [order_id]
        assert messages["report"]["report"]["order_id"] == order_id
        assert messages["report"]["report"]["state"] == "QUEUED"
        await socket.send({"type": "signal", "request_id": "r2", "signal": signal})
        again = await socket.read()
    assert (again["type"], again["request_id"], again["created"]) == ("accepted", "r2", False)


async def test_refusals_say_which_request_and_why(cookie: str) -> None:
    cases = [
        (a_signal("hidden"), "UNKNOWN_TERMINAL"),
        (a_signal("beta"), "FORBIDDEN"),
        (a_signal("alpha", lots=-1), "INVALID"),
        (a_signal("alpha", lots=float("inf")), "INVALID"),
        ({"signal_id": "x"}, "INVALID"),
        ({}, "INVALID"),
    ]
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        for number, (signal, code) in enumerate(cases):
            await socket.send({"type": "signal", "request_id": str(number), "signal": signal})
            answer = await socket.read()
            assert (answer["type"], answer["request_id"], answer["code"]) == ("refused", str(number), code), (
                answer
            )
            assert answer["message"]


async def test_signals_to_one_terminal_keep_their_order(cookie: str, state_redis: Any) -> None:
    signals = [a_signal("alpha") for _ in range(30)]
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        for signal in signals:
            await socket.send({"type": "signal", "signal": signal})
        accepted: list[str] = []
        while len(accepted) < len(signals):
            message = await socket.read()
            if message["type"] == "accepted":
                accepted.append(message["signal"]["signal_id"])
    sent = [signal["signal_id"] for signal in signals]
    assert accepted == sent
    assert [name.partition(":")[0] for name in state_redis.zrange(keys.outbox("alpha"), 0, -1)] == sent


async def test_repeats_before_the_answer_cost_one_look_and_are_answered_each(
    cookie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    async def counted(body: Any, *args: Any, **more: Any) -> Any:
        looks.append(body["signal_id"])
        await asyncio.sleep(0.1)
        return await dispatch.accept(body, *args, **more)

    monkeypatch.setattr("executors.consumers.accept", counted)
    signal, other = a_signal("alpha"), a_signal("alpha")
    changed = other | {"side": "sell" if other["side"] == "buy" else "buy"}
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        for number in range(3):
            repeat = signal | {"age_ms": number}
            await socket.send({"type": "signal", "request_id": f"r{number}", "signal": repeat})
        await socket.send({"type": "signal", "request_id": "first", "signal": other})
        await socket.send({"type": "signal", "request_id": "changed", "signal": changed})
        answers: dict[str, Any] = {}
        while len(answers) < 5:
            message = await socket.read()
            if message["type"] in ("accepted", "refused"):
                answers[message["request_id"]] = message
        await socket.send({"type": "signal", "request_id": "later", "signal": signal})
        later = await socket.read_until("accepted")
    assert [answers[f"r{number}"]["created"] for number in range(3)] == [True, False, False]
    assert answers["first"]["created"] is True
    assert answers["changed"]["code"] == "SIGNAL_CONFLICT"
    assert later["created"] is False
    assert looks == [signal["signal_id"], *2 * [other["signal_id"]], signal["signal_id"]]


async def test_a_signal_outlives_its_socket(cookie: str, state_redis: Any) -> None:
    signal = a_signal("alpha")
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await socket.send({"type": "signal", "signal": signal})
        await asyncio.sleep(0)  # handed over, not answered
    # Either the socket ended before anything was asked of the store, or everything of it is there.
    await asyncio.sleep(0.3)
    recorded = state_redis.exists(keys.signal(signal["signal_id"]))
    assert recorded == state_redis.exists(keys.order(f"{signal['signal_id']}:alpha"))


@pytest.mark.parametrize(
    ("fault", "said"),
    [(lambda: Refused(Code.INVALID, "no"), []), (lambda: RuntimeError("ours"), ["executors.dispatch"])],
)
async def test_a_refusal_that_nobody_waits_for_is_no_fault(
    cookie: str, monkeypatch: Any, caplog: Any, fault: Callable[[], Exception], said: list[str]
) -> None:
    """asyncio would log it with a traceback as never retrieved."""
    began, refuses = asyncio.Event(), asyncio.Event()

    async def slowly(*_: Any, **__: Any) -> Any:
        began.set()
        await refuses.wait()
        raise fault()

    monkeypatch.setattr("executors.consumers.accept", slowly)
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await socket.send({"type": "signal", "signal": a_signal("alpha")})
        async with asyncio.timeout(10):
            await began.wait()
    refuses.set()
    await consumers.finish_accepting()
    await asyncio.sleep(0.01)  # its callbacks run, and nothing refers to it any more
    gc.collect()
    assert [record.name for record in caplog.records if record.levelname == "ERROR"] == said


async def test_a_session_that_ended_places_nothing(cookie: str, state_redis: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("executors.consumers.USER_AGE_S", 0.0)
    signal = a_signal("alpha")
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await Session.objects.all().adelete()
        await socket.send({"type": "signal", "signal": signal})
        assert (await socket.read())["code"] == "NOT_SIGNED_IN"
        assert await socket.closed() == 4401
    assert not state_redis.exists(keys.signal(signal["signal_id"]))


async def test_signing_out_ends_the_sockets(trader: Any, state_redis: Any) -> None:
    browser = Client()
    await sync_to_async(browser.force_login)(trader)
    async with Socket(PATH, cookie=f"sessionid={browser.cookies['sessionid'].value}") as socket:
        await socket.read_until("snapshot")
        await sync_to_async(browser.post)("/logout/", HTTP_HOST="testserver")
        assert await socket.closed() == 4401


async def test_an_expired_session_places_nothing(trader: Any, state_redis: Any) -> None:
    def sign_in() -> str:
        browser = Client()
        browser.force_login(trader)
        session = browser.session
        session.set_expiry(4)
        session.save()
        return f"sessionid={session.session_key}"

    async with Socket(PATH, cookie=await sync_to_async(sign_in)()) as socket:
        await socket.read_until("snapshot")
        await asyncio.sleep(4.1)
        await socket.send({"type": "signal", "signal": a_signal("alpha")})
        assert (await socket.read_until("error"))["code"] == "NOT_SIGNED_IN"
        assert await socket.closed() == 4401


# --- Who may connect ---


async def test_who_is_not_signed_in_is_told_and_closed(trader: Any) -> None:
    async with Socket(PATH) as socket:
        message = await socket.read()
        assert (message["type"], message["code"]) == ("error", "NOT_SIGNED_IN")
        assert await socket.closed() == 4401


@pytest.mark.parametrize(
    "origin",
    [
        b"http://evil.example",
        b"http://testserver:9999",
        b"http://testserver",
        b"null",
        b"file://",
        b"http://[",
        b"",
    ],
)
async def test_other_sites_are_refused(cookie: str, origin: bytes) -> None:
    headers = {b"host": HOST, b"origin": origin, b"cookie": cookie.encode()}
    assert await Socket(PATH, headers=headers).refused()


async def test_a_cookie_without_an_origin_is_refused(cookie: str) -> None:
    assert await Socket(PATH, headers={b"host": HOST, b"cookie": cookie.encode()}).refused()


async def test_a_program_comes_with_a_token(trader: Any) -> None:
    token, _ = await sync_to_async(tokens.create)(trader, "script", actor=trader)
    bearer = {b"host": HOST, b"authorization": f"Bearer {token}".encode()}
    async with Socket(PATH, headers=bearer) as socket:
        assert (await socket.read())["type"] == "snapshot"
    async with Socket(PATH, headers={**bearer, b"authorization": b"Bearer td_wrong"}) as socket:
        assert (await socket.read())["code"] == "NOT_SIGNED_IN"
        assert await socket.closed() == 4401


async def test_an_unknown_path_is_refused(cookie: str) -> None:
    assert await Socket("/ws/nothing/", cookie=cookie).refused()


async def test_sockets_of_one_user_are_counted(cookie: str, settings: Any) -> None:
    settings.SOCKETS_PER_USER = 2
    async with Socket(PATH, cookie=cookie) as first, Socket(PATH, cookie=cookie) as second:
        await first.read()
        await second.read()
        async with Socket(PATH, cookie=cookie) as third:
            assert (await third.read())["code"] == "RATE_LIMITED"
            assert await third.closed() == 4429
    async with Socket(PATH, cookie=cookie) as fourth:
        assert (await fourth.read())["type"] == "snapshot"


# --- Garbage ---


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "NOT_JSON"),
        ("hello", "NOT_JSON"),
        ("[" * 30_000, "NOT_JSON"),
        ('{"type":"signal","signal":' + '{"a":' * 10_000 + "1" + "}" * 10_001, "NOT_JSON"),
        ("null", "INVALID"),
        ("[]", "INVALID"),
        ("{}", "UNKNOWN_TYPE"),
        ('{"type":"nonsense"}', "UNKNOWN_TYPE"),
        ('{"type":7}', "UNKNOWN_TYPE"),
        ('{"type":"ping","extra":1}', "INVALID"),
        ('{"type":"ping","at":"soon"}', "INVALID"),
        ('{"type":"ping","at":NaN}', "INVALID"),
        ('{"type":"signal"}', "INVALID"),
        ('{"type":"signal","signal":"x"}', "INVALID"),
        ('{"type":"ping","at":1' + " " * 70_000 + "}", "TOO_LARGE"),
    ],
)
async def test_garbage_is_answered_and_survived(cookie: str, text: str, code: str) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await socket.send(text)
        answer = await socket.read()
        assert (answer["type"], answer["code"]) == ("error", code), answer
        assert len(answer["message"]) > 10
        await socket.send({"type": "ping", "at": 12.5})
        assert (await socket.read())["at"] == 12.5


async def test_binary_is_answered_and_survived(cookie: str) -> None:
    async with Socket(PATH, cookie=cookie) as socket:
        await socket.read_until("snapshot")
        await socket.communicator.send_to(bytes_data=b"\x00\xff")
        assert (await socket.read())["code"] == "NOT_JSON"
        await socket.send({"type": "ping"})
        assert (await socket.read())["type"] == "pong"


def test_the_origin_of_the_tests_is_the_host() -> None:
    assert ORIGIN == b"http://" + HOST

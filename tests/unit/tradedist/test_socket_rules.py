"""What the sockets decide without a connection: origins, faulty messages, compression, cursors."""

from typing import Any

import pytest
from autobahn.websocket import compress
from pydantic import ValidationError

from executors.consumers import named_terminals
from executors.errors import Code
from executors.live import LiveTerminal, parse_cursor
from executors.messages import CLIENT_MESSAGE, TerminalUpdate
from tradedist.hub import Event, entry_order
from tradedist.server import accept_deflate
from tradedist.socket_auth import allowed_origin
from tradedist.sockets import explain


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("http://LOCALHOST:8000", "localhost:8000", True),
        ("http://127.0.0.1:8000", "localhost:8000", True),  # both are this site
        ("http://[::1]:8000", "[::1]:8000", True),
        ("https://trade.example", "trade.example", True),
        ("http://trade.example", "trade.example", True),
        ("https://trade.example:443", "trade.example", True),
        ("https://other.example:8443", "trade.example", True),  # trusted by name
        ("http://localhost:9000", "localhost:8000", False),  # another program on this machine
        ("https://evil.example", "trade.example", False),
        ("https://trade.example.evil.example", "trade.example", False),
        ("https://trade.example", "evil.example", False),
        ("https://trade.example@evil.example", "trade.example", False),
        ("ws://trade.example", "trade.example", False),
        ("null", "trade.example", False),
        ("", "trade.example", False),
        ("https://", "trade.example", False),
        ("https://trade.example:port", "trade.example", False),
        ("https://trade.example", "", False),
    ],
)
def test_only_this_site_may_open_sockets(origin: str, host: str, allowed: bool, settings: object) -> None:
    vars_ = {
        "ALLOWED_HOSTS": ["localhost", "127.0.0.1", "[::1]", "trade.example"],
        "CSRF_TRUSTED_ORIGINS": ["https://other.example:8443"],
        "SECURE": False,
    }
    for name, value in vars_.items():
        setattr(settings, name, value)
    assert allowed_origin(origin, host) is allowed


def test_over_tls_only_https_pages_may(settings: object) -> None:
    for name, value in {"ALLOWED_HOSTS": ["trade.example"], "SECURE": True}.items():
        setattr(settings, name, value)
    assert allowed_origin("https://trade.example", "trade.example")
    assert not allowed_origin("http://trade.example", "trade.example")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", Code.NOT_JSON, "JSON"),
        ("{}", Code.UNKNOWN_TYPE, "type"),
        ('{"type":"x"}', Code.UNKNOWN_TYPE, "'signal', 'resume', 'ping'"),
        ('{"type":"resume","cursor":5}', Code.INVALID, "cursor: "),
        ('{"type":"signal","request_id":"' + "x" * 65 + '","signal":{}}', Code.INVALID, "request_id: "),
        ("3", Code.INVALID, "object"),
    ],
)
def test_faults_are_explained(text: str, code: Code, words: str) -> None:
    with pytest.raises(ValidationError) as fault:
        CLIENT_MESSAGE.validate_json(text)
    found, sentence = explain(fault.value)
    assert found is code
    assert words in sentence
    assert "pydantic" not in sentence


untyped: Any = compress


def offer(**parameters: list[object]) -> Any:
    return untyped.PerMessageDeflateOffer.parse(parameters)


def test_compression_is_accepted_with_small_windows() -> None:
    accepted: Any = accept_deflate([offer(client_max_window_bits=[True])])
    assert accepted is not None
    assert accepted.get_extension_string() == "permessage-deflate; client_max_window_bits=12"
    assert untyped.PerMessageDeflate.create_from_offer_accept(True, accepted).server_max_window_bits == 12
    plain: Any = accept_deflate([offer()])
    assert plain is not None
    assert plain.get_extension_string() == "permessage-deflate"
    smaller = accept_deflate([offer(server_max_window_bits=["10"])])
    assert smaller is not None
    assert smaller.window_bits == 10


def test_without_an_offer_there_is_no_compression() -> None:
    assert accept_deflate([]) is None
    assert accept_deflate(["something else"]) is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "x",
        "0123456789abcdef",
        "0123456789abcdef:",
        "0123456789ABCDEF:1-1",
        "0123456789abcdef:1-1:",
        "0123456789abcdef:1-1:1",
    ],
)
def test_what_is_no_cursor_is_none(text: str | None) -> None:
    assert parse_cursor(text) is None


def test_a_cursor_names_stream_and_entry() -> None:
    assert parse_cursor("0123456789abcdef:1700000000000-12") == ("0123456789abcdef", "1700000000000-12", "")
    assert parse_cursor("0123456789abcdef:1-2:89abcdef") == ("0123456789abcdef", "1-2", "89abcdef")
    assert entry_order("2-10") > entry_order("2-9") > entry_order("1-99") > entry_order("0-0")


def test_an_event_is_decoded_once() -> None:
    calls: list[str] = []

    def decode(event: Event) -> int:
        calls.append(event.text)
        return len(event.text)

    event = Event("topic", "four")
    assert [event.once(decode), event.once(decode)] == [4, 4]
    assert calls == ["four"]


def test_terminal_updates_keep_unsent_parts() -> None:
    def update(**fields: object) -> LiveTerminal:
        return LiveTerminal(TerminalUpdate.model_validate({"terminal_id": "a", "time_ms": 1, **fields}))

    first = update(status="READY", positions=[], latency_us=5, last_error="old")
    merged = first.merge(update(status="HALTED", latency_us=9, time_ms=2)).update
    assert (merged.status, merged.time_ms, merged.last_error) == ("HALTED", 2, "")
    assert merged.positions == []
    assert merged.latency_us == 9
    assert first.update.status == "READY"  # shared with other sockets: unchanged
    assert '"positions":[]' in first.body


@pytest.mark.parametrize(
    ("signal", "names"),
    [
        ({"targets": {"terminals": ["a", "b"]}}, {"a", "b"}),
        ({"targets": {"terminals": ["a"], "groups": []}}, {"a"}),
        ({"targets": {"terminals": ["a"], "groups": ["g"]}}, None),
        ({"targets": {"groups": ["g"]}}, None),
        ({"targets": {"terminals": [1]}}, None),
        ({"targets": {"terminals": "a"}}, None),
        ({"targets": ["a"]}, None),
        ({}, None),
    ],
)
def test_which_terminals_a_signal_may_touch(signal: dict[str, object], names: set[str] | None) -> None:
    assert named_terminals(signal) == names

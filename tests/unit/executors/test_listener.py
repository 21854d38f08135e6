"""The executor's ear over real sockets: authentic legs by datagram and frame, nothing else, and no answer."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from executors.listener import CONNECTIONS, RECENT, Listener
from executors.messages import Leg
from executors.wakeup import Wakeup
from tests.simulated import make_leg, make_open
from tradedist.wire import DATAGRAM_MAX, FRAME_MAX, Frame, Keyring, Kind, packed, seal

KEYS = Keyring({0: "the test's wire key"})


class Ear:
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.listener = Listener("sim-1", KEYS, lambda leg, path: self.heard.append((leg.order_id, path)))
        self._thread = threading.Thread(target=self._listen)
        self._ended = threading.Event()
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            self.listener.listen(60, self._ended.is_set)
        self.listener.close()

    def close(self) -> None:
        """Only the wake ends it in time."""
        self._ended.set()
        self.listener.wake()
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listener.address.rpartition(":")
        return host, int(port)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not done():
            assert time.monotonic() < end, "it does not come to that"
            time.sleep(0.002)


@pytest.fixture
def ear() -> Iterator[Ear]:
    made = Ear()
    yield made
    made.close()


def sealed(leg: Leg, *, keyring: Keyring = KEYS, kind: Kind = Kind.LEG, sender: str = "sim-1") -> bytes:
    frame = Frame(kind, sender, 1, leg.epoch, leg.leg_seq, leg.deadline_ms, leg.model_dump_json().encode())
    return seal(frame, keyring, FRAME_MAX)


def datagram(ear: Ear, raw: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(raw, ear.address)


LEG = make_leg(make_open(1), 1)


def test_a_leg_is_heard_by_datagram_and_by_frame(ear: Ear) -> None:
    sender = Wakeup(KEYS, boot_id=1)
    assert sender.send([(LEG, LEG.model_dump_json())], {"sim-1": ear.listener.address}) == 1
    ear.until(lambda: len(ear.heard) == 2)
    assert sorted(ear.heard) == [(LEG.order_id, "tcp"), (LEG.order_id, "udp")]
    sender.close()


def test_a_leg_too_large_for_a_datagram_comes_by_frame_alone(ear: Ear) -> None:
    terminals = [f"terminal-with-a-long-name-{number:03}" for number in range(60)]
    large = make_leg(make_open(1, targets={"terminals": ["sim-1", *terminals]}), 1)
    assert len(sealed(large)) > DATAGRAM_MAX
    sender = Wakeup(KEYS, boot_id=1)
    sender.send([(large, large.model_dump_json())], {"sim-1": ear.listener.address})
    ear.until(lambda: bool(ear.heard))
    time.sleep(0.05)
    assert ear.heard == [(large.order_id, "tcp")]
    sender.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        b"\x00" * 200,
        sealed(LEG)[:-1],
        sealed(LEG)[:-1] + bytes([sealed(LEG)[-1] ^ 1]),
        sealed(LEG, keyring=Keyring({0: "another key"})),
        sealed(LEG, keyring=Keyring({3: "the test's wire key"}, current=3)),
        sealed(LEG, kind=Kind.TICKS),
        sealed(LEG, sender="sim-2"),
        seal(Frame(Kind.LEG, "sim-1", 1, 1, 1, 1, b'{"signal": "of another version"}'), KEYS),
    ],
    ids=["empty", "short", "zeros", "cut", "changed", "key", "key id", "ticks", "other terminal", "no leg"],
)
def test_what_is_not_an_authentic_leg_of_this_terminal_is_dropped_without_an_answer(
    ear: Ear, raw: bytes
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        sender.settimeout(0.05)
        sender.sendto(raw, ear.address)
        ear.until(lambda: ear.listener.refused == 1)
        with pytest.raises(TimeoutError):
            sender.recv(100)
    datagram(ear, sealed(LEG))
    ear.until(lambda: ear.heard == [(LEG.order_id, "udp")])


def test_a_stream_of_nonsense_is_closed_and_the_listener_lives_on(ear: Ear) -> None:
    with socket.create_connection(ear.address) as sender:
        sender.sendall(b"\xff" * 100)
        sender.settimeout(60)
        assert sender.recv(1) == b""
    datagram(ear, sealed(LEG))
    ear.until(lambda: bool(ear.heard))


def test_frames_may_come_in_pieces_and_together(ear: Ear) -> None:
    legs = [make_leg(make_open(number), number) for number in (1, 2, 3)]
    stream = b"".join(packed(sealed(leg)) for leg in legs)
    with socket.create_connection(ear.address) as sender:
        for start in range(0, len(stream), 97):
            sender.sendall(stream[start : start + 97])
        ear.until(lambda: len(ear.heard) == 3)
    assert ear.heard == [(leg.order_id, "tcp") for leg in legs]


def test_strangers_cannot_keep_senders_out(ear: Ear) -> None:
    strangers = [socket.create_connection(ear.address) for _ in range(CONNECTIONS + 5)]
    with socket.create_connection(ear.address) as sender:
        sender.sendall(packed(sealed(LEG)))
        ear.until(lambda: ear.heard == [(LEG.order_id, "tcp")])
    for stranger in strangers:
        stranger.close()


def test_a_connection_that_has_brought_a_leg_stays(ear: Ear) -> None:
    with socket.create_connection(ear.address) as sender:
        sender.sendall(packed(sealed(LEG)))
        ear.until(lambda: len(ear.heard) == 1)
        strangers = [socket.create_connection(ear.address) for _ in range(CONNECTIONS + 5)]
        sender.sendall(packed(sealed(make_leg(make_open(2), 2))))
        ear.until(lambda: len(ear.heard) == 2)
        for stranger in strangers:
            stranger.close()


def test_two_listeners_never_share_a_port() -> None:
    first, second = Ear(), Ear()
    assert first.address[1] != second.address[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief, pytest.raises(OSError, match="in use"):
        thief.bind(first.address)
    for ear in (first, second):
        ear.close()


def test_the_copy_of_a_leg_that_was_taken_is_left_unread() -> None:
    heard: list[str] = []

    def submit(leg: Leg, path: str) -> bool:
        heard.append(path)
        return leg.leg_seq != 2  # of which the inbox had no room

    listener = Listener("sim-1", KEYS, submit)
    taken, refused = sealed(LEG), sealed(make_leg(make_open(2), 2))
    assert [listener._take(taken, "udp"), listener._take(taken, "tcp")] == [True, True]
    assert heard == ["udp"]
    assert listener._take(sealed(LEG.model_copy(update={"deadline_ms": LEG.deadline_ms + 1})), "tcp")
    assert heard == ["udp", "tcp"], "another frame of the same leg is read"
    listener._take(refused, "udp")
    listener._take(refused, "tcp")
    assert heard == ["udp", "tcp", "udp", "tcp"], "what was not taken is offered again"
    forged = taken[:-1] + bytes([taken[-1] ^ 1])
    assert not listener._take(forged, "udp")
    assert listener.refused == 1
    for number in range(3, 3 + RECENT):
        listener._take(sealed(make_leg(make_open(number), number)), "udp")
    assert len(listener._recent) == RECENT
    listener.close()


def test_what_was_put_before_is_not_waited_for_and_a_wake_without_a_wait_leaves_nothing_behind() -> None:
    listener = Listener("sim-1", KEYS, lambda leg, path: True)
    listener.wake()
    began = time.monotonic()
    listener.listen(60, lambda: True)
    assert time.monotonic() - began < 30
    listener.listen(0.01, lambda: False)
    assert time.monotonic() - began >= 0.01, "the wake before it was for nobody"
    listener.close()

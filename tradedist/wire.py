"""Pure: the authenticated frames of the fast path, for ticks (executor → feed) and orders (web → executor).

Precedes: charts.feed and the executor, which act on what `open_frame` returns. Follows: executors.ticker and dispatch,
which `seal`. A frame is the same by UDP (at most 1,200 bytes) and by TCP (there preceded by its length):

    version | kind | key_id | length of sender | sender | boot_id | epoch | seq | time_ms | payload | HMAC-SHA256

`sender` is a terminal_id. `boot_id` is the sender's start, later ones greater; `seq` counts from 1 in a boot (a leg's
number for orders); `time_ms` is when it was sent (the deadline for orders). Nothing is parsed, and nothing answered,
before the HMAC is verified. Keys are derived from WIRE_KEY per terminal (HKDF-SHA256).
"""

import hmac
import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import NamedTuple

VERSION = 1
DATAGRAM_MAX = 1200  # fits every path's MTU without fragments
FRAME_MAX = 65_536  # over TCP
SENDER_MAX = 64
WINDOW_BITS = 1024
MAC_SIZE = 32

_HEAD = struct.Struct(">BBBB")
_BODY = struct.Struct(">QIQq")
_LENGTH = struct.Struct(">I")
_MIN_SIZE = _HEAD.size + 1 + _BODY.size + MAC_SIZE
_KEYS_KEPT = 1024


class WireError(Exception):
    """Bytes that are not a frame of ours. The one error of this module; the sender gets no answer."""


class Kind(IntEnum):
    """What the payload is. Part of what is authenticated, so that a tick frame can't be replayed as an order."""

    TICKS = 1  # executor → feed, numbered
    SYMBOLS = 2  # executor → feed, numbered
    HELLO = 3  # executor → feed, first frame on TCP
    ACK = 4  # feed → executor: up to where the feed has the sender's frames
    LEG = 16  # web → executor: an order


class Frame(NamedTuple):
    kind: Kind
    sender: str
    boot_id: int
    epoch: int
    seq: int
    time_ms: int
    payload: bytes
    key_id: int = 0


class Keyring:
    """The keys by id, so that WIRE_KEY can be exchanged while both are known. `current` is used for sealing."""

    def __init__(self, masters: Mapping[int, str], current: int = 0) -> None:
        if current not in masters or not all(0 <= key_id <= 255 for key_id in masters):
            raise ValueError("the current key must be one of the keys, and ids must be from 0 to 255")
        self.current = current
        self._extracted = {
            key_id: hmac.digest(b"tradedist.wire", master.encode(), "sha256")
            for key_id, master in masters.items()
        }
        self._derived: dict[tuple[int, bytes], bytes] = {}

    def derive(self, key_id: int, sender: bytes) -> bytes | None:
        """The sender's key, or None when there is no such key id."""
        known = self._derived.get((key_id, sender))
        if known is not None:
            return known
        extracted = self._extracted.get(key_id)
        if extracted is None:
            return None
        return hmac.digest(extracted, b"frame." + sender + b"\x01", "sha256")

    def keep(self, key_id: int, sender: bytes, key: bytes) -> None:
        """Remember a key that has verified a frame; forged senders never get here."""
        if len(self._derived) < _KEYS_KEPT:
            self._derived[(key_id, sender)] = key


def seal(frame: Frame, keyring: Keyring, limit: int = DATAGRAM_MAX) -> bytes:
    """The frame's bytes, under the keyring's current key. Raises WireError when it is larger than `limit`."""
    sender = frame.sender.encode("ascii", "strict") if frame.sender.isascii() else b""
    if not 0 < len(sender) <= SENDER_MAX:
        raise WireError(f"a sender has 1 to {SENDER_MAX} ASCII characters, not {frame.sender!r}")
    key = keyring.derive(keyring.current, sender)
    if key is None:
        raise WireError(f"there is no key {keyring.current}")
    try:
        head = _HEAD.pack(VERSION, frame.kind, keyring.current, len(sender))
        body = _BODY.pack(frame.boot_id, frame.epoch, frame.seq, frame.time_ms)
    except struct.error as error:
        raise WireError(f"a number does not fit its field: {error}") from None
    signed = b"".join((head, sender, body, frame.payload))
    if len(signed) + MAC_SIZE > limit:
        raise WireError(f"the frame has {len(signed) + MAC_SIZE} bytes; {limit} are the limit")
    keyring.keep(keyring.current, sender, key)
    return signed + hmac.digest(key, signed, "sha256")


def open_frame(raw: bytes, keyring: Keyring) -> Frame:
    """The verified frame. Raises WireError, and only that, for any other bytes."""
    size = len(raw)
    if not _MIN_SIZE <= size <= FRAME_MAX:
        raise WireError("wrong size")
    version, kind, key_id, sender_size = raw[0], raw[1], raw[2], raw[3]
    body_at = _HEAD.size + sender_size
    payload_at = body_at + _BODY.size
    if version != VERSION or not 0 < sender_size <= SENDER_MAX or payload_at > size - MAC_SIZE:
        raise WireError("not a frame of this version")
    sender = raw[_HEAD.size : body_at]
    key = keyring.derive(key_id, sender)
    if key is None or not hmac.compare_digest(hmac.digest(key, raw[:-MAC_SIZE], "sha256"), raw[-MAC_SIZE:]):
        raise WireError("not authentic")
    keyring.keep(key_id, sender, key)
    known = _KINDS.get(kind)
    if known is None or not sender.isascii():
        raise WireError("authentic, but of a kind or sender that this version does not know")
    boot_id, epoch, seq, time_ms = _BODY.unpack_from(raw, body_at)
    return Frame(
        known, sender.decode("ascii"), boot_id, epoch, seq, time_ms, raw[payload_at:-MAC_SIZE], key_id
    )


_KINDS = {kind.value: kind for kind in Kind}


def packed(sealed: bytes) -> bytes:
    """A sealed frame as it goes over TCP."""
    return _LENGTH.pack(len(sealed)) + sealed


class StreamDecoder:
    """Cuts a TCP stream into frames. Holds at most one frame's bytes beyond what was just received."""

    def __init__(self, limit: int = FRAME_MAX) -> None:
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[bytes]:
        """The complete frames so far. Raises WireError at a length beyond the limit: close the connection."""
        self._buffer += received
        at = 0
        try:
            while len(self._buffer) - at >= _LENGTH.size:
                (size,) = _LENGTH.unpack_from(self._buffer, at)
                if not _MIN_SIZE <= size <= self._limit:
                    raise WireError(f"a frame of {size} bytes; {self._limit} are the limit")
                end = at + _LENGTH.size + size
                if len(self._buffer) < end:
                    break
                raw = bytes(self._buffer[at + _LENGTH.size : end])
                at = end
                yield raw
        finally:
            del self._buffer[:at]


class ReplayWindow:
    """Which of a sender's last 1,024 numbers were seen. Older ones count as seen."""

    __slots__ = ("high", "mask")

    def __init__(self, high: int = 0, mask: int = 0) -> None:
        self.high = high
        self.mask = mask  # bit n: number high - n was seen

    def accept(self, seq: int) -> bool:
        """True, once, for each number that is new and not older than the window."""
        ahead = seq - self.high
        if ahead > 0:
            self.mask = ((self.mask << ahead) | 1) & _WINDOW_MASK if ahead < WINDOW_BITS else 1
            self.high = seq
            return True
        if -ahead >= WINDOW_BITS or seq <= 0:
            return False
        bit = 1 << -ahead
        if self.mask & bit:
            return False
        self.mask |= bit
        return True


_WINDOW_MASK = (1 << WINDOW_BITS) - 1

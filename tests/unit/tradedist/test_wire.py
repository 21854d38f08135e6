"""Frames are opened only when every bit is the sender's, and anything else gives the one error."""

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tradedist.wire import (
    DATAGRAM_MAX,
    FRAME_MAX,
    WINDOW_BITS,
    Frame,
    Keyring,
    Kind,
    ReplayWindow,
    StreamDecoder,
    WireError,
    open_frame,
    packed,
    seal,
)

KEYS = Keyring({0: "a secret", 1: "another"})
FRAME = Frame(Kind.TICKS, "demo-1", 7, 0, 1, 1_700_000_000_000, b'{"t":[]}')

frames = st.builds(
    Frame,
    kind=st.sampled_from(Kind),
    sender=st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=64),
    boot_id=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
    seq=st.integers(0, 2**64 - 1),
    time_ms=st.integers(-(2**63), 2**63 - 1),
    payload=st.binary(max_size=1000),
    key_id=st.just(0),
)


@given(frames)
def test_what_was_sealed_opens(frame: Frame) -> None:
    assert open_frame(seal(frame, KEYS), KEYS) == frame


@settings(max_examples=500)
@given(st.binary(max_size=300))
@example(b"")
@example(bytes(FRAME_MAX + 1))
@example(bytes(64))
@example(b"\x01\x01\x00\x40" + bytes(60))
def test_random_bytes_give_the_one_error(raw: bytes) -> None:
    with pytest.raises(WireError):
        open_frame(raw, KEYS)


def test_every_single_flipped_bit_is_noticed() -> None:
    sealed = seal(FRAME, KEYS)
    for place in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[place // 8] ^= 1 << place % 8
        with pytest.raises(WireError):
            open_frame(bytes(broken), KEYS)


@given(frames, st.data())
def test_cut_and_lengthened_frames_are_noticed(frame: Frame, data: st.DataObject) -> None:
    sealed = seal(frame, KEYS)
    cut = data.draw(st.integers(0, len(sealed) - 1))
    for broken in (sealed[:cut], sealed[cut + 1 :], sealed + b"\0", b"\0" + sealed):
        with pytest.raises(WireError):
            open_frame(broken, KEYS)


def test_each_sender_has_a_key_of_its_own() -> None:
    sealed = seal(FRAME, KEYS)
    other = sealed.replace(b"demo-1", b"demo-2")
    with pytest.raises(WireError):
        open_frame(other, KEYS)


def test_a_key_is_exchanged_while_both_are_known() -> None:
    old, new = Keyring({0: "old"}), Keyring({1: "new"}, current=1)
    both = Keyring({0: "old", 1: "new"}, current=1)
    assert open_frame(seal(FRAME, old), both).key_id == 0
    assert open_frame(seal(FRAME, both), new).key_id == 1
    with pytest.raises(WireError):
        open_frame(seal(FRAME, old), new)


def test_refuses_to_seal_what_does_not_fit() -> None:
    for frame in (
        FRAME._replace(payload=bytes(DATAGRAM_MAX)),
        FRAME._replace(sender=""),
        FRAME._replace(sender="é"),
        FRAME._replace(sender="x" * 65),
        FRAME._replace(seq=-1),
        FRAME._replace(epoch=2**32),
    ):
        with pytest.raises(WireError):
            seal(frame, KEYS)
    assert len(seal(FRAME._replace(payload=bytes(DATAGRAM_MAX)), KEYS, FRAME_MAX)) > DATAGRAM_MAX


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 400), max_size=40))
def test_a_stream_gives_the_frames_however_it_is_cut(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(packed(seal(frame, KEYS)) for frame in sent)
    decoder = StreamDecoder()
    received = []
    for cut in [*cuts, len(stream)]:
        received += [open_frame(raw, KEYS) for raw in decoder.feed(stream[:cut])]
        stream = stream[cut:]
    assert received == sent


@pytest.mark.parametrize("length", [0, 1, 50, FRAME_MAX + 1, 2**32 - 1])
def test_a_stream_with_an_impossible_length_is_refused_at_once(length: int) -> None:
    with pytest.raises(WireError):
        list(StreamDecoder().feed(struct.pack(">I", length)))


@given(st.binary(max_size=5000))
def test_a_stream_of_random_bytes_gives_frames_to_refuse_or_the_one_error(raw: bytes) -> None:
    try:
        cut = list(StreamDecoder().feed(raw))
    except WireError:
        return
    for one in cut:
        with pytest.raises(WireError):
            open_frame(one, KEYS)


@given(st.lists(st.integers(-5, 4 * WINDOW_BITS), max_size=300))
def test_the_window_takes_each_number_once(numbers: list[int]) -> None:
    window, taken, high = ReplayWindow(), set(), 0
    for number in numbers:
        fresh = number > 0 and number not in taken and number > high - WINDOW_BITS
        assert window.accept(number) == fresh
        if fresh:
            taken.add(number)
            high = max(high, number)
    assert window.mask < 1 << WINDOW_BITS


def test_the_current_key_must_be_known() -> None:
    with pytest.raises(ValueError, match="current key"):
        Keyring({0: "x"}, current=1)

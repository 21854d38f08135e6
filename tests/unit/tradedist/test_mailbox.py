"""The mailbox of a socket: events in full and bounded, states as the latest value only."""

from typing import Self

from hypothesis import given
from hypothesis import strategies as st

from tradedist.mailbox import TRY_AGAIN_LATER, Item, Mailbox, Pace, Stamp


class Newest:
    """A state whose merge shows what it was made from."""

    stamp: Stamp | None = None

    def __init__(self, *parts: int) -> None:
        self.parts = parts

    @property
    def body(self) -> str:
        return str(self.parts)

    def merge(self, newer: Self) -> "Newest":
        return Newest(*self.parts, *newer.parts)


def events(box: Mailbox) -> list[str]:
    taken = []
    while (item := box.take_event()) is not None:
        taken.append(item.body)
    return taken


def test_events_keep_their_order() -> None:
    box = Mailbox()
    for number in range(5):
        box.put(Item(str(number)))
    assert events(box) == ["0", "1", "2", "3", "4"]
    assert not box.has_events


def test_states_merge_under_their_key() -> None:
    box = Mailbox()
    for key, number in (("a", 1), ("b", 2), ("a", 3)):
        box.put_latest(key, Newest(number))
    assert [value.body for value in box.take_latest()] == ["(1, 3)", "(2,)"]
    assert box.take_latest() == []


def test_what_is_forgotten_is_not_sent() -> None:
    box = Mailbox()
    box.put_latest("a", Newest(1))
    box.forget("a")
    box.forget("never there")
    assert not box.has_latest


def test_live_events_wait_behind_a_catch_up() -> None:
    box = Mailbox()
    box.hold()
    box.put(Item("live 1"))
    box.put_latest("state", Newest(1))
    box.put_ahead(Item("snapshot"))
    assert events(box) == ["snapshot"]
    assert box.take_latest() == []
    box.put(Item("live 2"))
    box.hold()  # a second hold changes nothing
    box.put(Item("live 3"))
    box.release()
    assert events(box) == ["live 1", "live 2", "live 3"]
    assert [value.body for value in box.take_latest()] == ["(1,)"]


def test_too_many_events_close_the_box() -> None:
    box = Mailbox(max_events=3)
    for number in range(5):
        box.put(Item(str(number)))
    assert box.overflowed
    assert box.closing is not None
    assert box.closing[0] == TRY_AGAIN_LATER
    assert events(box) == ["0", "1", "2"]


def test_held_events_are_bounded_too() -> None:
    box = Mailbox(max_events=3)
    box.hold()
    for number in range(5):
        box.put(Item(str(number)))
    assert box.overflowed


def test_answers_are_bounded_too() -> None:
    box = Mailbox(max_bytes=100)
    for _ in range(5):
        box.put_ahead(Item("x" * 60))
    assert box.overflowed


def test_one_large_message_fits_and_nothing_on_top_of_it() -> None:
    box = Mailbox(max_bytes=100)
    box.put(Item("x" * 1_000))
    assert not box.overflowed
    box.put(Item("y"))
    assert box.overflowed


def test_taking_makes_room() -> None:
    box = Mailbox(max_bytes=100)
    for _ in range(100):
        box.put(Item("x" * 90))
        box.put(Item("x" * 10))
        assert len(events(box)) == 2
    assert not box.overflowed


def test_a_closed_box_takes_nothing_and_the_first_reason_stands() -> None:
    box = Mailbox()
    box.put(Item("last words"))
    box.close(4401, "first")
    box.close(1013, "second")
    box.put(Item("too late"))
    box.put_ahead(Item("too late"))
    box.put_latest("a", Newest(1))
    assert box.closing == (4401, "first")
    assert events(box) == ["last words"]
    assert not box.has_latest
    assert not box.overflowed


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "take", "hold", "release"]), st.integers(0, 200)), max_size=200
    )
)
def test_nothing_is_lost_doubled_or_reordered(steps: list[tuple[str, int]]) -> None:
    box = Mailbox(max_events=50, max_bytes=2_000)
    put: list[str] = []
    taken: list[str] = []
    for number, (step, size) in enumerate(steps):
        if step == "put" and box.closing is None:
            body = f"{number}:" + "x" * size
            box.put(Item(body))
            if box.closing is None:
                put.append(body)
        elif step == "take":
            taken += events(box)
        elif step == "hold":
            box.hold()
        elif step == "release":
            box.release()
    box.release()
    taken += events(box)
    assert taken == put


def test_the_pace_slows_under_load_and_recovers() -> None:
    pace = Pace()
    assert pace.interval_s(10.0) == Pace.NORMAL_S
    pace.late(0.001, 10.0)
    assert pace.interval_s(10.0) == Pace.NORMAL_S
    pace.late(0.1, 10.0)
    assert pace.interval_s(10.5) == Pace.LOADED_S
    assert pace.interval_s(11.5) == Pace.NORMAL_S

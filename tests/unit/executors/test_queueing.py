"""The order of legs: by number, gaps filled, closes ahead of opens of other symbols."""

from typing import Any

from executors.messages import Leg
from executors.queueing import LegQueue, covers
from tests.simulated import START_MS, make, make_close, make_leg, make_open


def opens(number: int, symbol: str = "EURUSD", *, seq: int | None = None, ttl_ms: int = 60_000) -> Leg:
    return make_leg(make_open(number, symbol), seq or number, ttl_ms=ttl_ms)


def closes(number: int, symbol: str | None = None, *, ticket: int | None = None) -> Leg:
    return make_leg(make_close(number, symbol=symbol, ticket=ticket), number)


def run(queue: LegQueue) -> list[int]:
    order = []
    while (taken := queue.take()) is not None:
        order.append(taken[0].leg_seq)
    return order


def filled(*legs: Leg) -> LegQueue:
    queue = LegQueue(next_seq=1)
    for leg in legs:
        queue.put(leg, "udp")
    return queue


def test_legs_run_by_number_however_they_arrive() -> None:
    assert run(filled(opens(3), opens(1), opens(2))) == [1, 2, 3]


def test_a_gap_holds_what_comes_after_it_until_the_outbox_was_read() -> None:
    queue = filled(opens(1), opens(3), opens(5))
    assert run(queue) == [1]
    assert queue.gap()
    assert queue.newest() == 5
    queue.close_gaps({2, 3, 5})
    assert run(queue) == []
    queue.put(opens(2), "outbox")
    assert run(queue) == [2, 3]
    queue.close_gaps({5})
    assert run(queue) == [5]
    assert not queue.gap()


def test_a_read_counts_only_for_the_gaps_that_it_was_asked_for() -> None:
    queue = filled(opens(2))
    asked = queue.newest()
    queue.put(opens(4), "udp")  # after the read began
    queue.close_gaps({2}, below=asked)
    assert run(queue) == [2]
    assert queue.gap()


def test_a_number_that_came_with_a_known_order_is_no_gap() -> None:
    queue = filled(opens(2))
    queue.pass_by(1)
    assert run(queue) == [2]
    queue.pass_by(3)
    queue.put(opens(4), "udp")
    assert run(queue) == [4]
    queue.pass_by(1)
    assert queue.next_seq == 5


def test_a_copy_of_a_waiting_order_is_not_taken_whatever_its_number() -> None:
    queue = filled(opens(1), opens(3))
    assert not queue.put(opens(1), "tcp")
    assert not queue.put(opens(3), "tcp")
    assert not queue.put(opens(1, seq=2), "outbox")
    assert run(queue) == [1, 3]


def test_two_orders_with_one_number_both_run() -> None:
    """A store that was rolled back gives a number out again."""
    queue = LegQueue(next_seq=1)
    assert queue.put(opens(7, seq=2), "udp")
    assert queue.put(opens(8, seq=2), "outbox")
    queue.put(opens(1), "outbox")
    assert sorted(run(queue)) == [1, 2, 2]


def test_superseding_one_of_two_orders_with_one_number_keeps_the_other() -> None:
    queue = filled(opens(1), opens(2, "USDJPY"), closes(3, "EURUSD"))
    queue.put(opens(9, "USDJPY", seq=1), "outbox")
    taken = queue.take()
    assert taken is not None
    assert [leg.order_id for leg, _ in taken[2]] == [opens(1).order_id]
    assert len(queue.ready) == 2


def test_a_number_that_has_passed_runs_before_all_that_is_ready() -> None:
    queue = LegQueue(next_seq=5)
    queue.put(opens(5), "udp")
    queue.put(opens(3), "outbox")
    assert run(queue) == [3, 5]


def test_what_is_put_back_is_the_next_and_is_not_taken_twice() -> None:
    queue = filled(opens(1), opens(2))
    taken = queue.take()
    assert taken is not None
    queue.put_back(taken[0], "udp")
    assert not queue.put(opens(1), "outbox")
    assert run(queue) == [1, 2]


def test_what_is_late_leaves_the_queue_even_from_behind_a_gap() -> None:
    queue = filled(opens(1, ttl_ms=10), opens(3, ttl_ms=10), opens(4))
    assert [leg.leg_seq for leg, _ in queue.pop_expired(START_MS + 10)] == [1, 3]
    queue.close_gaps(set())
    assert run(queue) == [4]


def test_an_expired_number_leaves_no_gap_although_the_outbox_still_has_it() -> None:
    queue = filled(opens(2, ttl_ms=10), opens(3))
    queue.pop_expired(START_MS + 10)
    queue.close_gaps({2, 3})
    assert run(queue) == [3]


def test_dropped_orders_are_forgotten_and_leave_no_gap() -> None:
    queue = filled(opens(1), opens(3), opens(4))
    queue.drop(opens(1).order_id)
    queue.drop(opens(3).order_id)
    queue.drop("never seen")
    queue.close_gaps(set())
    assert run(queue) == [4]
    assert queue.put(opens(1), "outbox")


def test_everything_up_to_a_number_can_be_dropped() -> None:
    queue = filled(opens(1), opens(2), opens(4), opens(6))
    queue.drop_through(4)
    assert queue.next_seq == 5
    queue.put(opens(5), "udp")
    assert run(queue) == [5, 6]


# --- closes ---


def test_a_close_covers_its_symbol_or_all_and_by_ticket_no_queued_open() -> None:
    signal = make_open(1, "EURUSD")
    assert covers(make_close(2, symbol="EURUSD"), signal)
    assert covers(make_close(2), signal)
    assert not covers(make_close(2, symbol="USDJPY"), signal)
    assert not covers(make_close(2, ticket=5), signal)


def test_a_close_overtakes_opens_of_other_symbols_and_cancels_those_it_covers() -> None:
    queue = filled(opens(1, "USDJPY"), opens(2, "EURUSD"), closes(3, "EURUSD"), opens(4, "EURUSD"))
    taken = queue.take()
    assert taken is not None
    assert taken[0].leg_seq == 3
    assert [leg.leg_seq for leg, _ in taken[2]] == [2]
    assert run(queue) == [1, 4]


def test_closes_keep_their_order_among_themselves() -> None:
    queue = filled(opens(1, "USDJPY"), closes(2, "EURUSD"), closes(3, "USDJPY"))
    taken = queue.take()
    assert taken is not None
    assert (taken[0].leg_seq, taken[2]) == (2, [])
    taken = queue.take()
    assert taken is not None
    assert taken[0].leg_seq == 3
    assert [leg.leg_seq for leg, _ in taken[2]] == [1]


def test_a_close_behind_a_gap_overtakes_nothing() -> None:
    assert run(filled(opens(1), closes(3))) == [1]


def test_a_superseded_order_may_come_again_and_is_then_known_to_the_journal() -> None:
    queue = filled(opens(1), closes(2))
    queue.take()
    assert queue.put(opens(1), "celery")


# --- the other actions ---

LIMIT = {"order_type": "limit", "price": "1.09"}


def pends(number: int, symbol: str = "EURUSD") -> Leg:
    return make_leg(make_open(number, symbol, **LIMIT), number)


def acts(number: int, action: str, **fields: Any) -> Leg:
    return make_leg(make(number, action, **fields), number)


def taken(queue: LegQueue, symbols: dict[int, str] | None = None) -> tuple[int, list[int]]:
    """The number of the leg that runs next, and of those that it supersedes. `symbols`: of tickets."""

    def symbol_of(signal: Any) -> str | None:
        for name in ("position_ticket", "order_ticket"):
            if (ticket := getattr(signal, name, None)) is not None:
                return (symbols or {}).get(ticket)
        return signal.symbol if signal.symbol is not None else None

    found = queue.take(symbol_of)
    assert found is not None
    return found[0].leg_seq, [leg.leg_seq for leg, _ in found[2]]


def test_a_close_takes_market_opens_out_and_a_cancel_pending_ones() -> None:
    assert taken(filled(opens(1), pends(2), acts(3, "cancel", all=True))) == (1, [])
    assert taken(filled(pends(1), opens(2, "USDJPY"), acts(3, "cancel", symbol="EURUSD"))) == (3, [1])
    assert taken(filled(pends(1), opens(2), acts(3, "close", symbol="EURUSD"))) == (1, [])
    assert taken(filled(pends(1, "USDJPY"), opens(2), acts(3, "close", symbol="EURUSD"))) == (3, [2])


def test_by_its_signal_one_open_is_taken_out_and_others_of_the_symbol_are_not_overtaken() -> None:
    assert taken(filled(opens(1), acts(2, "close", opened_by=1))) == (2, [1])
    assert taken(filled(pends(1), acts(2, "cancel", opened_by=1))) == (2, [1])
    assert taken(filled(opens(1), opens(2), acts(3, "close", opened_by=2))) == (1, [])
    assert taken(filled(opens(1, "USDJPY"), opens(2), acts(3, "close", opened_by=2))) == (3, [2])


def test_a_modify_or_protect_waits_for_the_open_it_means_and_overtakes_other_symbols() -> None:
    wishes: list[tuple[str, dict[str, Any]]] = [
        ("modify", {"stop_loss": 1}), ("protect", {"trailing": None})
    ]  # fmt: skip
    for action, fields in wishes:
        assert taken(filled(opens(1), acts(2, action, opened_by=1, **fields))) == (1, [])
        assert taken(filled(opens(1), acts(2, action, symbol="EURUSD", **fields))) == (1, [])
        assert taken(
            filled(
                opens(1), acts(2, action, all=True, **(fields if action == "protect" else {"stop_loss": 0}))
            )
        ) == (1, [])
        assert taken(filled(opens(1, "USDJPY"), acts(2, action, symbol="EURUSD", **fields))) == (2, [])
    assert taken(filled(opens(1, "USDJPY"), acts(2, "close_by", symbol="EURUSD"))) == (2, [])
    assert taken(filled(opens(1), acts(2, "close_by", symbol="EURUSD"))) == (1, [])


def test_by_ticket_only_opens_of_other_symbols_are_overtaken() -> None:
    """On a netting account an open of the symbol changes the very position that the ticket names."""
    symbols = {5: "EURUSD"}
    assert taken(filled(opens(1), closes(2, ticket=5)), symbols) == (1, [])
    assert taken(filled(opens(1, "USDJPY"), closes(2, ticket=5)), symbols) == (2, [])
    assert taken(filled(opens(1, "USDJPY"), closes(2, ticket=6)), symbols) == (1, [])  # a ticket nobody knows


def test_closing_a_part_makes_no_open_pointless() -> None:
    assert taken(filled(opens(1), acts(2, "close", symbol="EURUSD", fraction="0.5"))) == (1, [])


def test_what_is_no_open_is_never_overtaken() -> None:
    queue = filled(acts(1, "modify", symbol="EURUSD", stop_loss=1), closes(2, "USDJPY"))
    assert taken(queue) == (1, [])

"""The breaker holds opens after too much that went wrong."""

from executors.breaker import WINDOW_MS, Breaker


def test_unknown_outcomes_trip_at_the_limit_and_release_when_all_are_resolved() -> None:
    breaker = Breaker(max_unknown=3, max_rejections=5)
    breaker.unknown(2)
    assert breaker.reason == ""
    breaker.unknown(3)
    assert "3 orders or more" in breaker.reason
    breaker.unknown(1)
    assert breaker.reason
    breaker.unknown(0)
    assert breaker.reason == ""


def test_rejections_within_a_minute_trip_until_an_operator_resumes() -> None:
    breaker = Breaker(max_unknown=3, max_rejections=3)
    for at in (0, WINDOW_MS, WINDOW_MS + 1):
        breaker.rejected(at)
    assert breaker.reason == ""
    breaker.rejected(WINDOW_MS + 2)
    assert "3 rejections" in breaker.reason
    breaker.unknown(0)
    assert breaker.reason
    breaker.resume()
    assert breaker.reason == ""
    breaker.rejected(WINDOW_MS + 3)
    assert breaker.reason == ""


def test_what_was_tripped_before_a_restart_is_released_by_an_operator_only() -> None:
    breaker = Breaker(max_unknown=3, max_rejections=3)
    breaker.trip()
    breaker.unknown(0)
    assert breaker.until_resumed
    assert breaker.reason
    breaker.resume()
    assert not breaker.until_resumed


def test_zero_switches_it_off() -> None:
    breaker = Breaker(max_unknown=0, max_rejections=0)
    for at in range(100):
        breaker.rejected(at)
    breaker.unknown(50)
    assert breaker.reason == ""

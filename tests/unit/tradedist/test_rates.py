from tradedist.rates import Buckets, Lockout


def test_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    buckets = Buckets(rate=10, burst=3)
    assert [buckets.take("a", 0) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", 0) == 0.1
    assert buckets.take("b", 0) == 0
    assert buckets.take("a", 99) > 0
    assert buckets.take("a", 200) == 0


def test_refused_takes_cost_nothing() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("a", 0) == 0
    for at in range(1, 1000):
        assert buckets.take("a", at) > 0
    assert buckets.take("a", 1001) == 0


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    buckets = Buckets(rate=1, burst=1)
    assert buckets.take("a", 10_000) == 0
    assert buckets.take("a", 0) > 0


def test_buckets_are_bounded_and_forget_the_oldest() -> None:
    buckets = Buckets(rate=1, burst=1, size=10)
    for key in range(1000):
        buckets.take(key, 0)
    assert len(buckets._held) == 10
    assert buckets.take(999, 0) > 0
    assert buckets.take(0, 0) == 0


def test_lockout_after_the_limit_for_a_whole_window() -> None:
    lockout = Lockout(limit=3, window_ms=1000)
    for at in (0, 10, 900):
        assert lockout.locked_ms("a", at) == 0
        lockout.failed("a", at)
    assert lockout.locked_ms("a", 901) == 999
    assert lockout.locked_ms("b", 901) == 0
    assert lockout.locked_ms("a", 1900) == 0
    lockout.failed("a", 1901)  # counted anew
    assert lockout.locked_ms("a", 1902) == 0


def test_a_success_clears_and_old_failures_do_not_count() -> None:
    lockout = Lockout(limit=2, window_ms=1000)
    lockout.failed("a", 0)
    lockout.clear("a")
    lockout.failed("a", 1)
    assert lockout.locked_ms("a", 2) == 0
    lockout.failed("a", 5000)
    assert lockout.locked_ms("a", 5001) == 0


def test_lockout_is_bounded() -> None:
    lockout = Lockout(limit=1, window_ms=1000, size=10)
    for key in range(100):
        lockout.failed(key, 0)
    assert len(lockout._failures) == 10

"""Pure rules of the order protocol for any input: the fold, magics, sizing, the queue, and when absence counts."""

from collections.abc import Callable
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from executors.messages import CloseSignal, Leg, OpenSignal, RiskLimits, Sizing
from executors.orders import (
    MAGIC_BASE,
    OrderState,
    Outcome,
    RequestView,
    comment_token,
    fold,
    magic_of_comment,
    request_magic,
)
from executors.queueing import LegQueue, covers
from executors.reconcile import SweepTracker
from executors.retcodes import NOT_SENT, REFUSALS, judge
from executors.sizing import Denial, size
from executors.terminals.base import ZERO, SendReply, SendResult, TradeRequest
from tests.simulated import make_close, make_leg, make_open, make_spec

S = OrderState
LOTS = st.decimals(min_value="0.01", max_value="50", places=2)


@st.composite
def requests(draw: st.DrawFn) -> list[RequestView]:
    made = []
    for outcome in draw(st.lists(st.sampled_from(Outcome), max_size=6)):
        lots = draw(LOTS)
        filled = lots if outcome is Outcome.FILLED else ZERO
        if outcome in (Outcome.PARTIAL, Outcome.PLACED):
            filled = draw(st.sampled_from([ZERO, lots / 2]))
        made.append(RequestView(outcome, lots, filled))
    return made


@given(made=requests(), wanted=st.one_of(LOTS, st.just(ZERO)), more=st.booleans())
def test_the_fold_tells_nothing_that_the_requests_do_not_say(
    made: list[RequestView], wanted: Decimal, *, more: bool
) -> None:
    state = fold(made, wanted, more=more)
    outcomes = {item.outcome for item in made}
    filled = sum((item.filled_lots for item in made), ZERO)
    assert (state is S.UNKNOWN) == (Outcome.UNKNOWN in outcomes)
    if state is S.FILLED:
        assert filled >= wanted
        assert filled > 0
    if state is S.PARTIAL:
        assert filled > 0
    if state in (S.REJECTED, S.NOT_EXECUTED, S.DONE, S.MANUAL):
        assert filled == 0
        assert not outcomes & {Outcome.PLACED, Outcome.PENDING}
    if state is S.DONE:
        assert wanted <= 0
        assert Outcome.DONE in outcomes
    if state is S.INTENT:
        assert more or not made or Outcome.PENDING in outcomes


@given(installation=st.text(max_size=20), order=st.text(max_size=90), n=st.integers(1, 1000))
def test_a_magic_survives_json_readers_and_leads_back_from_its_comment(
    installation: str, order: str, n: int
) -> None:
    magic = request_magic(installation, order, n)
    assert MAGIC_BASE <= magic < 2**53
    assert int(float(magic)) == magic
    assert magic_of_comment(comment_token(magic)[:16]) == magic


@given(comment=st.text(max_size=31))
def test_no_comment_of_others_is_taken_for_a_token(comment: str) -> None:
    magic = magic_of_comment(comment)
    assert magic is None or comment.startswith("td")


@given(
    lots=LOTS,
    value=st.decimals(min_value="0.01", max_value="20", places=4),
    method=st.sampled_from(["fixed", "multiplier"]),
    step=st.sampled_from(["0.01", "0.1", "1", "0.25", "5"]),
    most=st.sampled_from(["0", "0.5", "10"]),
)
def test_sized_lots_fit_the_symbol_and_never_exceed_what_was_meant(
    lots: Decimal, value: Decimal, method: str, step: str, most: str
) -> None:
    spec = make_spec("EURUSD", volume_step=Decimal(step), volume_min=Decimal(step))
    sizing = Sizing.model_validate({"method": method, "value": value})
    sized = size(lots, sizing, RiskLimits(max_lots=Decimal(most)), spec)
    meant = value if method == "fixed" else lots * value
    if isinstance(sized, Denial):
        assert meant < spec.volume_min or meant > spec.volume_max or 0 < Decimal(most) < meant
        return
    assert spec.volume_min <= sized <= spec.volume_max
    assert sized % spec.volume_step == 0
    assert meant - spec.volume_step < sized <= meant
    assert not Decimal(most) or sized <= Decimal(most)


@given(
    code=st.one_of(st.none(), st.integers(-20, 11_000)),
    error=st.integers(-10_010, 5),
    volume=st.sampled_from(["0", "0.5", "1"]),
    deal=st.integers(0, 1),
    price=st.sampled_from(["0", "1.1"]),
    filling=st.integers(0, 2),
)
def test_only_listed_answers_are_definite(
    code: int | None, error: int, volume: str, deal: int, price: str, filling: int
) -> None:
    request = TradeRequest(action=1, volume=Decimal(1), type_filling=filling)
    result = None
    if code is not None:
        result = SendResult(code, deal, 5, Decimal(volume), Decimal(price), ZERO, ZERO, "", 0)
    verdict = judge(request, SendReply(result, (error, "")))
    if verdict.outcome is Outcome.REFUSED:
        assert code in REFUSALS if code is not None else error in NOT_SENT
    elif verdict.outcome is not Outcome.UNKNOWN:
        assert code in (10008, 10009, 10010)
    if verdict.outcome in (Outcome.FILLED, Outcome.PARTIAL):
        assert deal
        assert Decimal(price) > 0
        assert Decimal(volume) > 0
    assert not verdict.retriable or verdict.outcome is Outcome.REFUSED


# --- the queue ---


@st.composite
def wishes(draw: st.DrawFn) -> list[OpenSignal | CloseSignal]:
    symbols = st.sampled_from(["EURUSD", "USDJPY"])
    made: list[OpenSignal | CloseSignal] = []
    for number in range(1, draw(st.integers(1, 9)) + 1):
        if draw(st.integers(0, 2)):
            made.append(make_open(number, draw(symbols)))
        else:
            made.append(make_close(number, symbol=draw(st.one_of(symbols, st.none()))))
    return made


@given(signals=wishes(), data=st.data())
def test_every_leg_leaves_the_queue_once_and_none_before_what_it_must_follow(
    signals: list[OpenSignal | CloseSignal], data: st.DataObject
) -> None:
    """Legs arrive in any order, some never (the outbox has them), copies among them; the outbox is read now and then."""
    legs = [make_leg(signal, seq) for seq, signal in enumerate(signals, 1)]
    queue = LegQueue(next_seq=1)
    done: list[Leg] = []
    superseded: dict[str, Leg] = {}

    def put(leg: Leg, path: str) -> None:
        if leg not in done and leg.order_id not in superseded:  # what the journal knows is not put
            queue.put(leg, path)

    def take() -> None:
        if (taken := queue.take()) is not None:
            done.append(taken[0])
            for older, _ in taken[2]:
                assert isinstance(taken[0].signal, CloseSignal)
                assert isinstance(older.signal, OpenSignal)
                assert covers(taken[0].signal, older.signal)
                assert older.leg_seq < taken[0].leg_seq
                superseded[older.order_id] = older

    def drain() -> None:
        asked = queue.newest()
        left = [leg for leg in legs if leg not in done and leg.order_id not in superseded]
        for leg in left:
            put(leg, "outbox")
        queue.close_gaps({leg.leg_seq for leg in left}, below=asked)

    moves: list[Callable[[], None]] = [
        take,
        drain,
        lambda: put(data.draw(st.sampled_from(legs)), "udp"),
    ]
    for choice in data.draw(st.lists(st.sampled_from([0, 2, 2, 2, 1]), max_size=25)):
        moves[choice]()
    for _ in range(2 * len(legs) + 1):
        drain()
        take()
    assert sorted(leg.leg_seq for leg in [*done, *superseded.values()]) == [leg.leg_seq for leg in legs]
    assert not queue.gap()
    assert queue.take() is None
    for index, leg in enumerate(done):
        for later in done[index + 1 :]:
            if later.leg_seq < leg.leg_seq:  # it was overtaken
                assert isinstance(leg.signal, CloseSignal)
                assert isinstance(later.signal, OpenSignal)
                assert not covers(leg.signal, later.signal)


@given(
    looks=st.lists(st.tuples(st.integers(1, 9_000), st.booleans()), min_size=1, max_size=30),
    answering_at=st.integers(0, 30_000),
)
def test_absence_is_never_proven_by_less_than_two_settled_looks_five_seconds_apart(
    looks: list[tuple[int, bool]], answering_at: int
) -> None:
    tracker = SweepTracker(gap_ms=5_000, settle_ms=15_000)
    now, clean_since = 0, None
    for pause, clean in looks:
        now += pause
        if not clean:
            tracker.disturbed()
            clean_since = None
            continue
        proven = tracker.absent(now, age_ms=now, answering_ms=now - answering_at)
        settled = now >= 15_000 and now - answering_at >= 15_000
        if settled and clean_since is None:
            clean_since = now
            assert not proven
        if proven:
            assert settled
            assert clean_since is not None
            assert now - clean_since >= 5_000
            return

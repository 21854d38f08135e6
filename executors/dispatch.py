"""Accept: the one way in for signals, whatever socket, route or webhook they came by.

Precedes: the executors, which are woken by a Celery task an order and find every leg in the outbox besides.
Follows: the order socket and REST. A signal is recorded whole by one Lua call or not at all, and kept in the spool of
this process meanwhile; a known signal_id is answered from its record before anything else is looked at.
"""

import asyncio
import logging
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import redis
from django.conf import settings
from pydantic import ValidationError

from executors.crashpoints import reached
from executors.errors import AcceptUnknown, Code, Refused
from executors.fanout import Fanout
from executors.messages import ACTIONS, SIGNAL, Leg, OpenSignal, Signal, SignalView
from executors.reaccept import Reaccept
from executors.spool import Kept, Spool, confirmed
from executors.state import Recorded, SignalStore, order_view
from executors.target_cache import TargetCache
from tradedist import hub, keys, metrics, order_metrics
from tradedist.clock import monotonic_ms, now_us
from tradedist.redis import async_state
from tradedist.redis_line import Line

logger = logging.getLogger(__name__)

FULL = "The state store is full. Nothing was recorded; send it again when an operator has made room."
TOO_LATE = "A later send of this signal was refused as too old. Decide anew and send a new signal_id."
STALE_TRIES = 3
# Refusals by what the user may and what is there, which an earlier send may have passed; and all that are final.
BY_ACCESS = frozenset(
    {Code.FORBIDDEN, Code.TRADING_HALTED, Code.UNKNOWN_TERMINAL, Code.UNKNOWN_GROUP, Code.NO_TERMINALS}
)
FINAL = BY_ACCESS | {Code.TOO_OLD}
BUCKETS = 10_000  # users whose rate is remembered at once
SPOOL_WAIT_S = 0.25  # for the disk, after the store has answered


class Sender(Protocol):
    """The user who sends; Django's user model fits."""

    pk: Any

    def get_username(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    view: SignalView
    created: bool  # False: the id was known, the view is its record


async def accept(body: Any, user: Any, *, source: str, shielded: bool = False) -> Accepted:
    """Record a signal and wake its executors.

    Raises Refused (with code, sentence and HTTP status) or AcceptUnknown. Cancelling the caller after the store was
    asked neither undoes nor halves anything: the record and the wake-ups go on. `shielded`: the caller's own task sees to
    that, and is never cancelled.
    """
    received_ms = now_us() / 1000
    try:
        signal = parse(body)
        ttl_ms = time_to_live(signal)
        await process().targets.resolve(user, signal.targets, cancels=signal.action == "cancel")
        _rate.take(user.pk)
    except Refused as refused:
        return await _unless_recorded(refused, body, user)
    except redis.RedisError as error:
        raise AcceptUnknown from error  # nothing was recorded, but another try is right all the same

    async def record() -> Accepted:
        try:
            return await _record(signal, user, ttl_ms, source=source, received_ms=received_ms)
        except Refused as refused:
            if refused.code is not Code.STORE_FULL and refused.code not in BY_ACCESS:
                raise  # the store has compared it with what is recorded
            return await _unless_recorded(refused, body, user)

    if shielded:
        return await record()
    recording = asyncio.ensure_future(record())
    recording.add_done_callback(heard)
    return await asyncio.shield(recording)


def heard(accepting: "asyncio.Future[Accepted]") -> None:
    """Of an accept that outlives who asked for it: its answer may be nobody's to hear, and a refusal is no fault then."""
    fault = None if accepting.cancelled() else accepting.exception()
    if isinstance(fault, Exception) and not isinstance(fault, (Refused, AcceptUnknown)):
        logger.error("accept failed", exc_info=fault)


async def _unless_recorded(refused: Refused, body: Any, user: Any) -> Accepted:
    """A refusal is final only when no send of the signal was recorded, and none that is on its way can be any more. Raises
    the refusal, or what is to be said instead."""
    store = process().store
    try:
        known = await _answer_known(body, user)
        if known is None and refused.code in FINAL:
            if _is_promised(body["signal_id"], refused, user):
                raise AcceptUnknown
            _rate.take(user.pk)  # each is remembered
            under = "" if refused.code is Code.TOO_OLD else refused.version
            if not await store.refuse(body["signal_id"], user.pk, under=under):
                known = await _answer_known(body, user)
    except redis.RedisError as error:
        if refused.code is Code.INVALID:
            raise refused from error  # what cannot be read was never recorded under this id
        raise AcceptUnknown from error  # an earlier send of it may have been recorded
    if known is None:
        raise refused
    if isinstance(known, Accepted):
        return known
    raise known from refused


def _is_promised(signal_id: str, refused: Refused, user: Any) -> bool:
    """Whether this process has asked the store to record it, and the answer is missing; or the store has lost it and gets
    it back in a moment. What is too old is refused by the store, unless it was accepted."""
    entry = process().spool.entries.get(signal_id)
    if entry is None or entry.user_id != user.pk:
        return False
    return bool(entry.accepted_ms) or refused.code is not Code.TOO_OLD


def parse(body: Any) -> Signal:
    try:
        return SIGNAL.validate_python(body)
    except ValidationError as error:
        raise Refused(Code.INVALID, describe(error)) from None


def describe(error: ValidationError) -> str:
    """The first few faults as one sentence each, with where they are."""
    parts = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part) for part in fault["loc"] if part not in ACTIONS)
        said = "there is no such field, leave it out" if fault["type"] == "extra_forbidden" else fault["msg"]
        if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
            where, said = "action", f"give {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}"
        parts.append(f"{where}: {said}" if where else said)
    return "; ".join(parts)


def time_to_live(signal: Signal) -> int:
    default = settings.CLOSE_TTL_MS
    if isinstance(signal, OpenSignal):
        default = settings.PENDING_TTL_MS if signal.pending else settings.MARKET_TTL_MS
    ttl_ms = min(signal.ttl_ms or default, settings.MAX_TTL_MS)
    if signal.age_ms >= ttl_ms:
        raise Refused(
            Code.TOO_OLD,
            f"The signal is {signal.age_ms} ms old and may live {ttl_ms} ms. Decide anew and send a new signal_id.",
        )
    return int(ttl_ms)


async def _answer_known(body: Any, user: Any) -> Accepted | Refused | None:
    """What the record of a refused signal's id says; None when the id is new or no id. Raises redis.RedisError."""
    signal_id = body.get("signal_id") if isinstance(body, dict) else None
    if not isinstance(signal_id, str) or len(signal_id) != 36:
        return None
    record = await process().store.known(signal_id)
    if not record:
        return None
    if record["user_id"] != str(user.pk):
        return _conflict()
    try:
        same = SIGNAL.validate_python(body).digest() == record["digest"]
    except ValidationError:
        same = False
    if not same:
        return _conflict()
    view = await process().store.view(signal_id)
    if view is None:
        raise AcceptUnknown
    return Accepted(view, created=False)


def _conflict() -> Refused:
    """The same words whether the id is his or somebody else's: a foreign record tells nothing."""
    return Refused(
        Code.SIGNAL_CONFLICT,
        "This signal_id is taken by a signal that differs. Make a new signal_id for a new wish.",
        409,
    )


async def _record(signal: Signal, user: Any, ttl_ms: int, *, source: str, received_ms: float) -> Accepted:
    here = process()
    entry: Kept | None = None
    try:
        for _ in range(STALE_TRIES):
            resolved = await here.targets.resolve(user, signal.targets, cancels=signal.action == "cancel")
            reached("accept-before-store")
            entry = Kept(
                signal=signal,
                user_id=user.pk,
                username=user.get_username(),
                source=source,
                ttl_ms=ttl_ms,
                received_ms=received_ms,
                targets=tuple(resolved.targets),
                store_life=here.spool.store_life,
            )
            on_disk = here.spool.keep(entry)  # is written while the store is asked
            recorded = await here.store.record(
                signal,
                targets=resolved.targets,
                user_id=user.pk,
                username=user.get_username(),
                source=source,
                ttl_ms=ttl_ms,
                received_ms=received_ms,
                access_version=resolved.version,
            )
            if recorded.status != "STALE":
                break
            here.spool.drop(entry)
            here.targets.forget()  # somebody changed users or grants meanwhile; nothing was recorded
        if recorded.status == "KNOWN":
            view = await here.store.view(signal.signal_id)
            if view is None:
                raise AcceptUnknown
            safe = await here.store.safe(signal.signal_id, signal.digest())
            return Accepted(_durable(view, safe and await _written(on_disk)), created=False)
    except redis.RedisError as error:
        logger.warning(
            "the state Redis did not answer accept: %s", error, extra={"signal_id": signal.signal_id}
        )
        if isinstance(error, redis.exceptions.OutOfMemoryError) and entry is not None:
            here.spool.drop(entry)  # it answered: nothing was recorded
            raise Refused(Code.STORE_FULL, FULL, 503) from error
        raise AcceptUnknown from error
    if entry is None or recorded.status == "STALE":
        raise Refused(Code.UNAVAILABLE, "Permissions are changing just now. Send the signal again.", 503)
    if recorded.status != "CREATED":
        here.spool.drop(entry)
        raise Refused(Code.TOO_OLD, TOO_LATE) if recorded.status == "TOO_OLD" else _conflict()
    reached("accept-after-store")
    order_metrics.accepted_here(signal.signal_id)
    legs = [(Leg.model_validate_json(text), text) for text in recorded.legs]
    here.fanout.wake(legs)
    seqs = tuple(leg.leg_seq for leg, _ in legs)
    here.spool.confirm(confirmed(entry, recorded.accepted_ms, recorded.deadline_ms, seqs))
    view = _created_view(signal, user, source, recorded)
    return Accepted(_durable(view, recorded.safe and await _written(on_disk)), created=True)


async def _written(on_disk: "asyncio.Future[bool]") -> bool:
    """Whether the spool has it; a disk that is stuck holds nobody up."""
    if not on_disk.done():
        await asyncio.wait([on_disk], timeout=SPOOL_WAIT_S)
    return on_disk.done() and on_disk.result()


def _durable(view: SignalView, safe: bool) -> SignalView:
    return view if safe else view.model_copy(update={"durability": "degraded"})


def _created_view(signal: Signal, user: Any, source: str, recorded: Recorded) -> SignalView:
    return SignalView(
        signal_id=signal.signal_id,
        action=signal.action,
        signal=signal,
        user=user.get_username(),
        source=source,
        accepted_ms=recorded.accepted_ms,
        deadline_ms=recorded.deadline_ms,
        orders=[order_view(report, "0") for report in recorded.reports],
    )


# --- Per process state ---


class RateBuckets:
    """Token buckets, one a user, of `ORDERS_PER_SECOND` with one second's burst; bounded."""

    def __init__(self, size: int = BUCKETS) -> None:
        self._size = size
        self._buckets: OrderedDict[Any, tuple[float, float]] = OrderedDict()

    def take(self, user_id: Any) -> None:
        rate = float(settings.ORDERS_PER_SECOND)
        now = monotonic_ms()
        tokens, at = self._buckets.pop(user_id, (rate, now))
        tokens = min(rate, tokens + (now - at) / 1000 * rate)
        if tokens < 1:
            self._buckets[user_id] = (tokens, now)
            raise Refused(
                Code.RATE_LIMITED,
                f"At most {rate:g} signals a second are accepted. Wait and send it again.",
                429,
            )
        self._buckets[user_id] = (tokens - 1, now)
        while len(self._buckets) > self._size:
            self._buckets.popitem(last=False)


_rate = RateBuckets()


class _PerLoop:
    """The event loop's own connections: they belong to the loop that made them."""

    def __init__(self) -> None:
        self.client = async_state()
        self.line = Line(self.client)
        self.store = SignalStore(
            self.client,
            line=self.line,
            replicas=settings.REPLICAS_CONFIRM,
            wait_ms=settings.REPLICAS_WAIT_MS,
        )
        self.fanout = Fanout(self.client, self.store)
        self.targets = TargetCache(self.client)
        self.spool = Spool(settings.DATA_DIR / "spool", max_orders=settings.SPOOL_ORDERS)
        reaccept = Reaccept(self.spool, self.store, self.fanout.wake)
        self.watch = asyncio.ensure_future(reaccept.run())

    def heard(self, event: hub.Event) -> None:
        if (report := event.once(metrics.parse_report)) is not None:
            self.fanout.reported(report)


_loops: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _PerLoop]" = weakref.WeakKeyDictionary()


def process() -> _PerLoop:
    loop = asyncio.get_running_loop()
    found = _loops.get(loop)
    if found is None:
        found = _loops[loop] = _PerLoop()
    return found


def open_process() -> None:
    """At the start of a web process: signals that an earlier one left in its spool are looked after from now on, and
    what executors report of orders is heard."""
    here = process()
    here.spool.start()
    hub.current().subscribe(keys.REPORTS, here.heard)
    hub.current().gives_way_to(lambda: here.line.under_way)


async def close_process() -> None:
    """Ends what `process` began in this event loop; for an orderly end, and tests."""
    if found := _loops.pop(asyncio.get_running_loop(), None):
        found.watch.cancel()
        await asyncio.wait([found.watch], timeout=1)
        await found.fanout.close()
        await found.spool.close()
        await found.line.close()
        await found.client.aclose()

"""Gives the store back what it lost: a signal of the spool that is not there any more is accepted again, as it was.

Precedes: the executors, which are woken as for any signal. Follows: the spool, and a look every 250 ms at what it holds.
A failover to a replica that was behind, or a restart from an older file, loses what was accepted last. What an executor
has heard of is in its journal, which publishes it again; what none has heard of is only here.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from itertools import islice

import redis

from executors.messages import Leg
from executors.orders import OrderState, order_id
from executors.spool import Kept, Spool, confirmed
from executors.state import SignalStore, read_leg
from tradedist import keys
from tradedist.clock import monotonic_ms, now_ms

logger = logging.getLogger(__name__)

LOOK_S = 0.25
YOUNG_MS = 300  # most signals have left the spool's concern by then: a look before it only costs
BATCH = 300  # keys to one call
MOST = 1_000  # signals to one look: a long queue of a terminal that is away is gone through in turn
UNANSWERED_MS = 10_000  # the store may still run a call that we have given up
FORGET_MS = 48 * 3_600_000  # a settled signal's record goes then; so does what a file that old says
BACKOFF_S = (0.1, 1.0)

Wake = Callable[[Sequence[tuple[Leg, str]]], object]


class Reaccept:
    """One a spool."""

    def __init__(self, spool: Spool, store: SignalStore, wake: Wake) -> None:
        self._spool = spool
        self._store = store
        self._wake = wake

    async def run(self) -> None:
        """Until it is cancelled."""
        backoff = BACKOFF_S[0]
        while True:
            await self._spool.some()
            try:
                await self.look()
                backoff = BACKOFF_S[0]
                await asyncio.sleep(LOOK_S)
            except redis.RedisError as error:
                logger.debug("the state Redis does not answer the spool: %s", error)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, BACKOFF_S[1])
            except Exception:  # a bad record must not end the watch over all others
                logger.exception("the spool's look failed", extra={"action": "spool"})
                await asyncio.sleep(BACKOFF_S[1])

    async def look(self) -> None:
        """One look at everything that is old enough."""
        life = await self._store.life()
        held = self._spool.entries
        most = MOST
        if self._spool.store_life not in ("", life):
            logger.warning("the state Redis has another life: what it may have lost is looked for")
            most = len(held)
        self._spool.store_life = life
        now = monotonic_ms()
        oldest = list(islice(held.values(), most))
        due = [entry for entry in oldest if entry.inherited or now - entry.at_ms >= YOUNG_MS]
        for entry in due:
            held[entry.signal_id] = held.pop(entry.signal_id)  # to the end
        names: list[str] = []
        batch: list[Kept] = []
        for entry in due:
            batch.append(entry)
            names += _names(entry)
            if len(names) >= BATCH:
                await self._compare(batch, names)
                batch, names = [], []
        await self._compare(batch, names)

    async def _compare(self, batch: list[Kept], names: list[str]) -> None:
        answers = iter(await self._store.look(names))
        for entry in batch:
            signal, *orders = (next(answers) for _ in _names(entry))
            if self._spool.entries.get(entry.signal_id) is not entry:
                continue  # it changed meanwhile: the next look
            if not entry.accepted_ms:
                await self._find_out(entry, signal)
            elif signal != "SIGNAL" or "" in orders:
                await self._accept_again(entry)
            elif OrderState.QUEUED not in orders:
                self._spool.drop(entry)

    async def _find_out(self, entry: Kept, signal: str) -> None:
        """Whether the store recorded it, nobody has told: its call was not answered, or the process died in it."""
        if signal == "SIGNAL":
            await self._learn(entry)
        elif signal == "PARTIAL" or (entry.inherited and entry.store_life != self._spool.store_life):
            # the process that is gone may have answered, and the store may have lost it
            await self._accept_again(entry)
        elif entry.inherited or monotonic_ms() - entry.at_ms > UNANSWERED_MS:
            self._spool.drop(entry)  # this store never had it: nobody was promised anything

    async def _learn(self, entry: Kept) -> None:
        record = await self._store.known(entry.signal_id)
        if record.get("digest") != entry.signal.digest() or record.get("user_id") != str(entry.user_id):
            self._spool.drop(entry)  # another signal has the id
            return
        legs = await self._store.legs(json.loads(record["orders"]))
        found = Kept(
            signal=entry.signal,
            user_id=entry.user_id,
            username=entry.username,
            source=entry.source,
            ttl_ms=entry.ttl_ms,
            received_ms=entry.received_ms,
            targets=tuple((leg.terminal_id, leg.epoch) for leg in legs),
            store_life=self._spool.store_life,
        )
        if self._spool.entries.get(entry.signal_id) is entry:
            seqs = tuple(leg.leg_seq for leg in legs)
            self._spool.confirm(
                confirmed(found, int(record["accepted_ms"]), int(record["deadline_ms"]), seqs)
            )

    async def _accept_again(self, entry: Kept) -> None:
        if now_ms() - entry.received_ms > FORGET_MS:
            self._spool.drop(entry)
            return
        recorded = await self._store.record(
            entry.signal,
            targets=entry.targets,
            user_id=entry.user_id,
            username=entry.username,
            source=entry.source,
            ttl_ms=entry.ttl_ms,
            received_ms=entry.received_ms,
            accepted_ms=entry.accepted_ms or int(entry.received_ms),
            deadline_ms=entry.deadline_ms or int(entry.received_ms) + entry.ttl_ms - entry.signal.age_ms,
            seqs=entry.seqs,
        )
        if recorded.status != "CREATED":
            if recorded.status == "TOO_OLD":  # nobody was told that it is accepted, but that it is refused
                self._spool.drop(entry)
            elif recorded.status != "KNOWN":
                logger.error("%s was lost, and another signal has its id", entry.signal_id)
                self._spool.drop(entry)
            return
        logger.warning(
            "the state Redis had lost %s: accepted again", entry.signal_id, extra={"action": "spool"}
        )
        legs = [(leg, text) for text in recorded.legs if (leg := read_leg(text)) is not None]
        if self._spool.entries.get(entry.signal_id) is entry:
            seqs = tuple(leg.leg_seq for leg, _ in legs)
            self._spool.confirm(confirmed(entry, recorded.accepted_ms, recorded.deadline_ms, seqs))
        self._wake(legs)


def _names(entry: Kept) -> list[str]:
    ids = [order_id(entry.signal_id, terminal_id) for terminal_id, _ in entry.targets]
    return [keys.signal(entry.signal_id), *(keys.order(name) for name in ids)]

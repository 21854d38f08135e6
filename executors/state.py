"""RTSS, RTRS and RIS: every write of the executors app to the state Redis.

Precedes: the sockets and REST read what is written here. Follows: dispatch (accept) and the executors' link (publish).
Both writes are Lua scripts keyed by ids, so that running one twice changes nothing; redis-py loads them again by
itself when the server has forgotten them.
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import redis
import redis.asyncio
from pydantic import ValidationError

from executors.errors import EpochPassed
from executors.legs import JournalReport
from executors.messages import ExecutionReport, Leg, OpenSignal, OrderView, Signal, SignalView
from executors.orders import SETTLED, order_id
from executors.settlement import Answer, Settlement
from tradedist import keys
from tradedist.redis_line import Line

logger = logging.getLogger(__name__)

LUA = Path(__file__).parent / "lua"
LIFE = re.compile(r"master_replid:(\w+)")
PUBLISH = (LUA / "publish.lua").read_text()
REFUSED_MS = 3_600_000  # no earlier send of a signal is on its way for so long
REFUSED_UNDER_MS = (
    60_000  # nor, beside that, does a version of users and grants outlive its change for so long
)
TOO_OLD = "1"


# KEYS settlements, answers, instance  ARGV order_id, settlement_id, answer JSON, epoch. A wish that has replaced this one
# stays, and so does one that an executor of an earlier epoch would answer.
ANSWER = """
local epoch = redis.call('HGET', KEYS[3], 'epoch') or '0'
if tonumber(epoch) > tonumber(ARGV[4]) then return { epoch } end
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held or cjson.decode(held).settlement_id ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the store said of a signal. `legs` and `reports` are set only when it is new."""

    # CREATED, KNOWN, CONFLICT, FOREIGN, TOO_OLD (a later send of it was refused so),
    # STALE (the targets were resolved under older grants)
    status: str
    accepted_ms: int = 0
    deadline_ms: int = 0
    legs: tuple[str, ...] = ()  # messages.Leg as JSON
    reports: tuple[str, ...] = ()
    safe: bool = True  # as many replicas have it as must


class SignalStore:
    """The web processes' side: accept, and what is known of a signal.

    `replicas`: how many of them must have a new signal on disk within `wait_ms`, or its record says that they have not.
    """

    def __init__(
        self,
        client: "redis.asyncio.Redis",
        *,
        line: Line | None = None,
        replicas: int = 0,
        wait_ms: int = 50,
    ) -> None:
        self._redis = client
        self._line = (
            line  # for what is asked most: accept (unless it waits for replicas), and the spool's look
        )
        self._accept = client.register_script((LUA / "accept.lua").read_text())
        self._look = client.register_script((LUA / "look.lua").read_text())
        self._refuse = client.register_script((LUA / "refuse.lua").read_text())
        self._replicas = replicas
        self._wait = ("WAITAOF", 1, replicas, wait_ms)

    async def record(
        self,
        signal: Signal,
        *,
        targets: Sequence[tuple[str, int]],
        user_id: int,
        username: str,
        source: str,
        ttl_ms: int,
        received_ms: float,
        access_version: str = "",
        accepted_ms: int = 0,
        deadline_ms: int = 0,
        seqs: Sequence[int] = (),
    ) -> Recorded:
        """One Lua call. `targets`: (terminal_id, epoch). Raises redis.RedisError: then nothing is known.

        `accepted_ms`, `deadline_ms` and `seqs` (leg numbers) are those that a signal had which the store has lost.
        """
        signal_id = signal.signal_id
        names = [keys.signal(signal_id), keys.SIGNALS, keys.UNSETTLED, keys.REPORTS, keys.ACCESS_VERSION]
        names.append(keys.refused(user_id, signal_id))
        side, lots = "", ""
        if isinstance(signal, OpenSignal):
            side, lots = signal.side, format(signal.lots, "f")
        args: list[str | int | float] = [
            signal_id,
            signal.model_dump_json(exclude_none=True),
            signal.digest(),
            user_id,
            username,
            source,
            ttl_ms,
            signal.age_ms,
            signal.action,
            signal.symbol or "",
            side,
            lots,
            received_ms,
            access_version,
            accepted_ms or "",
            deadline_ms or "",
        ]
        for place, (terminal_id, epoch) in enumerate(targets):
            leg_id = order_id(signal_id, terminal_id)
            names += [keys.order(leg_id), keys.outbox(terminal_id), keys.leg_seq(terminal_id)]
            args += [leg_id, terminal_id, epoch, seqs[place] if seqs else ""]
        answer, safe = await self._write(names, args)
        if answer[0] != "CREATED":
            return Recorded(answer[0], safe=safe)
        return Recorded(
            "CREATED",
            accepted_ms=int(answer[1]),
            deadline_ms=int(answer[2]),
            legs=tuple(answer[3::2]),
            reports=tuple(answer[4::2]),
            safe=safe,
        )

    async def _write(self, names: list[str], args: list[str | int | float]) -> tuple[list[str], bool]:
        """The script's answer, and whether as many replicas have it as must."""
        if not self._replicas:
            return await self._evaluate(self._accept, names, args), True
        for last in (False, True):
            # on one connection: the server waits for what this connection has written
            pipe = self._redis.pipeline(transaction=False)
            pipe.evalsha(self._accept.sha, len(names), *names, *args)
            pipe.execute_command(*self._wait)
            answer, confirmed = await pipe.execute(raise_on_error=False)
            if isinstance(answer, redis.exceptions.NoScriptError) and not last:
                await cast(Any, self._redis.script_load(self._accept.script))
                continue
            if isinstance(answer, redis.RedisError):
                raise answer
            break
        if isinstance(confirmed, redis.RedisError):
            logger.warning("replicas could not be waited for: %s", confirmed, extra={"action": "accept"})
            return answer, False
        # a signal that was known before was written by another connection: nothing was waited for
        return answer, answer[0] == "CREATED" and self._enough(confirmed)

    async def _evaluate(
        self, script: Any, names: Sequence[str], args: Sequence[str | int | float]
    ) -> list[str]:
        if self._line is None:
            return cast(list[str], await script(keys=names, args=args))
        call = ("EVALSHA", script.sha, len(names), *names, *args)
        try:
            answer = await self._line.call(*call)
        except redis.exceptions.NoScriptError:  # nothing ran: the server has forgotten it, or is another one
            await self._line.call("SCRIPT", "LOAD", script.script)
            answer = await self._line.call(*call)
        return cast(list[str], answer)

    def _enough(self, confirmed: list[int]) -> bool:
        """`confirmed`: how many local and replica disks have it."""
        return confirmed[0] >= 1 and confirmed[1] >= self._replicas

    async def refuse(self, signal_id: str, user_id: int, *, under: str = "") -> bool:
        """No send of it is recorded from now on; with `under`, none whose targets were resolved under that version of users
        and grants: they have changed, and it has not. False when one is recorded already: then it cannot be refused."""
        names = [keys.signal(signal_id), keys.refused(user_id, signal_id)]
        args: list[str | int] = [REFUSED_UNDER_MS, under] if under else [REFUSED_MS, TOO_OLD]
        return bool(await self._refuse(keys=names, args=args))

    async def safe(self, signal_id: str, digest: str) -> bool:
        """Whether a signal that was recorded before is where it must be: written once more, the same, and waited for."""
        if not self._replicas:
            return True
        pipe = self._redis.pipeline(transaction=False)
        pipe.hset(keys.signal(signal_id), "digest", digest)
        pipe.execute_command(*self._wait)
        _, confirmed = await pipe.execute(raise_on_error=False)
        return not isinstance(confirmed, redis.RedisError) and self._enough(confirmed)

    async def life(self) -> str:
        """Names the store's life: another one after each restart and failover."""
        if self._line is None:
            return str((await cast(Any, self._redis.info("replication"))).get("master_replid", ""))
        told = LIFE.search(await self._line.call("INFO", "replication"))
        return told[1] if told else ""

    async def look(self, names: Sequence[str]) -> list[str]:
        """For each key of a signal or order: the order's state, SIGNAL or PARTIAL, or "" when it is not there."""
        return await self._evaluate(self._look, names, ()) if names else []

    async def legs(self, order_ids: Sequence[str]) -> list[Leg]:
        """Those that can be read, in the order of their ids."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in order_ids:
                pipe.hget(keys.order(name), "leg")
            rows = await pipe.execute()
        return [leg for row in rows if row and (leg := read_leg(row)) is not None]

    async def known(self, signal_id: str) -> dict[str, str]:
        """The signal's record, empty when there is none."""
        return cast(dict[str, str], await cast(Any, self._redis.hgetall(keys.signal(signal_id))))

    async def view(
        self, signal_id: str, visible: frozenset[str] | set[str] | None = None
    ) -> SignalView | None:
        """The signal with those of its orders whose terminal is in `visible` (None = all)."""
        record = await self.known(signal_id)
        if not record:
            return None
        order_ids = [name for name in json.loads(record["orders"])]
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in order_ids:
                pipe.hmget(keys.order(name), ["report", "overdue"])
            rows = await pipe.execute()
        orders = [order_view(row[0], row[1]) for row in rows if row[0]]
        return signal_view(
            record, [order for order in orders if visible is None or order.terminal_id in visible], signal_id
        )


def order_view(report_json: str, overdue: str | None) -> OrderView:
    report = ExecutionReport.model_validate_json(report_json)
    return OrderView(
        order_id=report.order_id,
        terminal_id=report.terminal_id,
        state=report.state,
        overdue=overdue == "1",
        report=report,
    )


def signal_view(record: dict[str, str], orders: list[OrderView], signal_id: str) -> SignalView:
    body = json.loads(record["body"])
    return SignalView.model_validate(
        {
            "signal_id": signal_id,
            "action": body["action"],
            "signal": body,
            "user": record["username"],
            "source": record["source"],
            "accepted_ms": int(record["accepted_ms"]),
            "deadline_ms": int(record["deadline_ms"]),
            "orders": orders,
        }
    )


def read_leg(text: str) -> Leg | None:
    """A leg as the store has it. One that this version cannot read must not keep the others from being run."""
    try:
        return Leg.model_validate_json(text)
    except ValidationError as error:
        logger.error("a leg in the store cannot be read: %s", error, extra={"action": "drain"})
        return None


def publish_call(
    terminal_id: str, journal_id: str, epoch: int, reports: Sequence[JournalReport], after: int | None
) -> tuple[list[str], list[str | int]]:
    """Keys and arguments of PUBLISH."""
    names = [
        keys.REPORTS,
        keys.instance(terminal_id),
        keys.UNSETTLED,
        keys.outbox(terminal_id),
        keys.SIGNALS,
        keys.leg_seq(terminal_id),
    ]
    args: list[str | int] = [journal_id, epoch, "" if after is None else after]
    for item in reports:
        report = item.report
        names += [keys.order(report.order_id), keys.signal(report.signal_id)]
        state = report.state
        args += [
            report.order_id,
            report.report_seq,
            state._value_,
            int(state in SETTLED),
            item.position,
            item.deadline_ms,
            item.report_json,
            item.leg_json,
        ]
    return names, args


class ExecutorStore:
    """An executor's side of the state Redis. One thread owns it. Every method may raise redis.RedisError; what writes may
    raise EpochPassed, and nothing was written."""

    def __init__(self, client: "redis.Redis", terminal_id: str) -> None:
        self.redis = client
        self.terminal_id = terminal_id
        self._publish = client.register_script(PUBLISH)
        self._answer = client.register_script(ANSWER)

    def publish(
        self, journal_id: str, epoch: int, reports: Sequence[JournalReport], after: int | None = None
    ) -> int:
        """Merges reports (in journal order, at most some hundreds) forward; returns how many were new.

        `after`: the position published before. A store that has not come so far takes nothing and answers
        -1 - its position. Without reports the store only learns whose journal it is.
        """
        names, args = publish_call(self.terminal_id, journal_id, epoch, reports, after)
        return self._unless_passed(epoch, self._publish(keys=names, args=args))

    def _unless_passed(self, epoch: int, answer: Any) -> int:
        if isinstance(answer, list):
            raise EpochPassed(self.terminal_id, epoch, int(answer[0]))
        return int(answer)

    def published(self, epoch: int) -> tuple[str, int]:
        """(journal_id, position) as Redis has them; ("", 0) when it knows nothing. Raises EpochPassed."""
        names = ["journal_id", "position", "epoch"]
        row = cast(list[str | None], self.redis.hmget(keys.instance(self.terminal_id), names))
        if int(row[2] or 0) > epoch:
            raise EpochPassed(self.terminal_id, epoch, int(row[2] or 0))
        return row[0] or "", int(row[1] or 0)

    def waiting_legs(self, limit: int = 500) -> list[Leg]:
        """The oldest legs in the outbox, by leg_seq."""
        order_ids = cast(list[str], self.redis.zrange(keys.outbox(self.terminal_id), 0, limit - 1))
        if not order_ids:
            return []
        pipe = self.redis.pipeline(transaction=False)
        for name in order_ids:
            pipe.hget(keys.order(name), "leg")
        return [leg for row in pipe.execute() if row and (leg := read_leg(row)) is not None]

    def last_leg_seq(self) -> int:
        """The last leg number given to the terminal."""
        return int(cast(str | None, self.redis.get(keys.leg_seq(self.terminal_id))) or 0)

    def unsettled_legs(self) -> list[tuple[Leg, str, int]]:
        """(leg, state, report_seq) of every order of this terminal that Redis shows unsettled."""
        suffix = f":{self.terminal_id}"
        order_ids = [
            name
            for name in cast(list[str], self.redis.zrange(keys.UNSETTLED, 0, -1))
            if name.endswith(suffix)
        ]
        pipe = self.redis.pipeline(transaction=False)
        for name in order_ids:
            pipe.hmget(keys.order(name), ["leg", "state", "report_seq"])
        return [
            (leg, state, int(seq))
            for text, state, seq in pipe.execute()
            if text is not None and (leg := read_leg(text)) is not None
        ]

    def shown(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Account, positions, pending orders and drift log as the store has them."""
        names = (keys.account, keys.positions, keys.pending_orders, keys.drift)
        found = cast(list[str | None], self.redis.mget([name(self.terminal_id) for name in names]))
        return found[0], found[1], found[2], found[3]

    def answer(self, wish: Settlement, answer: Answer, epoch: int) -> None:
        """What became of a settlement by hand; the report of it is published before."""
        names = [
            keys.settlements(self.terminal_id),
            keys.settlement_answers(self.terminal_id),
            keys.instance(self.terminal_id),
        ]
        args: list[str | int] = [wish.order_id, wish.settlement_id, answer.model_dump_json(), epoch]
        self._unless_passed(epoch, self._answer(keys=names, args=args))

    def time_us(self) -> int:
        seconds, micros = self.redis.time()
        return int(seconds) * 1_000_000 + int(micros)

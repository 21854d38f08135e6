"""The order WebSocket, /ws/orders/: signals in; a snapshot, then reports, terminals and modes out.

Follows: tradedist.sockets (who, how much, in what order). Precedes: dispatch.accept. A user sees the terminals that
he is granted and nothing of others. Reports are never conflated or skipped; what a terminal holds is conflated.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs

import redis
from pydantic_core import to_json

from executors import grants, readmodel, snapshots
from executors.dispatch import accept, heard
from executors.errors import AcceptUnknown, Code, Refused
from executors.live import (
    Cursor,
    LiveTerminal,
    access_mark,
    live_report,
    live_terminal,
    of_report,
    parse_cursor,
)
from executors.messages import (
    CLIENT_MESSAGE,
    BrowserTrace,
    ExecutionReport,
    Ping,
    Resume,
    SendSignal,
    public_json,
)
from tradedist import keys, metrics, order_metrics
from tradedist.clock import monotonic_ms
from tradedist.hub import Event, entry_order
from tradedist.mailbox import TRY_AGAIN_LATER
from tradedist.rates import Buckets
from tradedist.sockets import LiveSocket

logger = logging.getLogger(__name__)

REPLAY_PAGE = 100
MAX_REPLAY = 2_000  # reports; a client that missed more gets a snapshot
TRACES_A_SECOND = 50  # of a user: a fan-out to a hundred terminals is a hundred orders
RETRY_S = (0.0, 0.05, 0.25)
SETTLE_S = 0.1  # configuration changes come in bursts
REFRESH_GAP_S = 1.0  # and must not keep the database busy
USER_AGE_S = (
    60.0  # before a signal the login is read again if its last look is older, or anything has changed
)

_traces = Buckets(TRACES_A_SECOND, 10 * TRACES_A_SECOND)
MAX_REPEATS = 100  # of one signal, that are answered together
_accepting: set[asyncio.Task[Any]] = set()  # accepted signals outlive their sockets


@dataclass(slots=True)
class Asked:
    """A signal that this socket is asked to accept, and the requests that wait for the answer."""

    wish: dict[str, Any]
    request_ids: list[str] = field(default_factory=list)


class OrderSocket(LiveSocket):
    kind = "orders"
    source = "state"
    messages = CLIENT_MESSAGE

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.visible: snapshots.Refs = {}
        self.who = grants.NOBODY
        self._access = ""
        self._catching_up = asyncio.Lock()
        self._refresh: asyncio.TimerHandle | None = None
        self._refreshed_at = 0.0
        self._signals: list[tuple[frozenset[str] | None, asyncio.Future[None]]] = []
        self._asked: dict[str, Asked] = {}  # signals whose answer is on its way, by signal_id

    async def opened(self, up: bool) -> None:
        await self._look()
        self.subscribe(keys.REPORTS, self._on_report)
        self.subscribe(keys.RTS_CHANGES, self._on_terminal)
        self.subscribe(keys.CONFIG_CHANGES, self._on_configuration)
        query = parse_qs(self.scope.get("query_string", b"").decode("latin1"))
        cursor = query.get("cursor", [None])[-1]
        if up and cursor:
            await self._resume(parse_cursor(cursor))
        elif up:  # otherwise the snapshot comes when Redis does
            await self._snapshot()

    async def handle(self, message: Any) -> None:
        match message:
            case SendSignal():
                await self._signal(message)
            case Resume():
                await self._resume(parse_cursor(message.cursor))
            case Ping():
                self.pong(message.at)
            case BrowserTrace():
                self._trace(message)

    def _trace(self, said: BrowserTrace) -> None:
        """A browser's times of its order. Too many of them are dropped: they are figures, nothing waits for them."""
        if _traces.take(self.user.pk, monotonic_ms()):
            order_metrics.browser_traces.labels("limited").inc()
        else:
            order_metrics.on_browser(said, self.user.pk)

    # --- Signals ---

    async def _signal(self, message: SendSignal) -> None:
        """Signals that share a terminal are accepted in the order sent; others do not wait for each other. One that is
        sent again before its answer gets that answer: a process that is behind would fall further behind otherwise."""
        wish = {name: value for name, value in message.signal.items() if name != "age_ms"}
        signal_id = str(message.signal.get("signal_id", ""))
        asked = self._asked.setdefault(signal_id, Asked(wish))
        if asked.wish != wish:
            asked = Asked(wish)  # another wish under the same id: refused by its own look
        elif asked.request_ids:
            if len(asked.request_ids) < MAX_REPEATS:
                asked.request_ids.append(message.request_id)
            return
        asked.request_ids.append(message.request_id)
        try:
            await self._signal_in_turn(message, asked)
        finally:
            if self._asked.get(signal_id) is asked:
                del self._asked[signal_id]

    async def _signal_in_turn(self, message: SendSignal, asked: Asked) -> None:
        came_ms = monotonic_ms()
        names = named_terminals(message.signal)
        earlier = [done for other, done in self._signals if names is None or other is None or names & other]
        mine: tuple[frozenset[str] | None, asyncio.Future[None]] = (
            names,
            asyncio.get_running_loop().create_future(),
        )
        self._signals.append(mine)
        try:
            if earlier:
                await asyncio.wait(earlier)
            if await self.recheck_user(max_age_s=USER_AGE_S):
                age_ms = message.signal.get("age_ms", 0)
                if type(age_ms) is int:  # it has waited here; what is no age is refused with its own words
                    waited = {"age_ms": age_ms + round(monotonic_ms() - came_ms)}
                    message = message.model_copy(update={"signal": message.signal | waited})
                await self._accept(message, asked)
        finally:
            self._signals.remove(mine)
            mine[1].set_result(None)

    async def _accept(self, message: SendSignal, asked: Asked) -> None:
        task = asyncio.ensure_future(accept(message.signal, self.user, source="socket", shielded=True))
        _accepting.add(task)
        task.add_done_callback(_accepting.discard)
        task.add_done_callback(heard)
        signal_id = str(message.signal.get("signal_id", ""))[:64]
        try:
            accepted = await asyncio.shield(task)
        except Refused as refused:
            metrics.rejected_orders.inc()
            self._refuse(asked, signal_id, refused.code, refused.message)
        except AcceptUnknown as unknown:
            self._refuse(asked, signal_id, unknown.code, unknown.message)
        except Exception:  # noqa: BLE001 (`heard` has logged it)
            text = "It is not known whether the signal was recorded. Send it again with the same signal_id."
            self._refuse(asked, signal_id, Code.ACCEPT_UNKNOWN, text)
        else:
            view = accepted.view
            if not accepted.created:  # a grant may have gone since
                orders = [order for order in view.orders if order.terminal_id in self.visible]
                view = view.model_copy(update={"orders": orders})
            # the view as text once: one of a hundred orders costs as much time as some of the orders themselves
            body = public_json(view)
            created = accepted.created
            for request_id in asked.request_ids:
                head = to_json({"type": "accepted", "request_id": request_id, "created": created}).decode()
                self.post_ahead(f'{head[:-1]},"signal":{body}}}')
                created = False

    def _refuse(self, asked: Asked, signal_id: str, code: str, message: str) -> None:
        for request_id in asked.request_ids:
            refused = {"type": "refused", "request_id": request_id, "signal_id": signal_id}
            self.answer(refused | {"code": code, "message": message})

    # --- Live ---

    def _on_report(self, event: Event) -> None:
        live = event.once(live_report)
        if live is not None and live.terminal_id in self.visible:
            self.post_text(live.body(self._cursor(event.entry_id)), live.stamp)

    def _on_terminal(self, event: Event) -> None:
        live = event.once(live_terminal)
        if live is not None and live.update.terminal_id in self.visible:
            self.post_latest(live.update.terminal_id, live)

    def _on_configuration(self, event: Event) -> None:
        if event.text == "*":
            self.spawn(self._tell_modes())
            return
        self.distrust()
        if self._refresh is None:
            loop = asyncio.get_running_loop()
            due = max(loop.time() + SETTLE_S, self._refreshed_at + REFRESH_GAP_S)
            self._refresh = loop.call_at(due, self._refresh_now)

    def _refresh_now(self) -> None:
        self._refresh = None
        self._refreshed_at = asyncio.get_running_loop().time()
        if not self.mailbox.closing:
            self.spawn(self._look_again())

    async def _look_again(self) -> None:
        if await self.recheck_user():
            await self.access_checked()

    async def access_checked(self) -> None:
        """What the user is and may see, read again. A change of it brings a snapshot."""
        before = self.who, self.visible
        await self._look()
        if (self.who, self.visible) != before:
            await self._snapshot()

    async def _look(self) -> None:
        self.who, self.visible = await snapshots.access(self.user)
        self._access = access_mark(self.visible.values())

    def _cursor(self, entry_id: str) -> Cursor:
        return Cursor(self.hub.epoch, entry_id, self._access)

    async def _tell_modes(self) -> None:
        try:
            modes = await readmodel.modes(self.hub.state, self.visible)
        except redis.RedisError:
            return  # the snapshot after the outage has them
        self.post({"type": "modes", "modes": modes})

    def source_came(self) -> None:
        self.distrust()  # a change may have gone unheard
        self.spawn(self._snapshot())  # terminals may have changed unheard; reports go on by themselves

    # --- Snapshot and replay: live reports wait meanwhile, so that nothing is missed between the two ---

    async def _snapshot(self) -> None:
        async with self._catching_up:
            await self._send_snapshot()

    async def _send_snapshot(self) -> None:
        self.mailbox.hold()
        cursor = ":".join(
            self._cursor(self.hub.last_id)
        )  # before the reads: they show at least what the reports up to here say
        try:
            snapshot = await self._read_snapshot()
        except redis.RedisError as error:
            logger.warning("no snapshot: %s", error)
            self.error(Code.UNAVAILABLE, "The state store does not answer. A snapshot follows when it does.")
            if self.hub.is_up("state"):  # the hub has not noticed: nothing would bring the snapshot
                self.end(TRY_AGAIN_LATER, "the state store does not answer; connect again")
        else:
            self.post_ahead(f'{{"cursor":"{cursor}",{snapshot[1:]}')
        finally:
            self.release()

    async def _read_snapshot(self) -> str:
        """Reads may repeat: after an outage the first one may meet a connection that died in it."""
        for pause_s in RETRY_S:
            try:
                return await snapshots.snapshot(self.hub.state, self.user, self.who, self.visible)
            except redis.RedisError:
                await asyncio.sleep(pause_s)
        return await snapshots.snapshot(self.hub.state, self.user, self.who, self.visible)

    async def _resume(self, cursor: Cursor | None) -> None:
        async with self._catching_up:
            try:
                if cursor is None or not await self._replay(cursor):
                    await self._send_snapshot()
            except redis.RedisError as error:
                logger.warning("no replay: %s", error)
                self.end(
                    TRY_AGAIN_LATER, "the state store does not answer; connect again with your last cursor"
                )

    async def _replay(self, cursor: Cursor) -> bool:
        """Sends what was reported after the cursor. False when that cannot be done without a gap."""
        hub = self.hub
        if cursor.epoch != hub.epoch or cursor.access not in ("", self._access):
            return False
        if entry_order(cursor.entry_id) > entry_order(hub.last_id):
            return False
        self.mailbox.hold()
        until = hub.last_id
        if not await snapshots.reaches_back(hub.state, cursor.entry_id):
            return False
        entries = cast(
            list[tuple[str, dict[str, str]]],
            await hub.state.xrange(keys.REPORTS, min=f"({cursor.entry_id}", max=until, count=MAX_REPLAY + 1),
        )
        if len(entries) > MAX_REPLAY:
            return False
        terminals = await readmodel.terminal_updates(hub.state, self.visible)
        modes = await readmodel.modes(hub.state, self.visible)
        for place, (entry_id, fields) in enumerate(entries, 1):
            try:
                report = ExecutionReport.model_validate_json(fields.get("report", ""))
            except ValueError:
                continue
            if report.terminal_id in self.visible:
                self.post_ahead(of_report(report, entry_id).body(self._cursor(entry_id)))
            if place % REPLAY_PAGE == 0:
                await self.drained()
        self.answer({"type": "resumed", "cursor": ":".join(self._cursor(until))})
        self.answer({"type": "modes", "modes": modes})
        for update in terminals:
            self.post_latest(update.terminal_id, LiveTerminal(update))
        self.release()
        return True


async def finish_accepting() -> None:
    """Returns when every signal under way is recorded; the process may end then."""
    if _accepting:
        await asyncio.wait(_accepting)


def named_terminals(signal: dict[str, Any]) -> frozenset[str] | None:
    """The terminals that a signal names; None when it may be any (groups, or not readable)."""
    targets = signal.get("targets")
    if not isinstance(targets, dict) or targets.get("groups"):
        return None
    names = targets.get("terminals")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return frozenset(names)

"""Watches what changes of levels do at a simulated venue: what they do not name stays, and the executor's own moves keep off
what an order is changing."""

from executors.messages import ModifySignal
from executors.orders import OPEN_OUTCOMES
from executors.terminals.base import SendReply, TradeRequest
from tests.simulated_store import Machine

SLTP = 6


class LevelsWatch:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.touched: list[str] = []
        self._seen = 0
        self._send = machine.venue.send
        machine.venue.send = self._watched  # type: ignore[method-assign]

    def check(self) -> None:
        """Of changes that are executed at once, on lists that show what was answered before."""
        assert not self.touched
        changes = self.machine.venue.changes
        for done in changes[self._seen :]:
            named = self._named(done.magic)
            if named is None or done.late:
                continue
            for name in done.before.keys() - named:
                assert done.after[name] == done.before[name], f"{name} of {done} was not named"
        self._seen = len(changes)

    def _watched(self, request: TradeRequest) -> SendReply:
        if request.action == SLTP and not request.magic:
            for row in self.machine.execution.open.values():
                for item in row.requests:
                    asked = item.outcome in OPEN_OUTCOMES and item.request.get("action") == SLTP
                    if asked and item.request["position"] == request.position:
                        self.touched.append(f"{request} while {row.order_id} is {item.outcome}")
        return self._send(request)

    def _named(self, magic: int) -> set[str] | None:
        """The levels that a request may change; None: of an order that a lost journal knew."""
        if not magic:
            return {"sl"}
        name = self.machine.journal.order_of_magic(magic)
        if name is None:
            return None
        signal = self.machine.row(name).leg.signal
        assert isinstance(signal, ModifySignal)
        wished = {
            "sl": signal.stop_loss, "tp": signal.take_profit, "price_open": signal.price, "type_time": signal.expires_ms,
            "expiration_ms": signal.expires_ms, "price_stoplimit": signal.limit_price,
        }  # fmt: skip
        return {field for field, wish in wished.items() if wish is not None}

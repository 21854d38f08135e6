"""Every order of events, exhaustively: a small model of the protocol, searched breadth first.

Two signals; a leg may arrive by any of three paths, at any time, any number of times or never (so one move stands for
all three: the outbox alone must suffice); executors that crash at each step and are started again; a store that falls
back to what its replica had; an operator's move of the terminal to a second executor with a new journal. Proven over
all of it: NoDup (the broker executes no order twice), ForwardOnly (journal and projection never step back, except that a
rollback takes the projection with it), NoLost (from every state, once faults end, all that was accepted gets settled, its
truth shown).

Beyond its bounds, and known: a fill that comes after NOT_EXECUTED *and* after the journal was lost is not adopted (it is
shown as a position without an order); a journal and a store that lose the same order together.

Two orders with two crashes and a rollback are 265,000 worlds: searched when PROTOCOL_SEARCH_FULL is set.

The moves of an order are those of `orders.TRANSITIONS`; each move here names the code that it stands for.
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from executors.orders import SETTLED, OrderState, advance

S = OrderState
LIMIT = 400_000  # states: beyond it the model has grown out of its bounds


@dataclass(frozen=True, slots=True)
class Leg:
    """One order: what the broker, the journal, the store and its replica have of it."""

    accepted: bool = False  # by a store that may have forgotten it since; copies of it may arrive for ever
    executions: int = 0
    flying: bool = False  # sent, unanswered and not executed: may still be executed
    journal: tuple[OrderState, int] | None = None  # state, report_seq
    store: tuple[OrderState, int] | None = None
    replica: tuple[OrderState, int] | None = None
    seq: int = 0  # leg_seq as the store has given it


@dataclass(frozen=True, slots=True)
class World:
    legs: tuple[Leg, ...]
    log: tuple[tuple[int, OrderState, int], ...] = ()  # the journal's reports: leg, state, report_seq
    waiting: frozenset[int] = frozenset()  # legs in the executor's queue
    at: tuple[int, str] | None = None  # the leg being sent: "intent" on disk, "filled", "lost" or "refused"
    alive: bool = False
    compared: bool = False
    published: int = 0  # as the link believes
    held: tuple[int, int] = (0, 0)  # journal id and position as the store has them
    held_replica: tuple[int, int] = (0, 0)
    counter: int = 0
    counter_replica: int = 0
    journal_id: int = 1
    floor: int = 0  # leg numbers up to which a lost journal may have run legs
    behind: bool = False  # the store was rolled back and has not got all reports again
    crashes: int = 0
    rollbacks: int = 0
    moves: int = 0


def put(world: World, number: int, **changes: object) -> World:
    legs = list(world.legs)
    legs[number] = replace(legs[number], **changes)  # type: ignore[arg-type]
    return replace(world, legs=tuple(legs))


def record(world: World, number: int, *states: OrderState) -> World:
    """Journal.record: one commit, whatever it holds."""
    for state in states:
        old, seq = world.legs[number].journal or (S.QUEUED, 0)
        world = put(world, number, journal=(advance(old, state), seq + 1))
        world = replace(world, log=(*world.log, (number, state, seq + 1)))
    return world


class Protocol:
    def __init__(
        self,
        *,
        crashes: int = 0,
        rollbacks: int = 0,
        moves: int = 0,
        late_fills: bool = False,
        refusals: bool = False,
    ) -> None:
        self.crashes = crashes
        self.rollbacks = rollbacks
        self.moves = moves
        self.late_fills = late_fills
        self.refusals = refusals

    def steps(self, world: World) -> Iterator[tuple[bool, World]]:
        """Every next world; True for what the protocol itself does, False for senders and faults."""
        for number, leg in enumerate(world.legs):
            if leg.store is None:
                yield False, self.accept(world, number)
            if leg.flying and self.late_fills:
                yield False, put(world, number, executions=leg.executions + 1, flying=False)
        if world.alive:
            yield from ((True, item) for item in self.executor(world))
        else:
            yield True, replace(self.start(world), alive=True)
        if world.rollbacks < self.rollbacks and not world.moves:
            yield False, self.roll_back(world)
        if world.alive and world.crashes < self.crashes:
            yield False, replace(self.killed(world), crashes=world.crashes + 1)
        if world.moves < self.moves and self.complete(world):
            yield False, self.move(world)
        if world.rollbacks < self.rollbacks and any(leg.replica != leg.store for leg in world.legs):
            yield False, self.replicate(world)

    def complete(self, world: World) -> bool:
        """Whether the store has all that was accepted and published: only then may a journal be lost. A journal and a
        store that lose the same order together are beyond what can be healed."""
        return not world.behind and all(leg.store is not None or not leg.accepted for leg in world.legs)

    # --- the store and its senders ---

    def accept(self, world: World, number: int) -> World:
        """accept.lua; the sender, or the web's spool, repeats what the store has forgotten."""
        world = replace(world, counter=world.counter + 1)
        return put(world, number, accepted=True, store=(S.QUEUED, 0), seq=world.counter)

    def replicate(self, world: World) -> World:
        world = replace(world, held_replica=world.held, counter_replica=world.counter)
        for number, leg in enumerate(world.legs):
            world = put(world, number, replica=leg.store)
        return world

    def roll_back(self, world: World) -> World:
        world = replace(world, held=world.held_replica, counter=world.counter_replica, behind=True)
        for number, leg in enumerate(world.legs):
            world = put(world, number, store=leg.replica)
        return replace(world, rollbacks=world.rollbacks + 1)

    # --- the process ---

    def killed(self, world: World) -> World:
        """SIGKILL: only the journal is left. An unanswered send may or may not be executed by now, or later."""
        return replace(world, alive=False, compared=False, waiting=frozenset(), at=None)

    def start(self, world: World) -> World:
        """Resolution.recover: INTENT without RESULT is UNKNOWN."""
        for number, leg in enumerate(world.legs):
            if leg.journal is not None and leg.journal[0] is S.INTENT:
                world = record(world, number, S.UNKNOWN)
        return world

    def move(self, world: World) -> World:
        """The first executor is proven dead; a second one begins with a journal of its own."""
        world = replace(self.killed(world), log=(), published=0, floor=0, moves=world.moves + 1)
        for number in range(len(world.legs)):
            world = put(world, number, journal=None)
        return replace(world, journal_id=world.journal_id + 1)

    def executor(self, world: World) -> Iterator[World]:
        for number, leg in enumerate(world.legs):
            if leg.accepted and number not in world.waiting and leg.journal is None and leg.seq > world.floor:
                yield replace(world, waiting=world.waiting | {number})  # Execution.arrive, by any path
        if not world.compared:
            yield self.compare(world)
            return
        for number, leg in enumerate(world.legs):
            if leg.store == (S.QUEUED, 0) and leg.journal is None and leg.seq <= world.floor:
                yield self.adopt(
                    world, number
                )  # Execution.adopt: the outbox has what the lost journal may have run
        if world.at is None:
            for number in sorted(world.waiting):
                yield self.run_next(world, number)
            for number, leg in enumerate(world.legs):
                if leg.journal is not None:
                    yield from self.look(world, number, leg)
        else:
            yield from self.send(world, *world.at)
        if world.published < len(world.log) or world.held != (world.journal_id, world.published):
            yield self.publish(world)

    def compare(self, world: World) -> World:
        """Link._compare_first and LostJournal.adopt: one commit."""
        journal_id, position = world.held
        if journal_id not in (0, world.journal_id):
            world = replace(world, floor=world.counter, held=(world.journal_id, 0))
            for number, leg in enumerate(world.legs):
                if leg.store is not None and leg.store[0] not in SETTLED and leg.journal is None:
                    world = self.adopt(world, number)
            kept = {number for number in world.waiting if world.legs[number].seq > world.floor}
            world = replace(world, waiting=frozenset(kept))
            position = 0
        elif not journal_id:
            world = replace(
                world, held=(world.journal_id, 0)
            )  # before its first order, for the case of a loss
        published = position if world.held[0] == world.journal_id else 0
        return replace(world, compared=True, published=published)

    def adopt(self, world: World, number: int) -> World:
        held = world.legs[number].store
        assert held is not None
        if held[0] is S.QUEUED:
            return record(world, number, S.INTENT, S.UNKNOWN)
        world = put(world, number, journal=held)
        return world if held[0] is S.UNKNOWN else record(world, number, S.UNKNOWN)

    def run_next(self, world: World, number: int) -> World:
        """Execution.run_next: INTENT is on disk before anything is sent; what the journal knows is not run."""
        world = replace(world, waiting=world.waiting - {number})
        if world.legs[number].journal is not None:
            return world
        return replace(record(world, number, S.INTENT), at=(number, "intent"))

    def send(self, world: World, number: int, phase: str) -> Iterator[World]:
        """Terminal.send, then its RESULT."""
        executions = world.legs[number].executions
        match phase:
            case "intent":
                done = put(world, number, executions=executions + 1)
                yield replace(done, at=(number, "filled"))
                yield replace(done, at=(number, "lost"))
                yield replace(put(world, number, flying=True), at=(number, "lost"))
                if self.refusals:
                    yield replace(world, at=(number, "refused"))
            case "filled":
                yield replace(record(world, number, S.FILLED), at=None)
            case "refused":
                yield replace(record(world, number, S.REJECTED), at=None)
            case _:
                yield replace(record(world, number, S.UNKNOWN), at=None)

    def look(self, world: World, number: int, leg: Leg) -> Iterator[World]:
        """Resolution.look and adopt_late. Never sends."""
        assert leg.journal is not None
        state = leg.journal[0]
        if state is S.UNKNOWN:
            yield record(world, number, S.FILLED if leg.executions else S.NOT_EXECUTED)
        elif state is S.NOT_EXECUTED and leg.executions:
            yield record(world, number, S.FILLED)

    def publish(self, world: World) -> World:
        """publish.lua, one report a call: forward only, and not past what a rolled-back store has."""
        reached = world.held[1] if world.held[0] == world.journal_id else 0
        if reached < world.published:
            return replace(world, published=reached)
        if world.published == len(world.log):
            return replace(world, held=(world.journal_id, world.published), behind=False)
        number, state, seq = world.log[world.published]
        known = world.legs[number].store
        opens = known is not None and known[0] in SETTLED - {S.NOT_EXECUTED} and state not in SETTLED
        if known is None or (known[1] < seq and not opens):
            world = put(world, number, store=(state, seq))
            world = replace(world, counter=max(world.counter, world.legs[number].seq))
        position = world.published + 1
        return replace(
            world,
            published=position,
            held=(world.journal_id, position),
            behind=world.behind and position < len(world.log),
        )


def check_step(before: World, after: World) -> None:
    for old, new in zip(before.legs, after.legs, strict=True):
        assert new.executions <= 1, "NoDup"
        if before.journal_id == after.journal_id and old.journal is not None:
            assert new.journal is not None, "ForwardOnly: the journal"
            assert new.journal[1] >= old.journal[1], "ForwardOnly: the journal"
        if before.rollbacks == after.rollbacks and old.store is not None:
            assert new.store is not None, "ForwardOnly: the projection"
            assert new.store[1] >= old.store[1], "ForwardOnly: the projection"
            ended = old.store[0] in SETTLED and old.store[0] is not S.NOT_EXECUTED
            assert not ended or new.store[0] is old.store[0], "ForwardOnly: what has ended stays so"


def good(world: World) -> bool:
    """All that the store has was settled, and store and journal tell the broker's truth."""
    for leg in world.legs:
        if leg.store is None:
            if leg.journal is not None:
                return False  # executed, and the store does not know
            continue
        if leg.store[0] not in SETTLED or (leg.store[0] is S.FILLED) != bool(leg.executions):
            return False
        if leg.journal is not None and leg.journal != leg.store:
            return False
    return True


def canonical(world: World) -> World:
    """The same world for both names of two orders: which one is called the first does not matter."""
    if len(world.legs) < 2:
        return world
    other = replace(
        world,
        legs=world.legs[::-1],
        log=tuple((1 - number, state, seq) for number, state, seq in world.log),
        waiting=frozenset(1 - number for number in world.waiting),
        at=None if world.at is None else (1 - world.at[0], world.at[1]),
    )
    return min(world, other, key=hash)


def search(protocol: Protocol, signals: int) -> int:
    """Visits every world; returns how many there are."""
    first = World(tuple(Leg() for _ in range(signals)))
    seen: dict[World, int] = {first: 0}
    todo = deque([first])
    back: list[list[int]] = [[]]  # by the protocol's own steps: after → before
    healed: list[int] = []
    while todo:
        world = todo.popleft()
        number = seen[world]
        if good(world):
            healed.append(number)
        for own, step in protocol.steps(world):
            if step == world:
                continue
            check_step(world, step)
            after = canonical(step)
            if after not in seen:
                assert len(seen) < LIMIT, "the model has outgrown its bounds"
                seen[after] = len(back)
                back.append([])
                todo.append(after)
            if own:
                back[seen[after]].append(number)
    can_heal = set(healed)
    todo_back = deque(healed)
    while todo_back:
        for before in back[todo_back.popleft()]:
            if before not in can_heal:
                can_heal.add(before)
                todo_back.append(before)
    if len(can_heal) < len(back):
        stuck = next(world for world, number in seen.items() if number not in can_heal)
        pytest.fail(f"NoLost: nothing that the protocol does settles this any more: {stuck}")
    return len(seen)


@pytest.mark.parametrize(
    ("signals", "protocol"),
    [
        (1, Protocol(crashes=2, rollbacks=1, late_fills=True, refusals=True)),
        (1, Protocol(crashes=2, rollbacks=1, moves=1, refusals=True)),
        (2, Protocol(crashes=2, moves=1)),
        (2, Protocol(rollbacks=1)),
        pytest.param(
            2,
            Protocol(crashes=2, rollbacks=1),
            marks=[
                pytest.mark.skipif("PROTOCOL_SEARCH_FULL" not in os.environ, reason="takes two minutes"),
                pytest.mark.timeout(600),
            ],
        ),
    ],
    ids=["late fill", "move and rollback", "two crashes, a move", "a rollback", "two crashes, a rollback"],
)
def test_nothing_is_lost_or_doubled_in_any_order_of_events(signals: int, protocol: Protocol) -> None:
    assert search(protocol, signals) > 1_000


class Blind(Protocol):
    """An executor that runs what arrives without asking its journal."""

    def run_next(self, world: World, number: int) -> World:
        world = replace(world, waiting=world.waiting - {number})
        journal = world.legs[number].journal
        if journal is not None and journal[0] is not S.INTENT:
            return replace(world, at=(number, "intent"))
        return super().run_next(world, number)

    def executor(self, world: World) -> Iterator[World]:
        yield from super().executor(world)
        for number, leg in enumerate(world.legs):
            if leg.accepted and number not in world.waiting and leg.journal is not None:
                yield replace(world, waiting=world.waiting | {number})


class Resends(Protocol):
    """An executor that takes an unanswered request for one that was not sent."""

    def start(self, world: World) -> World:
        for number, leg in enumerate(world.legs):
            if leg.journal is not None and leg.journal[0] is S.INTENT:
                world = put(world, number, journal=None)
        return world


class Forgetful(Protocol):
    """An accept that sets an order back to QUEUED, and a publisher that never looks back."""

    def publish(self, world: World) -> World:
        reached = world.held[1] if world.held[0] == world.journal_id else 0
        if reached < world.published < len(world.log):
            world = replace(world, held=(world.journal_id, world.published))
        if world.published == len(world.log):
            return replace(world, held=(world.journal_id, world.published), behind=False)
        return super().publish(world)


class Trusting(Protocol):
    """A new journal that runs whatever it does not know."""

    def compare(self, world: World) -> World:
        return replace(world, compared=True, held=(world.journal_id, 0), published=0)


@pytest.mark.parametrize(
    ("broken", "finding"),
    [
        (Blind(), "NoDup|ForwardOnly|→"),
        (Resends(crashes=1), "NoDup|ForwardOnly"),
        (Forgetful(rollbacks=1), "NoLost"),
        (Trusting(moves=1), "NoDup"),
    ],
    ids=["blind", "resends", "forgetful", "trusting"],
)
def test_the_search_finds_what_is_broken_on_purpose(broken: Protocol, finding: str) -> None:
    with pytest.raises((AssertionError, ValueError, pytest.fail.Exception), match=finding):
        search(broken, 1)

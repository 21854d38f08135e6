"""The nemesis' schedule: the same from the same seed, everything in it, and nothing of the broker's left out."""

from collections import Counter
from itertools import pairwise

from executors.terminals.paper.broker.faults import OF_A_CALL, STANDING
from tests.chaos.schedule import BROKER_FAULTS, FROZEN_S, KINDS, PAUSE_S, schedule

PROCESSES = ["beat", "feed", "paper-broker", "terminals", "valkey-state", "web"]
TERMINALS = ["oslo-1", "rome-2"]
LEFT_OUT = {"wide_spread"}  # it changes prices, for everybody


def test_the_same_seed_makes_the_same_faults() -> None:
    first = schedule(7, 3600, PROCESSES, TERMINALS)
    assert first == schedule(7, 3600, PROCESSES, TERMINALS)
    assert first != schedule(8, 3600, PROCESSES, TERMINALS)


def test_an_hour_has_everything_and_keeps_the_pauses() -> None:
    faults = schedule(1, 3600, PROCESSES, TERMINALS)
    gaps = [after.at_s - before.at_s for before, after in pairwise(faults)]
    assert all(PAUSE_S[0] <= gap <= PAUSE_S[1] for gap in gaps)
    assert {kind for kind, _ in KINDS} == {fault.kind for fault in faults}
    killed = Counter(fault.target for fault in faults if fault.kind in ("kill", "freeze"))
    assert {*killed} == {*PROCESSES, *(f"terminal.{name}" for name in TERMINALS)}
    frozen = [fault.for_s for fault in faults if fault.kind == "freeze"]
    assert FROZEN_S[0] <= min(frozen) < 1 < max(frozen) <= FROZEN_S[1]
    assert len(schedule(1, 3600, PROCESSES, TERMINALS, haste=3)) > 2.5 * len(faults)


def test_every_fault_of_the_broker_is_among_them() -> None:
    assert {*BROKER_FAULTS} == {*OF_A_CALL, *STANDING} - LEFT_OUT

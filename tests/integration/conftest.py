"""Fixtures of several integration tests."""

from tests.rig import rig_broker, rig_of

__all__ = ["rig_broker", "rig_of"]

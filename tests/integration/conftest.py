"""Fixtures of several integration tests."""

from tests.paper import paper_broker
from tests.rig import rig_broker, rig_of
from tests.running_executor import executor_broker, running_executor

__all__ = ["executor_broker", "paper_broker", "rig_broker", "rig_of", "running_executor"]

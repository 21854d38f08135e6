"""The admin's people, and an admin's browser."""

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

if TYPE_CHECKING:  # models are known only when Django is set up, which is after this file was read
    from tests.integration.people import World


@pytest.fixture
def world(transactional_db: None, state_redis: Any, ticks_redis: Any, settings: Any) -> "World":
    from tests.integration.people import FAST_HASHERS, World

    settings.PASSWORD_HASHERS = FAST_HASHERS
    return World()


@pytest.fixture
def ann(world: "World") -> Client:
    client = Client()
    client.force_login(world.ann)
    return client

"""`manage.py run_feed`: the feed process. Takes the executors' ticks, writes candles; see charts.feed."""

import asyncio
import contextlib
import errno
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from charts.feed import Feed
from charts.feed_metrics import serve
from charts.state import TickStore
from tradedist.redis import async_state, async_ticks
from tradedist.wire import Keyring


class Command(BaseCommand):
    help = "Takes ticks by UDP and TCP on FEED_PORT and writes ticks and candles to the tick Redis."
    requires_system_checks: list[str] = []  # it needs no database

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(_run())
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise CommandError(
                f"FEED_PORT {settings.FEED_PORT} or FEED_METRICS_PORT {settings.FEED_METRICS_PORT} is in use, perhaps "
                "by another feed. Stop it, or set other ports."
            ) from None


async def _run() -> None:
    ticks, state = async_ticks(), async_state()
    feed = Feed(TickStore(ticks, state, settings.HOST_ID), Keyring({0: settings.WIRE_KEY}))
    stop_metrics = serve(feed, settings.FEED_METRICS_PORT)
    task = asyncio.create_task(feed.run(settings.FEED_BIND, settings.FEED_PORT))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass  # asked to stop: a batch under way is settled by the next start
    finally:
        stop_metrics()
        await ticks.aclose()
        await state.aclose()

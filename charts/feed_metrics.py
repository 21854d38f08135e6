"""The feed's Prometheus metrics, on loopback. Read at each scrape from the feed itself; nothing is counted twice."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from charts.feed import Feed
from tradedist.clock import now_ms
from tradedist.metrics_port import serve_metrics


class FeedCollector(Collector):
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def collect(self) -> Iterator[Metric]:
        feed = self._feed
        events = CounterMetricFamily(
            "feed_events",
            "Frames and ticks by what became of them: see docs/market-data.md.",
            labels=["event"],
        )
        counted = {
            **feed.pipeline.totals(),
            "frames_rejected": feed.rejected,
            "connections_refused": feed.connections_refused,
            "writes": feed.writes,
            "write_failures": feed.write_failures,
            "write_errors": feed.write_errors,
        }
        for event, value in sorted(counted.items()):
            events.add_metric([event], value)
        yield events
        yield GaugeMetricFamily(
            "feed_ticks_per_second", "Ticks that counted, last second.", value=feed.ticks_per_s
        )
        yield GaugeMetricFamily("feed_connections", "Sources connected by TCP.", value=feed.connections)
        yield GaugeMetricFamily(
            "feed_redis_up", "1 while Redis takes writes.", value=int(not feed.breaker_open)
        )
        yield GaugeMetricFamily("feed_write_seconds", "The last transaction.", value=feed.write_ms / 1000)
        alive = GaugeMetricFamily(
            "feed_source_alive", "1 when heard within 2 s.", labels=["terminal", "priority"]
        )
        for name, source in feed.pipeline.sources(now_ms()).items():
            alive.add_metric([name, str(source["priority"])], int(bool(source["alive"])))
        yield alive


def serve(feed: Feed, port: int) -> Callable[[], None]:
    """Serve /metrics; returns what stops it."""
    registry = CollectorRegistry()
    registry.register(FeedCollector(feed))
    server, thread = serve_metrics(port, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(2)

    return stop

"""Pure: what a browser says of an order's way, and the hops that an order's trace is made of.

Precedes: tradedist.order_metrics. Follows: reports carry the server's part in `trace`; the page sends its own part.
"""

from executors.messages import BrowserTrace, ExecutionReport

DAY_MS = 86_400_000
OWN, BROKER, PAGE = "own", "broker", "page"

# hop → whose time it is, in the order in which they follow each other
PARTS = {
    "up": PAGE,  # from the click in the browser to the web process
    "accept": OWN,  # there, until Redis has it on disk
    "wake": OWN,  # to the executor, by the wake-up that won
    "queue": OWN,  # until it is its turn
    "rules": OWN,  # limits, sizing, prices
    "journal": OWN,  # INTENT on disk
    "broker": BROKER,
    "publish": OWN,  # the result on disk and in Redis
    "deliver": OWN,  # to the hub of the web process
    "back": PAGE,  # from the broker's answer to the page: publish, deliver and the network together
    "answer": PAGE,  # from the click to the page's knowing that it is accepted
    "total": PAGE,  # from the click to the report on the page
}
SPANS = ("accept", "wake", "queue", "rules", "journal", "broker")


def server_spans(report: ExecutionReport) -> dict[str, float]:
    """hop → seconds, of the hops that the report itself carries."""
    found = {name: report.trace.get(f"{name}_us") for name in SPANS}
    return {name: span / 1e6 for name, span in found.items() if span is not None}


def browser_spans(said: BrowserTrace, received_ms: int, answered_ms: int) -> dict[str, float]:
    """hop → seconds, of the browser's hops; empty when its clock cannot be right."""
    spans = {
        "up": received_ms - (said.clicked_ms + said.offset_ms),
        "back": said.reported_ms + said.offset_ms - answered_ms,
        "total": said.reported_ms - said.clicked_ms,
    }
    if said.accepted_ms is not None:
        spans["answer"] = said.accepted_ms - said.clicked_ms
    slack = (
        said.rtt_ms + 2
    )  # the clock was measured by a ping, and the server's points are whole milliseconds
    if any(not -slack <= span <= DAY_MS for span in spans.values()):
        return {}
    return {name: max(0.0, span) / 1000 for name, span in spans.items()}

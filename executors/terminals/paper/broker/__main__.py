"""`python -m executors.terminals.paper.broker --directory DIR --url tcp://127.0.0.1:0`: the broker without Django."""

import argparse
import logging
from pathlib import Path

from executors.terminals.paper import wire
from executors.terminals.paper.broker.broker import Options
from executors.terminals.paper.broker.server import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="paper-broker", description="A simulated MetaTrader 5 trade server")
    parser.add_argument("--directory", type=Path, required=True, help="of the ledger and personalities.toml")
    parser.add_argument("--url", default=wire.DEFAULT_URL, help="tcp://host:port; port 0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="the port is written there when the broker listens")
    parser.add_argument("--speed", type=float, default=1.0, help="of the recordings")
    parser.add_argument("--seed", type=int, default=0, help="of the market's phase, faults and slippage")
    parser.add_argument("--latency-scale", type=float, default=0.0, help="times the personalities' latencies")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    run(
        Options(options.directory, options.url, options.speed, options.seed, options.latency_scale),
        port_file=options.port_file,
    )


if __name__ == "__main__":
    main()

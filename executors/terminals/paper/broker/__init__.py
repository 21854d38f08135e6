"""The paper broker: a trade server of its own process, with a durable ledger. `server.py` is where to start reading."""

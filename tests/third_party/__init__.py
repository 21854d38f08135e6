"""Programs of others, from PyPI, unmodified and in pinned versions, that trade through the MetaTrader5 package.

They run in processes of their own under `python -m executors.terminals.paper`, against a real paper broker.
"""

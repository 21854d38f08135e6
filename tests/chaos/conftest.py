"""Thousands of requests are sent here; a line for each would hide what a run prints."""

import logging

logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("asyncio").setLevel(logging.ERROR)

"""The project. What is set here must be set before any library reads it, in every process.

A process's title (executors name their terminal in `ps`) must leave its environment alone: by it a run knows what is its own.
"""

import os

os.environ.setdefault("SPT_NOENV", "1")  # setproctitle: do not write over the environment
os.environ.setdefault("NOSETPS", "1")  # Celery: leave the titles to us

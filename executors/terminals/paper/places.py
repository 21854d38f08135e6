"""Where things of the paper module lie: for PYTHONPATH of programs that run under it."""

from pathlib import Path

STANDIN = str(Path(__file__).resolve().parent / "standin")  # holds a MetaTrader5 that is the paper module
ROOT = str(Path(__file__).resolve().parents[3])

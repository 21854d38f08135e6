"""Terminals: one protocol (`base`), three implementations: `metatrader`, `remote`, `paper`."""

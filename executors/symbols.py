"""Pure: canonical symbol names to a broker's own and back, by a terminal's explicit map, prefix and suffix.

Precedes: every terminal call, ticks and positions. Follows: messages.TerminalConfig. The canonical side is what users,
signals and charts know; the broker side is what the terminal knows.
"""

from executors.messages import TerminalConfig


def to_broker(config: TerminalConfig, symbol: str) -> str:
    """The terminal's own name of a canonical symbol. Whether the broker has it, only the terminal knows."""
    mapped = config.symbol_map.get(symbol)
    return mapped if mapped is not None else f"{config.symbol_prefix}{symbol}{config.symbol_suffix}"


def to_canonical(config: TerminalConfig, broker_symbol: str) -> str:
    """The canonical name of a terminal's symbol; a symbol outside the mapping keeps its own name.

    So that a position in a symbol we do not map can still be shown. Whoever acts on positions compares broker names
    (`to_broker(config, symbol) == position.symbol`), since an unmapped name may read like another canonical one.
    """
    for symbol, mapped in config.symbol_map.items():
        if mapped == broker_symbol:
            return symbol
    prefix, suffix = config.symbol_prefix, config.symbol_suffix
    if broker_symbol.startswith(prefix) and broker_symbol.endswith(suffix):
        symbol = broker_symbol[len(prefix) : len(broker_symbol) - len(suffix)]
        # A name that the explicit map sends elsewhere is not this symbol: its plain form is only a namesake.
        if symbol and symbol not in config.symbol_map:
            return symbol
    return broker_symbol


def is_mapped(config: TerminalConfig, broker_symbol: str) -> bool:
    """Whether the terminal's symbol has a canonical name that leads back to it."""
    return to_broker(config, to_canonical(config, broker_symbol)) == broker_symbol

// Messages as the server sends them, with what a test does not care about filled in.

export const account = (currency, more = {}) => ({
  login: 1, server: "Demo", currency, balance: 1_000, equity: 1_000, margin: 0, margin_free: 1_000, margin_level: 0,
  profit: 0, trade_allowed: true, connected: true, ...more,
});

export const terminal = (id, more = {}) => ({
  terminal_id: id, label: id.toUpperCase(), status: "READY", mode: "ACTIVE", effective_mode: "ACTIVE", can_trade: true,
  enabled: true, stale: false, groups: [], last_error: "", latency_us: null, broker_us: null, account: account("USD"), ...more,
});

export const position = (terminalId, ticket, more = {}) => ({
  terminal_id: terminalId, position_ticket: ticket, symbol: "EURUSD", side: "buy", lots: 0.1, price_open: 1.1,
  price_current: 1.1, profit: 0, swap: 0, opened_ms: 1_000, ...more,
});

export const report = (signalId, terminalId, seq, state, more = {}) => ({
  order_id: `${signalId}:${terminalId}`, signal_id: signalId, terminal_id: terminalId, report_seq: seq, state,
  action: "open", symbol: "EURUSD", side: "buy", lots: 0.1, filled_lots: 0, price: null, code: "", message: "",
  retcode: null, position_tickets: [], deal_tickets: [], time_ms: 1_000 + seq, trace: { accepted: 1_000 }, ...more,
});

export const view = (made) => ({ order_id: made.order_id, terminal_id: made.terminal_id, state: made.state, overdue: false, report: made });

export const snapshot = (more = {}) => ({
  type: "snapshot", n: 1, cursor: "0123456789abcdef:1-0", user: { name: "tina", role: "trader", may_trade: true },
  modes: { global: "ACTIVE", terminals: {} }, terminals: [terminal("a"), terminal("b")], positions: [], orders: [], ...more,
});

export const accepted = (signal, reports) => ({
  type: "accepted", n: 2, request_id: "", created: true,
  signal: { signal_id: signal.signal_id, action: signal.action, user: "tina", accepted_ms: 1_000, orders: reports.map(view) },
});

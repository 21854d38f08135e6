// @ts-check
// Terminals: whether they run, their mode, the account's money, how long the last order took by us and by the broker.
import { micros, moment, money, percent, signed, stateName, tone } from "../format.js";
import { sortedTerminals, sumBy } from "../selectors.js";
import { KeyedNodes, el, fillCell, find, onceAFrame, setClass, setText, tableRow } from "./dom.js";

/**
 * @import {Terminal} from "../messages.js"
 * @import {Store} from "../store.js"
 * @typedef {{node: HTMLTableRowElement, cells: Record<string, HTMLTableCellElement>, dot: HTMLElement, name: HTMLElement, mode: HTMLElement}} Row
 */

const COLUMNS = ["terminal", "status", "mode", "account", "balance.r", "equity.r", "margin.r", "free.r", "level.r", "profit.r", "own.r", "broker.r", "note.wide"];

/** The dot's class for a terminal's state. @param {Terminal} terminal */
export function dotOf(terminal) {
  if (terminal.stale || !terminal.enabled) return "dot";
  if (terminal.status === "READY") return terminal.effective_mode === "ACTIVE" ? "dot dot-good" : "dot dot-warn";
  return terminal.status === "STARTING" || terminal.status === "CONNECTING" ? "dot dot-warn" : "dot dot-bad";
}

/** @param {Terminal} terminal */
export function statusText(terminal) {
  if (!terminal.enabled) return "Disabled";
  return stateName(terminal.status) + (terminal.stale ? " · silent" : "");
}

/** @param {{store: Store}} parts */
export function attachTerminals({ store }) {
  const root = find("#panel-terminals", HTMLElement);
  const empty = find("[data-empty]", HTMLElement, root);
  const totals = find("#terminal-totals", HTMLElement);
  const tab = find("[data-testid=count-terminals]", HTMLElement);
  const globalMode = find("#global-mode", HTMLElement);
  const alertCount = find("#alert-count", HTMLElement);

  /** @returns {Row} */
  function makeRow() {
    const row = tableRow("terminal", COLUMNS);
    const dot = el("span");
    const name = el("b");
    const mode = el("span", { "data-testid": "terminal-mode" });
    row.cells["terminal"]?.append(el("span", { class: "name" }, dot, name));
    row.cells["mode"]?.append(mode);
    return { ...row, dot, name, mode };
  }

  /** @type {KeyedNodes<Terminal, Row>} */
  const rows = new KeyedNodes(find("tbody", HTMLElement, root), makeRow, ({ node, cells, dot, name, mode }, terminal) => {
    const { account } = terminal;
    Object.assign(node.dataset, { terminal: terminal.terminal_id, status: terminal.status });
    setClass(dot, dotOf(terminal));
    setText(name, terminal.label || terminal.terminal_id);
    node.title = terminal.terminal_id;
    fillCell(cells["status"], statusText(terminal));
    setClass(mode, terminal.effective_mode === "ACTIVE" ? "badge badge-good" : terminal.effective_mode === "HALTED" ? "badge badge-bad" : "badge badge-warn");
    setText(mode, stateName(terminal.effective_mode) + (terminal.effective_mode !== terminal.mode ? " (all)" : ""));
    fillCell(cells["account"], account ? `${account.login} · ${account.server}` : "–");
    fillCell(cells["balance"], account ? `${money(account.balance)} ${account.currency}` : "–");
    fillCell(cells["equity"], money(account?.equity));
    fillCell(cells["margin"], money(account?.margin));
    fillCell(cells["free"], money(account?.margin_free));
    fillCell(cells["level"], percent(account?.margin_level));
    fillCell(cells["profit"], signed(account?.profit), tone(account?.profit));
    fillCell(cells["own"], micros(terminal.latency_us || null));
    fillCell(cells["broker"], micros(terminal.broker_us || null));
    fillCell(cells["note"], noteOf(terminal));
    if (cells["note"]) cells["note"].title = (terminal.drift?.events ?? []).map(({ time_ms: time, code, message }) => `${moment(time, Date.now())} ${code}: ${message}`).join("\n");
  });

  /** @param {Terminal} terminal */
  function noteOf(terminal) {
    const notes = (terminal.alerts ?? []).map(({ code, text }) => `${code}: ${text}`);
    if (terminal.last_error && !notes.some((note) => note.includes(terminal.last_error))) notes.push(terminal.last_error);
    if (terminal.account && !terminal.account.connected) notes.push("No connection to the broker.");
    else if (terminal.account && !terminal.account.trade_allowed) notes.push("The broker does not allow trading.");
    if (!terminal.can_trade) notes.push("View only.");
    const [newest] = terminal.drift?.events ?? [];
    if (newest && !notes.some((note) => note.includes(newest.message))) notes.push(`${moment(newest.time_ms, Date.now())} ${newest.message}`);
    return notes.join(" ");
  }

  function draw() {
    const shown = sortedTerminals(store);
    rows.show(shown, (terminal) => terminal.terminal_id);
    empty.hidden = shown.length > 0 || store.user === null;
    setText(tab, String(shown.length));
    globalMode.hidden = store.modes.global === "ACTIVE";
    setText(globalMode, store.modes.global === "HALTED" ? "Trading halted" : "Closes only");
    const alerts = shown.flatMap((terminal) => (terminal.alerts ?? []).map((alert) => ({ ...alert, label: terminal.label || terminal.terminal_id })));
    alertCount.hidden = alerts.length === 0;
    setText(alertCount, alerts.length === 1 ? "1 alert" : `${alerts.length} alerts`);
    alertCount.title = alerts.map(({ label, code, text }) => `${label}: ${code}: ${text}`).join("\n");
    const accounts = shown.flatMap((terminal) => terminal.account ?? []);
    const sums = sumBy(accounts, (account) => [account.currency, account.equity]);
    const text = sums.map(([currency, sum]) => `${currency} ${money(sum)}`).join("|");
    if (totals.dataset["shown"] === text) return;
    totals.dataset["shown"] = text;
    totals.replaceChildren(...(sums.length ? [el("span", {}, "Equity")] : []), ...sums.map(([currency, sum]) =>
      el("span", {}, currency, el("b", {}, money(sum)))));
  }

  const frame = onceAFrame(draw);
  const ends = [store.terminalsChanged.subscribe(frame.ask), store.userChanged.subscribe(frame.ask), frame.end];
  frame.ask();
  return () => {
    for (const end of ends) end();
  };
}

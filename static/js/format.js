// @ts-check
// Numbers and times as people read them. Pure: no DOM, no clock. Times are UTC.

const MINUS = "−";
const NONE = "–";

/** @param {string} text */
const minus = (text) => text.replace("-", MINUS);

/**
 * @param {number | null | undefined} value
 * @param {number} digits
 */
export function price(value, digits) {
  return value == null ? NONE : value.toFixed(digits);
}

/**
 * A price in the parts a ticket shows in different sizes: 1.08|51|2 for five digits, 151.|48|3 for three.
 * @param {number | null | undefined} value
 * @param {number} digits
 * @returns {{head: string, pips: string, point: string}}
 */
export function splitPrice(value, digits) {
  if (value == null) return { head: "", pips: NONE, point: "" };
  const text = value.toFixed(digits);
  const fractional = digits === 3 || digits === 5;
  const point = fractional ? text.slice(-1) : "";
  const rest = fractional ? text.slice(0, -1) : text;
  return digits < 2 ? { head: "", pips: text, point: "" } : { head: rest.slice(0, -2), pips: rest.slice(-2), point };
}

/** How many digits a step such as 0.01 has after the point. @param {number} step */
export function digitsOf(step) {
  if (!(step > 0)) return 0;
  const [mantissa = "", exponent] = String(step).split("e-");
  const own = mantissa.split(".")[1]?.length ?? 0;
  return own + Number(exponent ?? 0);
}

/** @param {number | null | undefined} value @param {number} [step] */
export function lots(value, step = 0.01) {
  if (value == null) return NONE;
  return value.toFixed(Math.max(2, digitsOf(step), Math.min(8, digitsOf(Number(value.toFixed(8))))));
}

const grouped = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** @param {number | null | undefined} value */
export function money(value) {
  return value == null ? NONE : minus(grouped.format(value === 0 ? 0 : value));
}

/** With a sign: +12.30, −4.00, 0.00. @param {number | null | undefined} value */
export function signed(value) {
  if (value == null) return NONE;
  const text = money(value);
  return value > 0 && /[1-9]/.test(text) ? `+${text}` : text.replace(/^−(?=[0.,]*$)/, "");
}

/** The class for a gain or a loss. @param {number | null | undefined} value */
export function tone(value) {
  if (value == null || Math.abs(value) < 0.005) return "";
  return value > 0 ? "up" : "down";
}

/** @param {number | null | undefined} value */
export function percent(value) {
  return value == null || value === 0 ? NONE : `${value >= 10_000 ? Math.round(value).toLocaleString("en-US") : value.toFixed(1)} %`;
}

/** A duration in microseconds. @param {number | null | undefined} us */
export function micros(us) {
  if (us == null) return NONE;
  if (us < 1_000) return `${Math.round(us)} µs`;
  const ms = us / 1_000;
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

/** @param {number} value @param {number} [width] */
const pad = (value, width = 2) => String(value).padStart(width, "0");

/** HH:MM:SS. @param {number} ms */
export function clock(ms) {
  const at = new Date(ms);
  return `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}:${pad(at.getUTCSeconds())}`;
}

/** The time alone when it is of the same UTC day as `now`, else with the day. @param {number} ms @param {number} now */
export function moment(ms, now) {
  const day = new Date(ms).toISOString().slice(0, 10);
  return day === new Date(now).toISOString().slice(0, 10) ? clock(ms) : `${day.slice(5)} ${clock(ms).slice(0, 5)}`;
}

/** 1 terminal, 3 terminals. @param {number} number @param {string} word */
export function count(number, word) {
  return `${number} ${word}${number === 1 ? "" : "s"}`;
}

/** 60 → 1m. @param {number} seconds */
export function timeframe(seconds) {
  /** @type {[number, string][]} */
  const units = [[86_400, "d"], [3_600, "h"], [60, "m"]];
  for (const [length, unit] of units) if (seconds % length === 0) return `${seconds / length}${unit}`;
  return `${seconds}s`;
}

/** Whole points between two prices. @param {number} one @param {number} other @param {number} point */
export function points(one, other, point) {
  return Math.round(Math.abs(one - other) / point);
}

/**
 * What a person typed as a number; both decimal signs are taken. null: nothing typed; NaN: no number.
 * @param {string} text
 */
export function typedNumber(text) {
  const plain = text.trim().replace(",", ".");
  if (!plain) return null;
  return /^\d*\.?\d+$|^\d+\.$/.test(plain) ? Number(plain) : NaN;
}

/** INTENT → Intent, NOT_EXECUTED → Not executed. @param {string} state */
export function stateName(state) {
  const text = state.toLowerCase().replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

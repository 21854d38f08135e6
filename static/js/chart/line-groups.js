// @ts-check
// Positions whose prices lie so near that their lines would overlap become one line. Pure: precedes position-lines.

/**
 * @import {Side} from "../messages.js"
 * @typedef {{side: Side, lots: number, price: number, profit: number, currency: string}} Held
 * @typedef {{side: Side, lots: number, price: number, count: number, profits: [currency: string, sum: number][], y: number}} LineGroup
 */

/**
 * Top to bottom. A group's price is the mean weighted by lots; only positions of one side are joined.
 * @param {Held[]} held
 * @param {(price: number) => number | null} toY
 * @param {number} gap pixels
 * @returns {LineGroup[]}
 */
export function lineGroups(held, toY, gap) {
  /** @type {LineGroup[]} */
  const groups = [];
  for (const side of /** @type {Side[]} */ (["buy", "sell"])) {
    /** @type {(Held & {y: number})[]} */
    const placed = [];
    for (const position of held) {
      const y = position.side === side ? toY(position.price) : null;
      if (y !== null) placed.push({ ...position, y });
    }
    placed.sort((one, other) => one.y - other.y);
    /** @type {(Held & {y: number})[]} */
    let members = [];
    for (const position of placed) {
      const first = members[0];
      if (first && position.y - first.y > gap) {
        groups.push(joined(side, members));
        members = [];
      }
      members.push(position);
    }
    if (members.length) groups.push(joined(side, members));
  }
  return groups.sort((one, other) => one.y - other.y);
}

/** @param {Side} side @param {(Held & {y: number})[]} members @returns {LineGroup} */
function joined(side, members) {
  const lots = members.reduce((sum, member) => sum + member.lots, 0);
  /** @type {Map<string, number>} */
  const profits = new Map();
  for (const { currency, profit } of members) profits.set(currency, (profits.get(currency) ?? 0) + profit);
  /** @param {(member: Held & {y: number}) => number} value */
  const mean = (value) => members.reduce((sum, member) => sum + value(member) * member.lots, 0) / lots;
  return {
    side,
    lots,
    price: mean((member) => member.price),
    y: mean((member) => member.y),
    count: members.length,
    profits: [...profits].sort(([one], [other]) => one.localeCompare(other, "en")),
  };
}

/**
 * Where labels of a height go so that none covers another: each at its line, or pushed down by the one above.
 * @param {number[]} ys ascending
 * @param {number} height
 */
export function spreadLabels(ys, height) {
  /** @type {number[]} */
  const placed = [];
  for (const y of ys) placed.push(Math.max(y, (placed.at(-1) ?? -Infinity) + height));
  return placed;
}

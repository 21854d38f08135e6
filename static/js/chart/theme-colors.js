// @ts-check
// The page's colours as the canvas takes them: custom properties of the theme in force.

export function themeColors() {
  const style = getComputedStyle(document.documentElement);
  /** @param {string} name */
  const color = (name) => style.getPropertyValue(name).trim();
  const up = color("--up");
  const down = color("--down");
  return {
    up,
    down,
    upSoft: `${up}55`,
    downSoft: `${down}55`,
    upFill: color("--up-fill"),
    downFill: color("--down-fill"),
    warn: color("--warn"),
    accent: color("--accent"),
    text: color("--text"),
    muted: color("--muted"),
    panel: color("--panel"),
    raised: color("--raised"),
    line: color("--line"),
    lineStrong: color("--line-strong"),
    grid: color("--grid"),
    font: color("--font"),
  };
}

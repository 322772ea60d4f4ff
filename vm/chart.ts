/** Draws how often partitions flicker: a row a cell, a column a way to attach. */

import { svg, svgText } from "../dev/svg.ts";

export interface Row {
  /** "7.0.9", "6.12.90, arm64" */
  kernel: string;
  udev: number;
  /** Whether the kernel has PARTSCAN_RACE. */
  affected: boolean;
  /** Percentages of cycles that flickered; undefined: not measured. */
  losetup: number | undefined;
  losetupHostile: number | undefined;
  loopdev: number | undefined;
}

/** systemd-udevd before it answers a writable close with BLKRRPART. */
const FIRST_CAREFUL_UDEV = 259;

const COLUMNS = [
  { key: "losetup", x: 330, colour: "#b9770e", head: ["losetup -P", "beside udevd"] },
  { key: "losetupHostile", x: 460, colour: "#c0392b", head: ["losetup -P", "hostile opener"] },
  { key: "loopdev", x: 590, colour: "#1e8449", head: ["loopdev", "all strategies"] },
] as const;
/** Of a bar that means 100 %. */
const WIDTH = 84;
const [ROW, TOP, GAP] = [22, 96, 16];
const [KERNEL, UDEV, KERNEL_RACE, UDEV_RACE] = [16, 122, 200, 268];

const hasUdevRace = ({ udev }: Row) => udev < FIRST_CAREFUL_UDEV;

/** Groups stand apart; each is a list of rows. */
export function drawChart(
  groups: readonly (readonly Row[])[],
  title: string,
  caption: string,
): string {
  const parts = [svgText(16, 28, title, 'font-size="16" font-weight="bold"')];
  const text = (x: number, y: number, content: string, more = "") =>
    parts.push(svgText(x, y, content, `font-size="12" ${more}`));
  const head = (x: number, lines: readonly string[], more = "") =>
    lines.forEach((line, i) => text(x, TOP - 36 + i * 15, line, more));
  const centred = 'text-anchor="middle"';
  head(KERNEL, ["", "Linux"]);
  head(UDEV, ["", "udev"]);
  head(KERNEL_RACE, ["kernel's", "race"], centred);
  head(UDEV_RACE, ["udev's", "race"], centred);
  for (const { x, head: lines, colour } of COLUMNS) {
    head(x, lines, `fill="${colour}" font-weight="bold"`);
  }
  let y = TOP;
  for (const group of groups) {
    for (const row of group) {
      text(KERNEL, y + 4, row.kernel);
      text(UDEV, y + 4, String(row.udev));
      const mark = (x: number) => parts.push(`<circle cx="${x}" cy="${y}" r="4" fill="#222"/>`);
      if (row.affected) mark(KERNEL_RACE);
      if (hasUdevRace(row)) mark(UDEV_RACE);
      for (const { key, x, colour } of COLUMNS) drawShare(parts, x, y, row[key], colour);
      y += ROW;
    }
    y += GAP;
  }
  const bottom = y - GAP - 8;
  const axes = COLUMNS.map(({ x }) =>
    `<line x1="${x - 0.5}" y1="${TOP - 10}" x2="${x - 0.5}" y2="${bottom}" stroke="#bbb"/>`
  );
  parts.splice(1, 0, ...axes);
  text(16, bottom + 22, caption);
  return svg(bottom + 36, title, parts);
}

/** A bar with its percentage behind it; nothing but "0 %" where there was none. */
function drawShare(
  parts: string[],
  x: number,
  y: number,
  percent: number | undefined,
  colour: string,
): void {
  if (percent === undefined) {
    parts.push(svgText(x + 6, y + 4, "–", `font-size="12" fill="${colour}"`));
    return;
  }
  const length = percent / 100 * WIDTH;
  if (percent > 0) {
    parts.push(`<rect x="${x}" y="${y - 6}" width="${length}" height="12" fill="${colour}"/>`);
  }
  parts.push(svgText(x + length + 6, y + 4, `${percent} %`, `font-size="12" fill="${colour}"`));
}

/** Rows that tell the two races apart: of each kind the newest kernel, of those with the kernel's the oldest, too. */
export function tellingRows(rows: readonly Row[]): Row[][] {
  return [[true, true], [true, false], [false, true], [false, false]].map(([kernel, udev]) => {
    const own = rows.filter((row) => row.affected === kernel && hasUdevRace(row) === udev);
    return own.filter((_, i) => i === own.length - 1 || kernel && i === 0);
  });
}

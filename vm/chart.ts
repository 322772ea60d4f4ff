/** Draws how often partitions flicker, by cell: bars for losetup, a zero that can be seen for loopdev. */

import { svg, svgText } from "./svg.ts";

export interface Bar {
  /** "7.0.9, udev 262". */
  label: string;
  affected: boolean;
  /** Percentages of cycles that flickered. */
  losetup: number;
  losetupHostile: number;
  loopdev: number;
}

const LEFT = 170;
const WIDTH = 480;
const ROW = 34;
const TOP = 78;
const COLOURS = { losetup: "#b9770e", losetupHostile: "#c0392b", loopdev: "#1e8449" };

export function drawChart(bars: readonly Bar[], title: string): string {
  const height = TOP + bars.length * ROW + 40;
  const parts: string[] = [];
  const text = (...args: Parameters<typeof svgText>) => parts.push(svgText(...args));
  const bar = (y: number, percent: number, colour: string) => {
    // A zero is drawn as a dot: it was measured, not left out.
    parts.push(
      percent === 0
        ? `<circle cx="${LEFT}" cy="${y + 4}" r="3.5" fill="${colour}"/>`
        : `<rect x="${LEFT}" y="${y}" width="${
          percent / 100 * WIDTH
        }" height="8" fill="${colour}"/>`,
    );
    text(LEFT + percent / 100 * WIDTH + 8, y + 8, `${percent} %`, 'font-size="10"');
  };

  text(16, 26, title, 'font-size="16" font-weight="bold"');
  const legend = [
    ["losetup -P, udevd alone", COLOURS.losetup],
    ["losetup -P, hostile opener", COLOURS.losetupHostile],
    ["loopdev, hostile opener", COLOURS.loopdev],
  ];
  legend.forEach(([name, colour], i) => {
    parts.push(`<rect x="${16 + i * 205}" y="42" width="12" height="12" fill="${colour}"/>`);
    text(34 + i * 205, 52, name, 'font-size="12"');
  });
  for (let percent = 0; percent <= 100; percent += 25) {
    const x = LEFT + percent / 100 * WIDTH;
    const bottom = TOP + bars.length * ROW;
    parts.push(`<line x1="${x}" y1="${TOP - 8}" x2="${x}" y2="${bottom}" stroke="#ddd"/>`);
    text(x, bottom + 16, `${percent} %`, 'font-size="11" text-anchor="middle"');
  }
  bars.forEach(({ label, affected, losetup, losetupHostile, loopdev }, i) => {
    const y = TOP + i * ROW;
    text(LEFT - 12, y + 16, label, 'font-size="12" text-anchor="end"');
    if (affected) text(16, y + 16, "●", `font-size="10" fill="${COLOURS.losetupHostile}"`);
    bar(y, losetup, COLOURS.losetup);
    bar(y + 10, losetupHostile, COLOURS.losetupHostile);
    bar(y + 20, loopdev, COLOURS.loopdev);
  });
  text(
    16,
    height - 8,
    "● kernel with the race; cycles in which a partition came or went too often",
    'font-size="11"',
  );
  return svg(height, title, parts);
}

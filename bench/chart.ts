/** Draws the median cycles as dots on a logarithmic axis, where a bar's length would mean nothing. */
import { svg, svgText } from "../dev/svg.ts";
import { duration } from "./duration.ts";
import type { Medians } from "./figures.ts";

const TITLE = "Attach an image and detach it: median time";
const COLOURS = { "loopdev": "#1e8449", "C": "#5d6d7e", "losetup": "#b9770e" };
const GROUPS = {
  "one-step": "With partitions, one step (kernel with the fix)",
  "two-step": "With partitions, two steps (kernel with the race)",
  "userspace": 'With partitions, partscan: "userspace"',
};
const [LEFT, WIDTH, ROW] = [210, 440, 20];
const TICKS = { "10 µs": 10, "100 µs": 100, "1 ms": 1000, "10 ms": 1e4, "100 ms": 1e5 };

export function drawChart(cycles: Medians["cycles"]): string {
  const parts: string[] = [];
  const text = (x: number, y: number, content: string, more = "") =>
    parts.push(svgText(x, y, content, `font-size="12" ${more}`));
  const x = (us: number) => LEFT + Math.log10(us / 10) / 4 * WIDTH;
  let y = 56;
  for (const [strategy, group] of Object.entries(GROUPS)) {
    if (cycles[strategy] === undefined) continue;
    text(16, y + 4, group, 'font-weight="bold"');
    y += ROW;
    for (const [contender, ns] of Object.entries(cycles[strategy])) {
      const fill = `fill="${COLOURS[/^\w+/.exec(contender)![0] as keyof typeof COLOURS]}"`;
      const at = x(ns / 1000).toFixed(1);
      text(LEFT - 16, y + 4, contender, `${fill} text-anchor="end"`);
      parts.push(`<line x1="${LEFT}" y1="${y}" x2="${LEFT + WIDTH}" y2="${y}" stroke="#eee"/>`);
      parts.push(`<circle cx="${at}" cy="${y}" r="5" ${fill}/>`);
      text(Number(at) + 10, y + 4, duration(ns), fill);
      y += ROW;
    }
    y += ROW / 2;
  }
  const lines = Object.entries(TICKS).map(([name, us]) => {
    text(x(us), y + 10, name, 'text-anchor="middle"');
    return `<line x1="${x(us)}" y1="46" x2="${x(us)}" y2="${y - 6}" stroke="#ddd"/>`;
  });
  const title = svgText(16, 28, TITLE, 'font-size="16" font-weight="bold"');
  text(16, y + 34, "From one line to the next, time grows tenfold.");
  return svg(y + 46, TITLE, [...lines, title, ...parts]);
}

/**
 * Draws when partitions were there, from their add and remove events: as text or as SVG. Pure.
 *
 * @module
 */

/** A partition comes or goes. */
export interface PartitionEvent {
  /** ms */
  at: number;
  partition: number;
  action: "add" | "remove";
}

/** What is drawn: from 0 to `end` ms. */
export interface Timeline {
  title: string;
  events: readonly PartitionEvent[];
  end: number;
}

/** A time between two events of a partition. "absent": before its first add and after its last. */
export interface Span {
  state: "absent" | "plugged" | "dead";
  from: number;
  to: number;
}

/** The partitions' numbers in order, each with its spans from 0 to `end`. */
export function spans({ events, end }: Timeline): Map<number, Span[]> {
  const partitions = new Map<number, Span[]>();
  for (const number of events.map(({ partition }) => partition).sort((a, b) => a - b)) {
    const own = events.filter((event) => event.partition === number);
    const lastAdd = own.findLastIndex(({ action }) => action === "add");
    const starts: { state: Span["state"]; from: number }[] = own.map(({ action, at }, i) => ({
      state: action === "add" ? "plugged" : i < lastAdd ? "dead" : "absent",
      from: at,
    }));
    const first = { state: own[0].action === "add" ? "absent" : "plugged", from: 0 } as const;
    partitions.set(
      number,
      [first, ...starts].map((span, i, all) => ({ ...span, to: all[i + 1]?.from ?? end })),
    );
  }
  return partitions;
}

/** How long a partition was dead, in ms; 0 if it never was. */
export function deadTime(own: readonly Span[]): number {
  return own.reduce((sum, { state, from, to }) => sum + (state === "dead" ? to - from : 0), 0);
}

/** "0.31 ms", "12 ms"; what lies within the time that an event takes to be heard is only a bound. */
function duration(ms: number): string {
  return ms < 0.01 ? "< 0.01 ms" : `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
}

/**
 * Where each span begins on a line of `width` units. Each is at least `least` wide, so that the
 * shortest gap can be seen; `width` is where the last one ends.
 */
function places(own: readonly Span[], end: number, width: number, least: number): number[] {
  const at = own.map(({ from }) => from / end * width);
  for (let i = 2; i < at.length; i++) at[i] = Math.max(at[i], at[i - 1] + least);
  for (let i = at.length - 1; i > 0; i--) {
    at[i] = Math.min(at[i], width - least * (at.length - i));
  }
  return [...at.map((place) => Math.max(place, 0)), width];
}

/** Round times, at most eight of them. */
function ticks(end: number): { at: number; text: string }[] {
  const magnitude = 10 ** Math.floor(Math.log10(end));
  const step = [0.1, 0.2, 0.5, 1, 2].map((n) => n * magnitude).find((n) => end / n < 8)!;
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return Array.from({ length: Math.floor(end / step + 1e-9) + 1 }, (_, i) => ({
    at: i * step,
    text: (i * step).toFixed(digits),
  }));
}

const SIGNS = { absent: "·", plugged: "▔", dead: "_" };

/** The picture for a terminal, `columns` wide without what stands beside it. */
export function drawText(timeline: Timeline, columns = 60): string {
  const { title, end } = timeline;
  const lines = [title, ""];
  const scale = [..." ".repeat(columns + 12)];
  const axis = [..."─".repeat(columns)];
  for (const { at, text } of ticks(end)) {
    const column = Math.min(Math.floor(at / end * columns), columns - 1);
    axis[column] = "┬";
    scale.splice(column, text.length, ...text);
  }
  lines.push(`    ${scale.join("").trimEnd()} ms`, `    ${axis.join("")}`);
  for (const [number, own] of spans(timeline)) {
    const at = places(own, end, columns, 1).map(Math.floor);
    const line = own.map(({ state }, i) => SIGNS[state].repeat(at[i + 1] - at[i])).join("");
    const dead = deadTime(own);
    const died = own.some(({ state }) => state === "dead");
    lines.push(`${`p${number}`.padEnd(3)} ${line}${died ? `  dead ${duration(dead)}` : ""}`);
  }
  const shown = new Set(
    [...spans(timeline).values()].flat().filter(({ from, to }) => to > from).map((s) => s.state),
  );
  const words = { absent: "not there", plugged: "plugged", dead: "dead" };
  const legend = (["absent", "plugged", "dead"] as const).filter((state) => shown.has(state));
  lines.push("", `    ${legend.map((state) => `${SIGNS[state]} ${words[state]}`).join("    ")}`);
  return lines.join("\n");
}

const LEFT = 56;
const WIDTH = 680;
const RIGHT = 24;
const TOP = 76;
const ROW = 58;
const HIGH = 26;

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** The same picture as an SVG document, on white, for light and dark pages alike. */
export function drawSvg(timeline: Timeline): string {
  const { title, end } = timeline;
  const partitions = spans(timeline);
  const bottom = TOP + ROW * partitions.size;
  const x = (place: number) => (LEFT + place).toFixed(1);
  const body: string[] = [];
  for (const { at, text } of ticks(end)) {
    const tick = x(at / end * WIDTH);
    body.push(
      `<line class="grid" x1="${tick}" y1="${TOP - 12}" x2="${tick}" y2="${bottom}"/>`,
      `<text class="small" x="${tick}" y="${TOP - 18}" text-anchor="middle">${text}</text>`,
    );
  }
  const summary: string[] = [];
  [...partitions].forEach(([number, own], row) => {
    const low = TOP + ROW * row + HIGH + 10;
    const high = low - HIGH;
    const at = places(own, end, WIDTH, 3);
    const level = (state: Span["state"]) => state === "plugged" ? high : low;
    const path = own.map(({ state }, i) =>
      `${i === 0 ? `M${x(0)} ${level(state)}` : `V${level(state)}`}H${x(at[i + 1])}`
    );
    body.push(
      `<text x="${LEFT - 14}" y="${low - 6}" text-anchor="end">p${number}</text>`,
      `<path class="line" d="${path.join("")}"/>`,
    );
    const words = own.map(({ state, from, to }, i) => {
      if (state === "absent") return [];
      const word = state === "dead" ? `dead ${duration(to - from)}` : "plugged";
      const [left, right] = [at[i], at[i + 1]];
      const middle = x(Math.min(Math.max((left + right) / 2, 40), WIDTH - 40));
      if (state === "dead") {
        const [x1, x2] = [x(left), x(right)];
        body.push(`<line class="dead" x1="${x1}" y1="${low}" x2="${x2}" y2="${low}"/>`);
        body.push(
          `<text class="small red" x="${middle}" y="${
            low + 15
          }" text-anchor="middle">${word}</text>`,
        );
      } else if (right - left > 56) {
        body.push(
          `<text class="small" x="${middle}" y="${high - 5}" text-anchor="middle">${word}</text>`,
        );
      }
      return [word];
    }).flat();
    summary.push(`p${number}: ${words.join(", ")}.`);
  });
  const [width, height] = [LEFT + WIDTH + RIGHT, bottom + 20];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" \
width="${width}" height="${height}" role="img" aria-labelledby="title desc">
<title id="title">${escapeXml(title)}</title>
<desc id="desc">${escapeXml(summary.join(" "))}</desc>
<style>
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 12px; fill: #59636e }
.red { fill: #b42318 }
.grid { stroke: #d9dee3 }
.line { fill: none; stroke: #1f6feb; stroke-width: 2 }
.dead { stroke: #d92d20; stroke-width: 5 }
</style>
<rect width="${width}" height="${height}" rx="8" fill="#fff"/>
<text x="${LEFT}" y="28" font-weight="600">${escapeXml(title)}</text>
<text class="small" x="${LEFT - 14}" y="${TOP - 18}" text-anchor="end">ms</text>
${body.join("\n")}
</svg>
`;
}

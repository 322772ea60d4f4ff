/** What the charts of the documentation share. */

/** A standalone SVG, legible on light and dark pages alike since it brings its own background. */
export function svg(height: number, title: string, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 ${height}" role="img" ` +
    `font-family="sans-serif" fill="#222">\n<title>${escape(title)}</title>\n` +
    `<rect width="720" height="${height}" fill="#fff"/>\n${parts.join("\n")}\n</svg>\n`;
}

export function svgText(x: number, y: number, content: string, attributes = ""): string {
  return `<text x="${x}" y="${y}" ${attributes}>${escape(content)}</text>`;
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

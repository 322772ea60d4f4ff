/**
 * Sizes for people, as lsblk(8) prints them.
 *
 * @module
 */

const UNITS = "BKMGTPE";

/** 1.5G; 512B. Powers of 1024, and at most one digit behind the point. */
export function formatSize(bytes: number): string {
  let [amount, unit] = [bytes, 0];
  while (amount >= 1024) [amount, unit] = [amount / 1024, unit + 1];
  const [whole, tenth] = amount.toFixed(1).split(".");
  return `${whole}${tenth === "0" ? "" : `.${tenth}`}${UNITS[unit]}`;
}

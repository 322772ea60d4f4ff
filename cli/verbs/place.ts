/**
 * Where `loopdev cp` copies from and to: a path of this machine, or `IMAGE:/path`.
 *
 * @module
 */
import { UsageError } from "../getopt.ts";

/** A copy into an image, or out of it. */
export interface Copy {
  readonly image: string;
  readonly into: boolean;
  /** Paths of the one side, in an image with a slash at their beginning; at least one. */
  readonly from: readonly string[];
  /** A path of the other side. */
  readonly to: string;
}

interface ImagePlace {
  readonly image: string;
  readonly path: string;
}

/** Undefined: it is a path of this machine. */
function imagePlace(word: string): ImagePlace | undefined {
  const colon = word.indexOf(":/");
  return colon > 0 ? { image: word.slice(0, colon), path: word.slice(colon + 1) } : undefined;
}

/** All sources are of one side, and the last word is of the other. */
export function parseCopy(words: readonly string[]): Copy {
  const places = words.map(imagePlace);
  const [last, to] = [places[words.length - 1], words[words.length - 1]];
  const sources = places.slice(0, -1);
  const inImage = sources.filter((place) => place !== undefined);
  if (last && inImage.length === 0) {
    return { image: last.image, into: true, from: words.slice(0, -1), to: last.path };
  }
  if (last || inImage.length < sources.length) {
    throw new UsageError(
      "one side must be in an image, as in disk.img:/etc/fstab, and the other a path of this machine",
    );
  }
  const [{ image }] = inImage;
  if (inImage.some((place) => place.image !== image)) {
    throw new UsageError("all that is copied at once must be of one image");
  }
  return { image, into: false, from: inImage.map(({ path }) => path), to };
}

/** A path and the name at its end; undefined: it ends with a slash, "." or "..". */
export function splitLast(path: string): { folder: string; last: string | undefined } {
  const [, folder = "", last] = /^(.*\/)([^/]+)$/.exec(path) ?? [];
  return { folder, last: last === "." || last === ".." ? undefined : last };
}

/**
 * The user whom `--owner` means.
 *
 * @module
 */
import { readText } from "../../lib/losetup/list.ts";
import { Failure } from "../failure.ts";
import { environment } from "../program.ts";

type Owner = number | { readonly uid: number; readonly gid: number };

/** A name of /etc/passwd, `UID`, or `UID:GID`; without a word the user who called sudo. */
export function parseOwner(word: string = callerOfSudo()): Owner {
  const [, uid, gid] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(word) ?? [];
  if (gid !== undefined) return { uid: Number(uid), gid: Number(gid) };
  if (uid !== undefined) return Number(uid);
  const users = readText("/etc/passwd").split("\n").map((line) => line.split(":"));
  const found = users.find(([name]) => name === word);
  if (found) return { uid: Number(found[2]), gid: Number(found[3]) };
  throw new Failure(`--owner: /etc/passwd has no user '${word}': give the number`);
}

function callerOfSudo(): string {
  const [uid, gid] = ["SUDO_UID", "SUDO_GID"].map(environment);
  if (uid !== undefined && gid !== undefined) return `${uid}:${gid}`;
  throw new Failure("--owner means the one who called sudo, which nobody did: say --owner=USER");
}

import { assertEquals } from "@std/assert";
import { isAffected, type KernelBug } from "../mod.ts";
import { parseRelease } from "../lib/kernel/release.ts";
import { test } from "./support.ts";

/** Release → affected, each with what proves it. Measured rows are real boots of that kernel. */
const VERDICTS: [release: string, affected: boolean, why: string][] = [
  ["2.6.78", true, "what setarch --uname-2.6 makes of 6.18"],
  ["4.19.0-27-amd64", true, "has no LOOP_CONFIGURE: nobody asks there"],
  ["5.4.0-204-generic", true, "has no LOOP_CONFIGURE: nobody asks there"],
  ["5.8.0-63-generic", false, "older than the bug, Ubuntu"],
  ["5.11.0-1028-aws", false, "older than the bug, Ubuntu's flavour"],
  ["5.10.0-0.deb10.30-cloud-amd64", false, "older than the bug, Debian's backports"],
  ["5.10.223", false, "measured"],
  ["5.10.0-33-cloud-amd64", false, "measured: 5.10.262"],
  ["5.14.21", false, "last series without the bug"],
  ["5.15-rc1", true, "the bug came in the merge window"],
  ["5.15.0", true, "first release with the bug"],
  ["5.15.0-25-generic", true, "Ubuntu hides the stable level"],
  ["5.15.999", true, "5.15.y has no mend"],
  ["5.19.17", true, "ended before the mend"],
  ["6.1.176", true, "measured"],
  ["6.1.0-56-amd64", true, "Debian hides the stable level"],
  ["6.6.140", true, "last before the mend"],
  ["6.6.141", false, "5dd9d864eb96"],
  ["6.8.0-110-generic", true, "Ubuntu hides the stable level"],
  ["6.12.90", true, "measured"],
  ["6.12.90+deb13.1-amd64", true, "measured, Debian shows the stable level"],
  ["6.12.91-rc1", true, "a candidate may lack what the release has"],
  ["6.12.91", false, "3cef9aa17bf7"],
  ["6.12.94+deb13+1-cloud-amd64", false, "measured"],
  ["6.12.117", false, "measured"],
  ["6.16.12", true, "measured"],
  ["6.17.13", true, "measured"],
  ["6.18.15", true, "measured"],
  ["6.18.32", true, "last before the mend"],
  ["6.18.33", false, "37466ec483ea"],
  ["6.18.44-fc-v657", false, "measured: a number with the mend is proof, whoever built it"],
  ["6.19.14", true, "measured"],
  ["7.0.0-14-generic", true, "Ubuntu hides the stable level"],
  ["7.0.9", true, "measured"],
  ["7.0.10", false, "measured"],
  ["7.1.0-rc7", true, "a candidate may lack what the release has"],
  ["7.1.0", false, "267ec4d7223a"],
  ["7.1.3+deb14-amd64", false, "measured"],
  ["7.3.4", false, "measured"],
  ["8.0.0-rc1", false, "every later series"],
  ["10.2", false, "every later series"],
  ["4.18.0-553.el8_10.x86_64", true, "RHEL's block layer is not 4.18's"],
  ["5.14.0-503.el9.x86_64", true, "RHEL's block layer is not 5.14's"],
  ["6.12.0-211.el10.x86_64", true, "RHEL hides what it carries"],
  ["5.14.21-150500.55.19-default", true, "SLE's block layer is not 5.14's"],
  ["5.4.17-2136.338.4.el8uek.x86_64", true, "Oracle's block layer is not 5.4's"],
  ["5.10.102.1-microsoft-standard-WSL2", true, "an unknown builder below the bug's birth"],
  ["5.10.0-60.18.0.50.oe2203.x86_64", true, "an unknown builder below the bug's birth"],
  ["", true, "empty"],
  ["linux", true, "no version"],
  ["v6.12.117", true, "does not begin with a version"],
  ["6", true, "no minor"],
  ["99999999999.1.1", true, "no kernel"],
];

for (const [release, affected, why] of VERDICTS) {
  test(`isAffected("${release}") is ${affected}: ${why}`, [], () => {
    assertEquals(isAffected(release), affected);
  });
}

test("isAffected() judges another bug by its own rows", [], () => {
  const bug: KernelBug = {
    name: "OTHER",
    symptom: "",
    since: { release: "4.4", commit: "a" },
    until: { release: "4.9", commit: "b" },
    backports: [{ release: "4.4.7", commit: "c" }],
  };
  const verdicts = ["4.3.9", "4.4.6", "4.4.7", "4.5.99", "4.9.0"].map((r) => isAffected(r, bug));
  assertEquals(verdicts, [false, true, false, true, false]);
});

test("parseRelease() names who built the kernel", [], () => {
  const origins = ["6.1.0-56-amd64", "6.8.0-110-generic", "6.12.0-211.el10", "6.18.44", "5.4.1-foo"]
    .map((release) => parseRelease(release)?.origin);
  assertEquals(origins, ["debian", "ubuntu", "enterprise", "upstream", "unknown"]);
});

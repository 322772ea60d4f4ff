/**
 * Debian packages of other suites than this machine's, fetched by apt itself: a private root (own
 * lists and cache), the mirrors, proxies and trust that this machine's apt is configured with.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { MachineName } from "./machines.ts";

/** One version of one package that the archive offers. */
export interface Package {
  name: string;
  version: string;
}

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** Lists older than this are updated. */
const LISTS_MILLISECONDS = 12 * 3600 * 1000;

/** Runs a command to its end; throws with what it wrote to stderr. */
export function run(command: string, args: string[], cwd?: string): string {
  const options = { cwd, encoding: "utf8", maxBuffer: 1 << 28 } as const;
  const { status, stdout, stderr, error } = spawnSync(command, args, options);
  if (status === 0) return stdout;
  const reason = error?.message ?? (stderr.trim().split("\n").slice(-5).join("\n") || stdout);
  throw new Error(`${command} ${args.join(" ").slice(0, 200)}: ${reason}`);
}

/** This machine's mirrors of the archive and of its security part, from its own apt sources. */
function mirrors(): { main: string; security?: string } {
  const format = "$(REPO_URI) $(RELEASE)";
  const lines = run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"])
    .trim().split("\n").map((line) => line.split(" "));
  const security = lines.find(([, release]) => release?.endsWith("-security"))?.[0];
  const main = lines.find(([uri, release]) =>
    uri !== security &&
    /^(bullseye|bookworm|trixie|forky|sid|testing|stable|unstable)$/.test(release)
  )?.[0];
  if (main === undefined) throw new Error("this machine's apt has no Debian mirror");
  return { main, security };
}

/** A private apt root below `directory`. */
export class Apt {
  readonly #conf: string;
  readonly #lists: string;
  readonly mirror: string;

  readonly directory: string;
  readonly architecture: MachineName;

  constructor(directory: string, suites: readonly string[], architecture: MachineName) {
    this.directory = directory;
    this.architecture = architecture;
    const { main, security } = mirrors();
    this.mirror = main;
    for (const name of ["state/lists/partial", "cache/archives/partial", "sources.d", "pref.d"]) {
      mkdirSync(join(directory, name), { recursive: true });
    }
    this.#lists = join(directory, "state/lists");
    this.#conf = join(directory, "apt.conf");
    const options = existsSync(KEYRING) ? ` [signed-by=${KEYRING}]` : "";
    const sources = suites.flatMap((suite) => {
      const uri = suite.endsWith("-security") ? security : main;
      return uri === undefined ? [] : [`deb${options} ${uri} ${suite} main`];
    });
    writeFileSync(join(directory, "sources.list"), sources.join("\n") + "\n");
    writeFileSync(join(directory, "status"), "");
    // Read last, so that it wins over the machine's configuration; hooks of the machine's are cut.
    const settings = {
      "Dir::State": join(directory, "state"),
      "Dir::State::status": join(directory, "status"),
      "Dir::Cache": join(directory, "cache"),
      "Dir::Cache::pkgcache": "pkgcache.bin",
      "Dir::Cache::srcpkgcache": "srcpkgcache.bin",
      "Dir::Etc::sourcelist": join(directory, "sources.list"),
      "Dir::Etc::sourceparts": join(directory, "sources.d"),
      "Dir::Etc::preferences": join(directory, "preferences"),
      "Dir::Etc::preferencesparts": join(directory, "pref.d"),
      "APT::Architecture": architecture,
      "APT::Architectures": architecture,
      "APT::Sandbox::User": "root",
      "Acquire::Languages": "none",
      "Acquire::Retries": "3",
    };
    writeFileSync(
      this.#conf,
      Object.entries(settings).map(([key, value]) => `${key} "${value}";\n`).join("") +
        "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n",
    );
  }

  /** Updates the lists when they are old. Returns what apt complained of: a suite that is gone. */
  update(force = false): string[] {
    const stamp = join(this.directory, "updated");
    const fresh = existsSync(stamp) && Date.now() - statSync(stamp).mtimeMs < LISTS_MILLISECONDS;
    if (fresh && !force) return [];
    const { stderr } = spawnSync("apt-get", ["-c", this.#conf, "-q", "update"], {
      encoding: "utf8",
    });
    const lists = readdirSync(this.#lists).filter((name) => name.includes("_Packages"));
    if (lists.length === 0) throw new Error(`apt-get update: ${stderr.trim()}`);
    writeFileSync(stamp, "");
    return stderr.split("\n").filter((line) => line.startsWith("E: "))
      .map((line) => line.slice(3).replace(/https?:\/\/\S+\//, ""));
  }

  /** Every version of every package whose name matches the (POSIX) pattern. */
  available(pattern: string): Package[] {
    const names = this.#cache(["search", "--names-only", pattern]).split("\n")
      .map((line) => line.split(" ")[0]).filter((name) => name !== "");
    if (names.length === 0) return [];
    return this.#cache(["madison", ...names]).split("\n").filter((line) => line.includes("|"))
      .map((line) => line.split("|").map((field) => field.trim()))
      .map(([name, version]) => ({ name, version }));
  }

  /** The names of the packages that this one needs. */
  depends({ name, version }: Package): string[] {
    const output = this.#cache(["show", "--no-all-versions", `${name}=${version}`]);
    const line = output.split("\n").find((line) => line.startsWith("Depends: ")) ?? "";
    return line.slice("Depends: ".length).split(/[,|]/).map((name) => name.trim().split(" ")[0]);
  }

  /** Downloads one package into a directory of its own; returns the path of the .deb. */
  download({ name, version }: Package, directory: string): string {
    mkdirSync(directory, { recursive: true });
    run("apt-get", ["-c", this.#conf, "-q", "download", `${name}=${version}`], directory);
    return join(directory, readdirSync(directory).find((file) => file.endsWith(".deb"))!);
  }

  /**
   * Downloads a package that the lists no longer name but the pool still holds. apt has no
   * checksum for it: whoever uses the contents must verify them in another way.
   */
  downloadFromPool({ name, version }: Package, pool: string, directory: string): string {
    mkdirSync(directory, { recursive: true });
    const file = `${name}_${version.replace(/^\d+:/, "")}_${this.architecture}.deb`;
    const uri = `${this.mirror.replace(/\/*$/, "/")}${pool}/${file}`;
    run("/usr/lib/apt/apt-helper", ["-c", this.#conf, "download-file", uri, file], directory);
    return join(directory, file);
  }

  #cache(args: string[]): string {
    return run("apt-cache", ["-c", this.#conf, ...args]);
  }
}

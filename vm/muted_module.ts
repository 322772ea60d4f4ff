/**
 * A loop.ko that sends no uevents of its own, as those of Linux 5.19 to 6.14 (lib/udev/lost_event.ts), of
 * which no Debian archive has a kernel any more: its calls of kobject_uevent() do nothing.
 */

const SHT_SYMTAB = 2;
const SHT_RELA = 4;
const SYMBOL_BYTES = 24;
const RELA_BYTES = 24;
const R_X86_64_NONE = 0;
const CALL = 0xe8;
/** Behind a signed module: without it the module has no signature, which a kernel may take. */
const SIGNATURE_MARK = "~Module signature appended~\n";
/** nopl 0x0(%rax,%rax,1): as long as the call. */
const NOP = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/** Of the module, x86-64. */
export function muted(module: Uint8Array): Uint8Array {
  const end = new TextDecoder().decode(module.subarray(-SIGNATURE_MARK.length)) === SIGNATURE_MARK
    ? -SIGNATURE_MARK.length
    : undefined;
  const bytes = new Uint8Array(module.subarray(0, end));
  const view = new DataView(bytes.buffer);
  const u64 = (at: number) => Number(view.getBigUint64(at, true));
  const [table, size, count] = [u64(40), view.getUint16(58, true), view.getUint16(60, true)];
  const sections = Array.from({ length: count }, (_, index) => {
    const at = table + index * size;
    const [type, link, info] = [4, 40, 44].map((field) => view.getUint32(at + field, true));
    return { type, link, info, offset: u64(at + 24), size: u64(at + 32) };
  });
  const symbols = sections.find(({ type }) => type === SHT_SYMTAB)!;
  const nameOf = (symbol: number) => {
    const at = sections[symbols.link].offset +
      view.getUint32(symbols.offset + symbol * SYMBOL_BYTES, true);
    return new TextDecoder().decode(bytes.subarray(at, bytes.indexOf(0, at)));
  };
  let calls = 0;
  for (const { offset, size, info } of sections.filter(({ type }) => type === SHT_RELA)) {
    for (let at = offset; at < offset + size; at += RELA_BYTES) {
      if (nameOf(view.getUint32(at + 12, true)) !== "kobject_uevent") continue;
      const call = sections[info].offset + u64(at) - 1;
      if (bytes[call] !== CALL) continue;
      bytes.set(NOP, call);
      view.setUint32(at + 8, R_X86_64_NONE, true);
      calls++;
    }
  }
  if (calls === 0) throw new Error("this loop.ko does not call kobject_uevent()");
  return bytes;
}

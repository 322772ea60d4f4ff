/**
 * What stands on a disk may be a stranger's, and a terminal would obey it: controls, line separators,
 * and what turns the direction of writing come out as \\u001b.
 */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * What went wrong and all that is behind it, a message each, in the order in which it happened. The end of
 * a block that fails after its body makes a SuppressedError of both, whose own message says nothing.
 */
export function messagesOf(error: unknown): string[] {
  const causes = causesOf(error);
  if (causes.length === 0) return [printable(String(error))];
  return [...new Set(causes.map(messageOf))];
}

/** A LoopError lists on lines of its own what there is. In other messages a name may have brought a line. */
function messageOf(error: Error): string {
  const message = error.message || error.name;
  if (error.name !== "LoopError") return printable(message);
  return message.split("\n").map(printable).join("\n");
}

function causesOf(error: unknown): Error[] {
  if (!(error instanceof Error)) return [];
  // Not every TypeScript library has SuppressedError.
  if ("suppressed" in error && "error" in error) {
    return [...causesOf(error.suppressed), ...causesOf(error.error)];
  }
  if (error instanceof AggregateError && error.errors.length > 0) {
    return error.errors.flatMap(causesOf);
  }
  return [error, ...causesOf(error.cause)];
}

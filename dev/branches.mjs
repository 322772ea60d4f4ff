/**
 * The branches of a source, and which of them V8 says were reached. Plain JavaScript: TypeScript's own
 * parser finds them.
 *
 * V8 reports ranges of a script with how often each ran, in offsets of the text that it ran. Node ran
 * the source itself, types blanked; Deno ran what it printed of the source, which parses to the same
 * branches in the same order.
 */
import { createRequire } from "node:module";

/** Node finds it; deno.json has no packages that Node alone needs. */
const ts = createRequire(import.meta.url)("@typescript/typescript6");

/**
 * A branch ran as often as `at` did, or, where it is what happens otherwise, as often as `at` did
 * without `minus`. What throws between them counts as otherwise.
 *
 * @typedef {{ kind: string, start: number, at: number, minus?: number }} Branch
 */

const LOGICAL = new Set([
  ts.SyntaxKind.AmpersandAmpersandToken,
  ts.SyntaxKind.BarBarToken,
  ts.SyntaxKind.QuestionQuestionToken,
]);

/** An offset inside: V8's ranges of a block begin at its brace, or before it. */
const inside = (node, source) => node.getStart(source) + (ts.isBlock(node) ? 1 : 0);

/** Whether `child` is what the loop `node` does each time besides its body. */
const isLoopHead = (node, child) =>
  ts.isIterationStatement(node, false) && !ts.isForOfStatement(node) &&
  !ts.isForInStatement(node) &&
  child !== node.statement && child !== node.initializer;

/** @returns {Branch[]} those that begin at `node` itself, which may be in the head of a loop */
function branchesAt(node, source, isInLoop) {
  const start = node.getStart(source);
  if (ts.isFunctionLike(node) && node.body) {
    return [{ kind: "function", start, at: inside(node.body, source) }];
  }
  if (ts.isIfStatement(node)) {
    const then = inside(node.thenStatement, source);
    const otherwise = node.elseStatement
      ? {
        kind: "else",
        start: node.elseStatement.getStart(source),
        at: inside(node.elseStatement, source),
      }
      : { kind: "no else", start, at: start, minus: then };
    return [{ kind: "if", start, at: then }, otherwise];
  }
  if (ts.isConditionalExpression(node)) {
    return [["?", node.whenTrue], [":", node.whenFalse]].map(([kind, arm]) => {
      const at = arm.getStart(source);
      return { kind, start: at, at };
    });
  }
  if (ts.isBinaryExpression(node) && LOGICAL.has(node.operatorToken.kind)) {
    const [word, right] = [
      node.operatorToken.getText(source),
      node.right.getStart(source),
    ];
    const evaluated = { kind: word, start: right, at: right };
    // How often a loop asked for its condition is not known.
    return isInLoop
      ? [evaluated]
      : [evaluated, { kind: `no ${word}`, start: right, at: start, minus: right }];
  }
  if (ts.isIterationStatement(node, false)) {
    return [{ kind: "loop", start, at: inside(node.statement, source) }];
  }
  if (ts.isCaseOrDefaultClause(node) && node.statements.length > 0) {
    return [{ kind: "case", start, at: inside(node.statements[0], source) }];
  }
  if (ts.isCatchClause(node)) {
    return [{ kind: "catch", start, at: inside(node.block, source) }];
  }
  return [];
}

/**
 * @param {string} path its ending says which language it is
 * @param {string} text
 * @returns {Branch[]} in the order of the source
 */
export function branchesOf(path, text) {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, false);
  const branches = [];
  const visit = (node, isInLoop) => {
    branches.push(...branchesAt(node, source, isInLoop));
    const isFunction = ts.isFunctionLike(node);
    ts.forEachChild(node, (child) => {
      visit(child, !isFunction && (isInLoop || isLoopHead(node, child)));
    });
  };
  visit(source, false);
  return branches;
}

/**
 * How often each offset ran: as often as the innermost range around it.
 *
 * @param {{ ranges: { startOffset: number, endOffset: number, count: number }[] }[]} functions
 * @param {number[]} offsets
 * @returns {Map<number, number>}
 */
function countsAt(functions, offsets) {
  const ranges = functions.flatMap((one) => one.ranges)
    .sort((a, b) => a.startOffset - b.startOffset || b.endOffset - a.endOffset);
  const around = [];
  const counts = new Map();
  let next = 0;
  for (const offset of offsets.toSorted((a, b) => a - b)) {
    for (; next < ranges.length && ranges[next].startOffset <= offset; next++) {
      while (
        around.length > 0 && around.at(-1).endOffset <= ranges[next].startOffset
      ) around.pop();
      around.push(ranges[next]);
    }
    while (around.length > 0 && around.at(-1).endOffset <= offset) around.pop();
    counts.set(offset, around.at(-1)?.count ?? 0);
  }
  return counts;
}

/**
 * @param {Branch[]} branches
 * @param {{ functions: Parameters<typeof countsAt>[0] }} script what V8 reports of one run of it
 * @returns {boolean[]} for each branch whether that run reached it
 */
export function reached(branches, { functions }) {
  const counts = countsAt(
    functions,
    branches.flatMap(({ at, minus = at }) => [at, minus]),
  );
  return branches.map(({ at, minus }) =>
    counts.get(at) - (minus === undefined ? 0 : counts.get(minus)) > 0
  );
}

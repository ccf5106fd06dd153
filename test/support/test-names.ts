import ts from 'typescript';

/**
 * Returns the full names of the tests of a source file, as Jest prints them: the titles of the blocks around a test, and
 * its own. `%s`, `$name` and `${…}` are as they are written. A skipped test backs nothing, so it is not among them.
 */
export function testNames(source: string): string[] {
  const file = ts.createSourceFile('suite.ts', source, ts.ScriptTarget.ES2023, true);
  const names: string[] = [];
  const visit = (node: ts.Node, titles: readonly string[]): void => {
    const call = ts.isCallExpression(node) ? titledCall(node, file) : undefined;
    const around = call?.of === 'describe' ? [...titles, call.title] : titles;
    if (call?.of === 'it') names.push([...titles, call.title].join(' '));
    ts.forEachChild(node, (child) => {
      visit(child, around);
    });
  };
  visit(file, []);
  return names;
}

/** Reads `it('…')`, `describe('…')`, and both with `.each(…)`. Undefined for every other call. */
function titledCall(
  { expression, arguments: [title] }: ts.CallExpression,
  file: ts.SourceFile,
): { of: string; title: string } | undefined {
  const each = ts.isCallExpression(expression)
    ? /^(it|describe)\.each$/.exec(expression.expression.getText(file))
    : null;
  const of = each?.[1] ?? (ts.isIdentifier(expression) ? expression.text : '');
  if (!title || !['it', 'describe'].includes(of)) return undefined;
  if (ts.isStringLiteralLike(title)) return { of, title: title.text };
  // A title that is a variable is named by the variable.
  return { of, title: ts.isTemplateExpression(title) ? title.getText(file).slice(1, -1) : title.getText(file) };
}

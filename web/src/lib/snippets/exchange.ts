/** Snippets as a file: what is written here can be read here. Pure. */
import type { Snippet, SnippetWords } from '$lib/api/types';

/** Says what the file is; a number of another kind is of a newer Rexec. */
const FORMAT = 'rexec-snippets/1';

/** A file's text. */
export function exported(list: readonly Snippet[]): string {
  const snippets = list.map(({ name, description, body }) => ({ name, description, body }));
  return `${JSON.stringify({ format: FORMAT, snippets }, null, 2)}\n`;
}

/** What a file holds; throws an `Error` that says where it is wrong. */
export function imported(text: string): SnippetWords[] {
  const file = parsed(text);
  if (!isRecord(file) || !Array.isArray(file.snippets))
    throw new Error('no list called “snippets” in it');
  if (file.format !== FORMAT)
    throw new Error(`its format is ${String(file.format)}, not ${FORMAT}`);
  return file.snippets.map((each: unknown, index) => {
    const at = `snippets[${index}]`;
    if (!isRecord(each)) throw new Error(`${at} is not an object`);
    const { name, description = '', body } = each;
    if (typeof name !== 'string') throw new Error(`${at}.name is not a text`);
    if (typeof description !== 'string') throw new Error(`${at}.description is not a text`);
    if (typeof body !== 'string') throw new Error(`${at}.body is not a text`);
    return { name, description, body };
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (thrown) {
    // V8's message names the place: “Unexpected token … (line 3 column 7)”.
    throw new Error(`not JSON: ${thrown instanceof Error ? thrown.message : thrown}`);
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

/** Parameters of snippets: `{{name}}` and `{{name=default}}`. Pure. */

/** A value that is asked for before a snippet is used. */
export interface Parameter {
  readonly name: string;
  readonly fallback: string;
}

const PLACE = /\{\{\s*([\p{L}_][\p{L}\p{N}_-]{0,39})\s*(?:=([^{}]*))?\}\}/gu;

/** What a snippet asks for, each once, in order; the first default that is given counts. */
export function parametersOf(body: string): Parameter[] {
  const found = new Map<string, string | undefined>();
  for (const [, name = '', fallback] of body.matchAll(PLACE)) {
    found.set(name, found.get(name) ?? fallback);
  }
  return [...found].map(([name, fallback]) => ({ name, fallback: fallback ?? '' }));
}

/** The snippet with its values. What has none keeps its default; what looks like a parameter within a value stays text. */
export function filled(body: string, values: Readonly<Record<string, string>>): string {
  const defaults = new Map(parametersOf(body).map(({ name, fallback }) => [name, fallback]));
  return body.replace(PLACE, (_all, name: string) => {
    const value = Object.hasOwn(values, name) ? values[name] : undefined;
    return value ?? defaults.get(name) ?? '';
  });
}

/**
 * What a form knows besides its values: which fields are wrong, and what the server said. A field complains once it was
 * left or the form was sent, never while it is being typed the first time.
 */
import { type ApiProblem, asProblem } from '$lib/api/problem';
import { sentence } from '$lib/ui/sentence';

export type Checks<F extends string> = Record<F, () => string | undefined>;

export class Form<F extends string> {
  busy = $state(false);
  /** A refusal that concerns no single field. */
  problem: ApiProblem | undefined = $state.raw();
  /** When the server takes another try (rate limit), in ms since the epoch. */
  notBefore: number | undefined = $state();
  #touched: Partial<Record<F, boolean>> = $state({});
  #refused: Partial<Record<F, string>> = $state({});
  readonly #checks: Checks<F>;

  constructor(checks: Checks<F>) {
    this.#checks = checks;
  }

  /** What to show below a field. */
  error(field: F): string | undefined {
    if (this.#refused[field] !== undefined) return this.#refused[field];
    return this.#touched[field] ? this.#checks[field]() : undefined;
  }

  /** The field was left: from now on it is checked while it is typed. */
  touch(field: F): void {
    this.#touched[field] = true;
  }

  /** The field was changed: what the server said about the old value no longer holds. */
  changed(field: F): void {
    delete this.#refused[field];
    this.problem = undefined;
  }

  /** Sends, when every field is right; answers the first wrong field, for the focus. */
  async submit(send: () => Promise<void>): Promise<F | undefined> {
    if (this.busy) return undefined;
    const fields = Object.keys(this.#checks) as F[];
    for (const field of fields) this.#touched[field] = true;
    const wrong = fields.find((field) => this.error(field) !== undefined);
    if (wrong !== undefined) return wrong;
    this.busy = true;
    this.problem = undefined;
    try {
      await send();
      return undefined;
    } catch (thrown) {
      return this.#refuse(asProblem(thrown), fields);
    } finally {
      this.busy = false;
    }
  }

  #refuse(problem: ApiProblem, fields: F[]): F | undefined {
    if (problem.retryAfterS !== undefined) this.notBefore = Date.now() + problem.retryAfterS * 1000;
    const field = fields.find((each) => each === problem.field);
    if (field === undefined) {
      this.problem = problem;
      return undefined;
    }
    const hint = problem.hint ? `. ${sentence(problem.hint)}` : '';
    this.#refused[field] = sentence(problem.detail) + hint;
    return field;
  }
}

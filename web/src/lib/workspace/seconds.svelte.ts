/** The time on `performance.now()`, moving while a component needs it to: made while it is set up, gone with it. */

const STEP_MS = 200;

/** A clock that stands still while nobody needs it. */
export class Seconds {
  #now = $state(performance.now());

  constructor(needed: () => boolean) {
    $effect(() => {
      if (!needed()) return;
      this.#now = performance.now();
      const timer = setInterval(() => {
        this.#now = performance.now();
      }, STEP_MS);
      return () => clearInterval(timer);
    });
  }

  /** Whole seconds until a moment. */
  until(at: number): number {
    return Math.max(0, Math.ceil((at - this.#now) / 1000));
  }

  /** Milliseconds since a moment. */
  since(at: number): number {
    return this.#now - at;
  }
}

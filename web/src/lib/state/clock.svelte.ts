/** One second hand for the whole page, so that all relative times move together and only while somebody looks. */

export class Clock {
  /** Now, in ms since the epoch, to the second. */
  now = $state(Date.now());
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Ticks while the page is visible; returns what stops it. */
  start(): () => void {
    document.addEventListener('visibilitychange', this.#visibility);
    this.#visibility();
    return () => {
      document.removeEventListener('visibilitychange', this.#visibility);
      clearInterval(this.#timer);
    };
  }

  readonly #visibility = () => {
    clearInterval(this.#timer);
    if (document.visibilityState === 'hidden') return;
    this.now = Date.now();
    this.#timer = setInterval(() => {
      this.now = Date.now();
    }, 1000);
  };
}

export const clock = new Clock();

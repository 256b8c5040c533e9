/** Whether predictive echo is worth its looks: on a near machine it would only flicker. */

/** What a person wants of it. */
export type EchoChoice = 'auto' | 'always' | 'never';

/** Round trip from which typing feels late, ms. */
export const SHOW_FROM_MS = 30;
/** Round trip below which it no longer does, ms: apart, so that a path at the border does not switch to and fro. */
export const HIDE_BELOW_MS = 20;
/** Weight of the newest measurement. */
const NEWEST = 1 / 4;

/** Follows the round trip. */
export class Worth {
  #rtt: number | null = null;
  #last: number | null = null;
  #late = false;

  /**
   * A round trip was measured. A busy page makes one late now and then, only a far machine two in a row: the smaller of the
   * last two counts, and of the very first no more than half.
   */
  measured(ms: number): void {
    const sure = Math.min(ms, this.#last ?? ms / 2);
    this.#last = ms;
    this.#rtt = this.#rtt === null ? sure : this.#rtt + (sure - this.#rtt) * NEWEST;
    if (this.#rtt >= SHOW_FROM_MS) this.#late = true;
    else if (this.#rtt < HIDE_BELOW_MS) this.#late = false;
  }

  /** Whether to show predictions. */
  shows(choice: EchoChoice): boolean {
    return choice === 'always' || (choice === 'auto' && this.#late);
  }
}

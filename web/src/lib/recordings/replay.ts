/** Plays a recording in its own time. */
import type { Cast } from './cast';

/** What is played to. */
export interface Player {
  /** The screen is empty again. */
  clear(): void;
  write(text: string): void;
}

export class Replay {
  readonly #cast: Cast;
  readonly #player: Player;
  #next = 0;
  /** Where it stands, s from the start. */
  #position = 0;
  /** When it would have begun, had it never paused; null: it does not play. */
  #start: number | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(cast: Cast, player: Player) {
    this.#cast = cast;
    this.#player = player;
  }

  /** Plays on, from the start once it has ended; begins anew `again` ms after each end, or not. */
  play(again: number | null): void {
    clearTimeout(this.#timer);
    const { frames } = this.#cast;
    if (this.#next >= frames.length) this.#next = this.#position = 0;
    if (this.#next === 0) this.#player.clear();
    this.#start = performance.now() - this.#position * 1_000;
    this.#step(this.#start, again);
  }

  /** Stops where it is. */
  pause(): void {
    clearTimeout(this.#timer);
    if (this.#start !== null) this.#position = (performance.now() - this.#start) / 1_000;
    this.#start = null;
  }

  /** Shows how it ends, at once. */
  finish(): void {
    this.pause();
    this.#player.clear();
    this.#next = this.#cast.frames.length;
    this.#player.write(this.#cast.frames.map(({ text }) => text).join(''));
  }

  #step(start: number, again: number | null): void {
    const { frames } = this.#cast;
    const elapsed = (performance.now() - start) / 1_000;
    let text = '';
    for (let frame = frames[this.#next]; frame && frame.at <= elapsed; frame = frames[this.#next]) {
      text += frame.text;
      this.#next += 1;
    }
    if (text !== '') this.#player.write(text);
    const next = frames[this.#next];
    if (next) this.#timer = setTimeout(() => this.#step(start, again), (next.at - elapsed) * 1_000);
    else if (again !== null) this.#timer = setTimeout(() => this.play(again), again);
  }
}

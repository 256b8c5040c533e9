// @vitest-environment node
/**
 * Viewer and host over transports that deliver in pieces, stall and die. Whatever happens, the shell
 * gets every byte typed once and in order, and the terminal shows exactly what the PTY printed.
 */
import { expect, it } from 'vitest';
import { type Chance, firstDifference, forSeeds } from './testing/random';
import { Rig } from './testing/rig';

/** Typing and printing carry running numbers, so a lost or doubled byte is seen. */
class Story {
  readonly rig: Rig;
  readonly typed: number[] = [];
  readonly chance: Chance;
  moves = 0;
  /** The transport that what is held came from. */
  #heldFrom: number | null = null;
  #held = new Uint8Array(0);

  constructor(chance: Chance) {
    this.chance = chance;
    this.rig = new Rig({ random: chance.draw });
  }

  run(steps: number): void {
    this.rig.start();
    for (let step = 0; step < steps; step += 1) this.#step();
    this.#calm();
  }

  #step(): void {
    const { chance, rig } = this;
    if (chance.once(3)) this.#type(chance.between(1, chance.once(20) ? 60_000 : 40));
    if (chance.once(3))
      rig.host.print(chance.bytes(chance.between(1, chance.once(20) ? 40_000 : 60)));
    if (chance.once(60)) rig.host.forget(chance.between(1, 30_000));
    if (chance.once(25)) this.#cut();
    if (chance.once(5)) this.#better();
    if (chance.once(40)) rig.network = !rig.network;
    if (chance.once(40)) rig.control = !rig.control;
    this.#move();
    this.#parse(chance.between(0, 3));
    rig.now += chance.between(0, 80);
    rig.machine.tick(rig.now);
    rig.drain();
  }

  #type(count: number): void {
    const bytes = Uint8Array.from(
      { length: count },
      (_, index) => (this.typed.length + index) % 251,
    );
    if (!this.rig.machine.write(bytes, this.rig.now)) return;
    for (const byte of bytes) this.typed.push(byte);
  }

  /** A better transport opens, and perhaps comes to nothing. */
  #better(): void {
    const { rig, chance } = this;
    if (rig.moving && chance.once(4)) rig.cutNext();
    else rig.better();
  }

  /** The transport dies somewhere: what is still in it is lost, in both directions. */
  #cut(): void {
    const { rig, chance } = this;
    if (chance.once(2)) rig.up();
    this.#held = new Uint8Array(0);
    rig.cut(chance.once(3) ? 4008 : 1006);
  }

  /** Moves some bytes, and of what the host sends only a piece at a time. */
  #move(): void {
    const { rig, chance } = this;
    rig.reconcile();
    if (!chance.once(3)) this.#downNext();
    if (this.#heldFrom !== rig.transport) this.#held = new Uint8Array(0);
    this.#heldFrom = rig.transport;
    if (chance.once(2)) rig.up();
    if (!chance.once(3)) rig.upNext();
    if (!rig.connected) return;
    this.#held = Uint8Array.from([...this.#held, ...rig.take()]);
    const count = chance.once(4)
      ? this.#held.length
      : Math.min(this.#held.length, chance.between(0, 700));
    rig.down(this.#held.slice(0, count));
    this.#held = this.#held.slice(count);
  }

  /** The better transport brings something; once it is the viewer's, nothing of the older one is heard any more. */
  #downNext(): void {
    const { rig } = this;
    if (!rig.downNext()) return;
    rig.reconcile();
    if (!rig.moving) this.moves += 1;
  }

  #parse(pieces: number): void {
    for (let n = 0; n < pieces; n += 1) {
      const piece = this.rig.terminal.parse();
      if (piece) this.rig.machine.parsed(piece.generation, piece.end, this.rig.now);
    }
  }

  #calm(): void {
    const { rig } = this;
    rig.network = true;
    rig.control = true;
    if (rig.connected) rig.cut();
    for (let n = 0; n < 40; n += 1) {
      rig.pass(500).parse();
      rig.host.pump();
    }
  }
}

it('nothing is lost or doubled in either direction, whatever the transport does', () => {
  let gaps = 0;
  let transports = 0;
  let moves = 0;
  forSeeds(60, (chance) => {
    const story = new Story(chance);
    story.run(400);
    const { rig } = story;
    expect(rig.machine.phase.at).toBe('live');
    expect(rig.told('fault')).toEqual([]);
    expect(rig.host.typed.length).toBe(story.typed.length);
    expect(firstDifference(rig.host.typed, story.typed)).toBe(-1);
    expect(firstDifference(rig.terminal.shown, rig.host.log)).toBe(-1);
    expect(rig.machine.input.pending).toBe(0);
    expect(rig.host.acked).toBe(rig.host.log.length);
    gaps += rig.told('gap').length;
    transports += rig.host.firsts.length;
    moves += story.moves;
  });
  // The story is only worth its name if transports died in it and the log forgot.
  expect(transports).toBeGreaterThan(300);
  expect(gaps).toBeGreaterThan(10);
  expect(moves).toBeGreaterThan(50);
}, 60_000);

/** What a viewer wants of the world, by where it stands. */
import type { Move } from './move';
import type { NextTransport, Phase, ProofRequest, Want } from './phase';

/** The level that the shell makes true: see {@link Want}. `move` is the better transport that is taking over. */
export function wantIn(phase: Phase, move: Move | null): Want {
  switch (phase.at) {
    case 'ticketing':
      return { kind: 'ticket', n: phase.n };
    case 'proving':
      return transport(phase.n, { nonce: phase.nonce, first: phase.first });
    case 'dialing':
    case 'greeting':
    case 'proved':
      return transport(phase.n, null);
    case 'live':
      return transport(phase.n, null, move && { n: move.n, prove: move.prove });
    case 'new':
    case 'waiting':
    case 'over':
      return { kind: 'nothing' };
  }
}

function transport(n: number, prove: ProofRequest | null, next: NextTransport | null = null): Want {
  return { kind: 'transport', n, prove, next };
}

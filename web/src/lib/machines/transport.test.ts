import { expect, it } from 'vitest';
import { notQuic } from './transport';

it('why a tunnel is not over QUIC is told by its cause, with what the agent says of it', () => {
  const detail = 'UDP to 192.0.2.9:7443 got no answer';
  expect(notQuic({ cause: 'udp_silent', detail })).toBe(`no answer over UDP (${detail})`);
  expect(notQuic({ cause: 'quic_failed', detail: '' })).toBe('no handshake over QUIC');
  expect([notQuic({ cause: 'unknown', detail: '' }), notQuic(null), notQuic(undefined)]).toEqual(
    Array(3).fill('UDP does not get through'),
  );
});

// @vitest-environment node
import { expect, it } from 'vitest';
import { byteCount, carrierOf, quality, restOf, roundTrip } from './format';

it('bytes are counted in the unit that fits', () => {
  expect([0, 1023, 1024, 5.25 * 1024 ** 2, 300 * 1024 ** 3].map(byteCount)).toEqual([
    '0 B',
    '1023 B',
    '1.0 KiB',
    '5.3 MiB',
    '300 GiB',
  ]);
});

it('a round trip is as exact as it deserves', () => {
  expect([0.42, 9.96, 23.4, 1250].map(roundTrip)).toEqual(['0.4 ms', '10.0 ms', '23 ms', '1.3 s']);
  expect([5, 100, 400].map(quality)).toEqual(['good', 'fair', 'poor']);
});

it('a carrier is named, and one that is not the best says why', () => {
  expect(carrierOf('quic')).toEqual({ name: 'QUIC', why: null });
  expect(carrierOf('tcp')).toMatchObject({
    name: 'TLS over TCP',
    why: expect.stringContaining('UDP'),
  });
  const reason = { cause: 'udp_silent', detail: '' } as const;
  expect(carrierOf('tcp', reason)?.why).toMatch(/^TCP — no answer over UDP\. /);
  expect([carrierOf(null), carrierOf(undefined), carrierOf('pigeon')]).toEqual([null, null, null]);
});

it('the rest of a round trip is never below nothing', () => {
  expect([restOf(40, 12), restOf(2, 1.5), restOf(2, 9)]).toEqual([
    'about 28 ms',
    'under 1 ms',
    'under 1 ms',
  ]);
});

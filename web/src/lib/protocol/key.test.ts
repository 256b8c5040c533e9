import { p256 } from '@noble/curves/nist.js';
import { sha256 } from '@noble/hashes/sha2.js';
import { describe, expect, it } from 'vitest';
import { fromBase64Url, toBase64Url, utf8 } from './bytes';
import { loadViewerKey, makeViewerKey, signedBytes, type ViewerKey } from './key';

const request = { nonce: new Uint8Array(32).fill(9), first: utf8('{"v":1}') };

async function check(key: ViewerKey) {
  const proof = await key.prove(request);
  const point = fromBase64Url(proof.key) ?? new Uint8Array();
  const signature = fromBase64Url(proof.signature) ?? new Uint8Array();
  expect(point).toHaveLength(65);
  expect(signature).toHaveLength(64);
  expect(key.confirmation).toBe(toBase64Url(sha256(point)));
  const message = signedBytes(request.nonce, sha256(request.first));
  expect(p256.verify(signature, message, point, { lowS: false })).toBe(true);
}

describe('viewer key', () => {
  it('st_05 a WebCrypto key proves itself and cannot be read', async () => {
    const key = await makeViewerKey(crypto.subtle);
    expect(key.software).toBe(false);
    await check(key);
  });

  it('st_05 without WebCrypto a software key proves itself and says what it is', async () => {
    const key = await makeViewerKey(undefined);
    expect(key.software).toBe(true);
    await check(key);
  });

  it('a key that could not be made is made at the next call, and only once', async () => {
    await expect(loadViewerKey(() => Promise.reject(new Error('offline')))).rejects.toThrow(
      'offline',
    );
    const key = await loadViewerKey();
    expect(await loadViewerKey()).toBe(key);
  });

  it('two pages have two keys', async () => {
    const [a, b] = await Promise.all([makeViewerKey(undefined), makeViewerKey(undefined)]);
    expect(a.confirmation).not.toBe(b.confirmation);
  });
});

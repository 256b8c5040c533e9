/**
 * The viewer's own key: ECDSA P-256, made per page load, never stored. Tickets name its hash, the
 * session host demands a signature by it, so a stolen ticket is worth nothing (THREATS ST-05).
 *
 * On a secure origin it is a non-extractable WebCrypto key. Plain http on another address than
 * localhost has no WebCrypto: there it is a software key, and the page must say so.
 */
import { type Bytes, concat, toBase64Url, utf8 } from './bytes';
import type { Proof } from './messages';
import type { ProofRequest } from './phase';

/** A key that proves who asked for a ticket. */
export interface ViewerKey {
  /** Whether a script of this page could read the private key: the browser offers no better here. */
  readonly software: boolean;
  /** base64url(sha256(public key)): what a ticket request names. */
  readonly confirmation: string;
  /** Answers a challenge. */
  prove(request: ProofRequest): Promise<Proof>;
}

const CONTEXT = utf8('rexec-proof-v1\0');

/** What is signed: context · nonce · sha256(first frame's payload). */
export function signedBytes(nonce: Uint8Array, firstHash: Uint8Array): Bytes {
  return concat(CONTEXT, nonce, firstHash);
}

/** A new key of the best kind this page can have. */
export function makeViewerKey(subtle: SubtleCrypto | undefined): Promise<ViewerKey> {
  return subtle ? webCryptoKey(subtle) : softwareKey();
}

let loaded: Promise<ViewerKey> | undefined;

/** This page's key, made at the first call that succeeds. */
export function loadViewerKey(make = makeViewerKey): Promise<ViewerKey> {
  loaded ??= make(globalThis.crypto.subtle as SubtleCrypto | undefined).catch((error: unknown) => {
    loaded = undefined;
    throw error;
  });
  return loaded;
}

async function webCryptoKey(subtle: SubtleCrypto): Promise<ViewerKey> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256' };
  const pair = await subtle.generateKey(algorithm, false, ['sign', 'verify']);
  const point = new Uint8Array(await subtle.exportKey('raw', pair.publicKey));
  const sha256 = async (bytes: Bytes) => new Uint8Array(await subtle.digest('SHA-256', bytes));
  return {
    software: false,
    confirmation: toBase64Url(await sha256(point)),
    async prove({ nonce, first }) {
      const message = signedBytes(nonce, await sha256(first));
      const signature = await subtle.sign(
        { name: 'ECDSA', hash: 'SHA-256' },
        pair.privateKey,
        message,
      );
      return { key: toBase64Url(point), signature: toBase64Url(new Uint8Array(signature)) };
    },
  };
}

async function softwareKey(): Promise<ViewerKey> {
  const [{ p256 }, { sha256 }] = await Promise.all([
    import('@noble/curves/nist.js'),
    import('@noble/hashes/sha2.js'),
  ]);
  const { secretKey } = p256.keygen();
  const point = p256.getPublicKey(secretKey, false);
  return {
    software: true,
    confirmation: toBase64Url(sha256(point)),
    prove({ nonce, first }) {
      const signature = p256.sign(signedBytes(nonce, sha256(first)), secretKey);
      return Promise.resolve({ key: toBase64Url(point), signature: toBase64Url(signature) });
    },
  };
}

/** The short code that `rexec-agent register` prints: eight letters or digits, shown as `ABCD-EFGH`. */

const LENGTH = 8;

/** The code as the API wants it, or nothing when it is not complete. Case, blanks and dashes do not matter. */
export function normalCode(typed: string): string | undefined {
  const bare = bareCode(typed);
  return bare.length === LENGTH ? dashed(bare) : undefined;
}

/** What to show while a code is being typed: capitals, with the dash after four. */
export function shownCode(typed: string): string {
  return dashed(bareCode(typed).slice(0, LENGTH));
}

/** A fingerprint in groups of four, which eyes can compare; other formats are left as they are. */
export function grouped(fingerprint: string): string {
  return /^[0-9a-f]+$/i.test(fingerprint)
    ? (fingerprint.match(/.{1,4}/g) ?? []).join(' ')
    : fingerprint;
}

function bareCode(typed: string): string {
  return typed.toUpperCase().replace(/[^A-Z0-9]/g, '');
}

function dashed(bare: string): string {
  return bare.length > 4 ? `${bare.slice(0, 4)}-${bare.slice(4)}` : bare;
}

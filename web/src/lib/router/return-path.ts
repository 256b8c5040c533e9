/**
 * Where to go after signing in. The path comes out of the address bar, so anyone may have written it: only a plain path
 * on this very origin is believed, everything else becomes `/`.
 */

/** Longest return path followed, in characters; real ones are a machine id long. */
const RETURN_PATH_MAX = 512;

// Encoded forms of `\`, `/` and control characters, which some layer after us may decode. Behind the `?` slashes are data.
const ENCODED_TRICKS = /^[^?]*%(?:5c|2f)|%(?:0[0-9a-f]|1[0-9a-f]|7f)/i;

/** The given path when it is a safe relative path of this app, else `/`. */
export function safeReturnPath(raw: string | null | undefined): string {
  if (!raw || raw.length > RETURN_PATH_MAX) return '/';
  if (!raw.startsWith('/') || raw.startsWith('//')) return '/';
  if (raw.includes('\\') || ENCODED_TRICKS.test(raw) || hasControlOrSpace(raw)) return '/';
  return resolved(raw);
}

/** `/sign-in`, remembering `path` when it is worth returning to. */
export function signInPath(path: string): string {
  const back = safeReturnPath(path);
  return back === '/' ? '/sign-in' : `/sign-in?return=${encodeURIComponent(back)}`;
}

/** Resolves dot segments as the browser would and checks that the result is still ours and not a page that would loop. */
function resolved(raw: string): string {
  const base = 'https://app.invalid';
  if (!URL.canParse(raw, base)) return '/';
  const url = new URL(raw, base);
  if (url.origin !== base || url.pathname.startsWith('//')) return '/';
  if (url.pathname === '/sign-in' || url.pathname === '/setup') return '/';
  return url.pathname + url.search;
}

function hasControlOrSpace(text: string): boolean {
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    if (code <= 0x20 || (code >= 0x7f && code <= 0x9f) || code === 0x2028 || code === 0x2029) {
      return true;
    }
  }
  return false;
}

/**
 * OSC 52: a program offers text for the clipboard. It is asked about, never done (THREATS OUT-01); to read the clipboard is
 * refused without a word.
 */
import type { IDisposable, IParser } from '@xterm/xterm';

/** Bytes of text a program may offer. */
export const OFFER_MAX = 100 * 1024;

/** Calls back with the text of every offer. */
export function watchOffers(parser: IParser, offered: (text: string) => void): IDisposable {
  return parser.registerOscHandler(52, (data) => {
    const text = offerOf(data);
    if (text !== null) offered(text);
    return true;
  });
}

/** The text of an offer; null: it is a question, too long, or no text. */
export function offerOf(data: string): string | null {
  const encoded = /^[cpqs0-7]*;([A-Za-z0-9+/]+={0,2})$/.exec(data)?.[1];
  if (encoded === undefined || encoded.length > (OFFER_MAX / 3) * 4 + 4) return null;
  try {
    const bytes = Uint8Array.from(atob(encoded), (char) => char.charCodeAt(0));
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return text === '' ? null : text;
  } catch {
    return null;
  }
}

/** Links in terminal output: untrusted text. Only http(s) is followed, in a page that cannot reach back (THREATS OUT-03). */

/** The address a link leads to, as it will be opened; null when it is not to be followed. */
export function followable(uri: string): string | null {
  if (!URL.canParse(uri)) return null;
  const url = new URL(uri);
  return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
}

/** Whether a click follows a link rather than places the cursor or selects. */
export function followsLink(event: Pick<MouseEvent, 'ctrlKey' | 'metaKey'>): boolean {
  return event.ctrlKey || event.metaKey;
}

/** Opens an address in a page of its own. */
export function openLink(address: string): void {
  window.open(address, '_blank', 'noopener,noreferrer');
}

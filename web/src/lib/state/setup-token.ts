/** The one-time set-up token: it arrives in the fragment, which no server sees, and leaves the address bar at once. */

/** Takes the token out of the address. Empty when there is none. */
export function takeSetupToken(): string {
  const token = location.hash.slice(1).trim();
  if (location.hash) history.replaceState(history.state, '', location.pathname + location.search);
  return token;
}

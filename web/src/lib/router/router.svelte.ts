/** The address bar as state: one `Router`, read by the app, moved by links and `navigate`. */
import { tick } from 'svelte';
import { type Route, routeOf } from './routes';

export class Router {
  #path = $state(location.pathname);
  #search = $state(location.search);

  /** The place the address names now. */
  readonly route: Route = $derived(routeOf(this.#path, this.#search));

  /** Path and query, as a return path would name them. */
  get here(): string {
    return this.#path + this.#search;
  }

  /** Follows the history and turns clicks on links of this origin into moves; returns what undoes it. */
  listen(): () => void {
    const moved = () => this.#read();
    const clicked = (event: MouseEvent) => this.#click(event);
    addEventListener('popstate', moved);
    document.addEventListener('click', clicked);
    return () => {
      removeEventListener('popstate', moved);
      document.removeEventListener('click', clicked);
    };
  }

  /** Goes to a path of this app. `replace` leaves no entry to come back to. */
  navigate(path: string, options: { replace?: boolean } = {}): void {
    if (options.replace) history.replaceState(null, '', path);
    else history.pushState(null, '', path);
    this.#read();
    if (!options.replace) void this.#land();
  }

  /** To the part that the address names, once its page is there, or to the top. */
  async #land(): Promise<void> {
    await tick();
    const part = location.hash === '' ? null : document.getElementById(location.hash.slice(1));
    if (part) part.scrollIntoView();
    else scrollTo(0, 0);
  }

  #read(): void {
    this.#path = location.pathname;
    this.#search = location.search;
  }

  #click(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest('a') : null;
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin)
      return;
    if (routeOf(link.pathname, link.search).name === 'not-found') return;
    // Within the page the browser knows the way.
    if (link.hash !== '' && link.pathname === location.pathname && link.search === location.search)
      return;
    event.preventDefault();
    this.navigate(link.pathname + link.search + link.hash);
  }
}

export const router = new Router();

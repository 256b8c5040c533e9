/** Ports of machines that are open to browsers. */
import { api, call } from '$lib/api/client';
import type { Preview } from '$lib/api/types';

export class Previews {
  list: readonly Preview[] = $state.raw([]);
  ready = $state(false);
  #loading: Promise<void> | undefined;

  /** Asks control, once; what failed is asked for again the next time. */
  load(): Promise<void> {
    this.#loading ??= this.#fetch().catch((thrown: unknown) => {
      this.#loading = undefined;
      throw thrown;
    });
    return this.#loading;
  }

  /** `event: previews`: some have changed. */
  changed(): void {
    if (!this.ready) return;
    this.#loading = undefined;
    void this.load().catch(() => {});
  }

  of(machine: string): Preview[] {
    return this.list.filter((each) => each.machine === machine).sort((a, b) => a.port - b.port);
  }

  /** Opens a port; one that is open already stays as it is. */
  async open(machine: string, port: number): Promise<Preview> {
    const opened = await call(api.POST('/api/previews', { body: { machine, port } }));
    await this.#fetch();
    return opened;
  }

  async close(id: string): Promise<void> {
    await call(api.DELETE('/api/previews/{id}', { params: { path: { id } } }));
    await this.#fetch();
  }

  /** An address that lets this browser in, once, within a minute, and leads to `path`. */
  async pass(id: string, path = '/'): Promise<string> {
    const { url } = await call(api.POST('/api/previews/{id}/pass', { params: { path: { id } } }));
    return path === '/' ? url : `${url}&to=${encodeURIComponent(path)}`;
  }

  /** A link for anybody, in place of the one before. */
  async share(id: string, minutes: number): Promise<string> {
    const params = { path: { id } };
    const { url } = await call(api.POST('/api/previews/{id}/share', { params, body: { minutes } }));
    await this.#fetch();
    return url;
  }

  async unshare(id: string): Promise<void> {
    await call(api.DELETE('/api/previews/{id}/share', { params: { path: { id } } }));
    await this.#fetch();
  }

  clear(): void {
    this.list = [];
    this.ready = false;
    this.#loading = undefined;
  }

  async #fetch(): Promise<void> {
    this.list = await call(api.GET('/api/previews'));
    this.ready = true;
  }
}

export const previews = new Previews();

/** The machine and the port that a preview's address names, or null. */
export function placeOf(address: string): { machine: string; port: number; path: string } | null {
  if (!URL.canParse(address)) return null;
  const { hostname, pathname, search, hash } = new URL(address);
  const [, port, id] = /^([1-9]\d{0,4})-([0-9a-f]{32})\./.exec(hostname) ?? [];
  if (port === undefined || id === undefined || Number(port) > 65_535) return null;
  const machine = id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  return { machine, port: Number(port), path: pathname + search + hash };
}

import { afterEach, describe, expect, it, vi } from 'vitest';
import { api, call } from './client';
import { ApiProblem } from './problem';

function answering(body: unknown, init: ResponseInit = {}) {
  const sent: Request[] = [];
  vi.stubGlobal('fetch', async (request: Request) => {
    sent.push(request);
    return new Response(init.status === 204 ? null : JSON.stringify(body), init);
  });
  return sent;
}

afterEach(() => vi.unstubAllGlobals());

describe('api client', () => {
  it('every change carries the header that no other site can send', async () => {
    const sent = answering({ id: 'x' });
    await call(
      api.PATCH('/api/machines/{id}', { params: { path: { id: 'x' } }, body: { name: 'y' } }),
    );
    expect(sent[0]?.headers.get('x-rexec-csrf')).toBe('1');
    expect(sent[0]?.headers.get('content-type')).toBe('application/json');
  });

  it('reading carries none, so that a cached answer fits', async () => {
    const sent = answering([]);
    await call(api.GET('/api/machines'));
    expect(sent[0]?.headers.has('x-rexec-csrf')).toBe(false);
  });

  it('an id from outside stays one path segment', async () => {
    const sent = answering({});
    await call(api.GET('/api/machines/{id}', { params: { path: { id: '../me?x#y' } } }));
    expect(new URL(sent[0]?.url ?? '').pathname).toBe('/api/machines/..%2Fme%3Fx%23y');
  });

  it('a refusal is thrown as a problem', async () => {
    answering(
      { code: 'rate_limited', detail: 'too many attempts' },
      { status: 429, headers: { 'retry-after': '7' } },
    );
    const refused = call(api.POST('/api/logins', { body: { email: 'a@b.c', password: 'x' } }));
    await expect(refused).rejects.toMatchObject({
      status: 429,
      code: 'rate_limited',
      retryAfterS: 7,
    });
  });

  it('an empty success is a success', async () => {
    answering(null, { status: 204 });
    await expect(call(api.DELETE('/api/logins/current'))).resolves.toBeUndefined();
  });

  it('a dead network says so and what to check', async () => {
    vi.stubGlobal('fetch', async () => {
      throw new TypeError('Failed to fetch');
    });
    const failed = await call(api.GET('/api/me')).catch((thrown: unknown) => thrown);
    expect(failed).toBeInstanceOf(ApiProblem);
    expect(failed).toMatchObject({ status: 0, code: 'unreachable' });
  });
});

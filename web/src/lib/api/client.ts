/**
 * The way to control's HTTP API: `const machines = await call(api.GET('/api/machines'))`. Paths, bodies and answers are
 * checked against the generated schema; every failure is thrown as an `ApiProblem`.
 */
import createClient, { type Middleware } from 'openapi-fetch';
import { ApiProblem, problemOf } from './problem';
import type { paths } from './schema';

/** Header that only a script of this origin can send; control refuses changes without it. */
export const CSRF_HEADER = 'X-Rexec-Csrf';

const csrf: Middleware = {
  onRequest({ request }) {
    if (request.method !== 'GET' && request.method !== 'HEAD')
      request.headers.set(CSRF_HEADER, '1');
    return request;
  },
};

/** How long an answer may take, ms: longer than control works on anything, and not for ever. */
const ANSWER_TIMEOUT_MS = 30_000;

function patient(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]);
}

export const api = createClient<paths>({
  baseUrl: location.origin,
  credentials: 'same-origin',
  // Looked up at each call: the client would keep the one of its birth, which tests could not replace.
  fetch: (request) => fetch(request, { signal: patient(request.signal) }),
  headers: { Accept: 'application/json' },
});
api.use(csrf);

interface Outcome<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The answer of a request, or an `ApiProblem`. */
export async function call<T>(request: Promise<Outcome<T>>): Promise<T> {
  const outcome = await request.catch((cause: unknown) => {
    // fetch rejects with TypeError when no answer came, and the client with SyntaxError when it was not JSON.
    if (cause instanceof TypeError || isTimeout(cause)) throw ApiProblem.offline();
    throw cause;
  });
  if (!outcome.response.ok) throw problemOf(outcome.response, outcome.error);
  return outcome.data as T;
}

function isTimeout(cause: unknown): boolean {
  return cause instanceof DOMException && cause.name === 'TimeoutError';
}

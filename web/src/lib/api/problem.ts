/** What went wrong with a request, in the words of the server where it answered (RFC 9457 problem details). */

interface ProblemFields {
  status: number;
  code: string;
  title: string;
  detail: string;
  hint?: string | undefined;
  field?: string | undefined;
  requestId?: string | undefined;
  retryAfterS?: number | undefined;
}

/** A failed request. `status` 0 means that no answer came at all. */
export class ApiProblem extends Error {
  readonly status: number;
  /** Stable name of the problem, for code to decide on. */
  readonly code: string;
  readonly title: string;
  /** What broke, for a person. */
  readonly detail: string;
  /** What to do about it. */
  readonly hint: string | undefined;
  /** The JSON field at fault. */
  readonly field: string | undefined;
  /** Names the request in the server's log. */
  readonly requestId: string | undefined;
  /** Seconds after which a retry makes sense (429, 503). */
  readonly retryAfterS: number | undefined;

  constructor(fields: ProblemFields) {
    super(fields.detail || fields.title);
    this.name = 'ApiProblem';
    this.status = fields.status;
    this.code = fields.code;
    this.title = fields.title;
    this.detail = fields.detail;
    this.hint = fields.hint;
    this.field = fields.field;
    this.requestId = fields.requestId;
    this.retryAfterS = fields.retryAfterS;
  }

  /** The server was never reached. */
  static offline(): ApiProblem {
    return new ApiProblem({
      status: 0,
      code: 'unreachable',
      title: 'server unreachable',
      detail: 'the server did not answer',
      hint: 'check the network, or whether rexec-control is running',
    });
  }
}

/** Any thrown value as a problem, so that pages handle one type only. */
export function asProblem(thrown: unknown): ApiProblem {
  if (thrown instanceof ApiProblem) return thrown;
  const detail = thrown instanceof Error ? thrown.message : String(thrown);
  return new ApiProblem({ status: 0, code: 'page', title: 'the page failed', detail });
}

/** Reads a refusal. Never throws: an answer that is no problem document still becomes one, naming what came instead. */
export function problemOf(response: Response, body: unknown): ApiProblem {
  const found = isRecord(body) ? body : {};
  return new ApiProblem({
    status: response.status,
    code: text(found.code) ?? `http_${response.status}`,
    title: text(found.title) ?? (response.statusText || `HTTP ${response.status}`),
    detail: text(found.detail) ?? text(found.title) ?? unexplained(response),
    hint: text(found.hint),
    field: text(found.field),
    requestId: text(found.request_id),
    retryAfterS: retryAfter(response.headers.get('retry-after')),
  });
}

function unexplained(response: Response): string {
  const type = response.headers.get('content-type') ?? 'nothing';
  return `the server answered ${response.status} with ${type} instead of a problem document`;
}

/** Seconds of a `Retry-After` header, in both of its forms. */
export function retryAfter(header: string | null, now = Date.now()): number | undefined {
  if (!header) return undefined;
  if (/^\d+$/.test(header)) return Number(header);
  const at = Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - now) / 1000));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

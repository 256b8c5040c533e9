/** The API's shapes, taken from the generated schema by route, so that they cannot drift from it. */
import type { paths } from './schema';

type Json<T> = T extends { content: { 'application/json': infer Body } } ? Body : never;
type Answer<
  Path extends keyof paths,
  Method extends keyof paths[Path],
  Status extends number,
> = paths[Path][Method] extends { responses: infer R }
  ? Status extends keyof R
    ? Json<R[Status]>
    : never
  : never;

export type Installation = Answer<'/api/installation', 'get', 200>;
export type Me = Answer<'/api/me', 'get', 200>;
export type Login = Answer<'/api/logins', 'get', 200>[number];
export type Machine = Answer<'/api/machines', 'get', 200>[number];
export type Sandbox = Answer<'/api/sandboxes', 'get', 200>[number];
export type SandboxState = Sandbox['state'];
export type Snapshot = Answer<'/api/snapshots', 'get', 200>[number];
export type SandboxOptions = Answer<'/api/sandbox-options', 'get', 200>;
export type MachineSession = Machine['sessions'][number];
export type JoinToken = Answer<'/api/join-tokens', 'get', 200>[number];
export type NewJoinToken = Answer<'/api/join-tokens', 'post', 201>;
export type DeviceRequest = Answer<'/api/device/{user_code}', 'get', 200>;
export type Ticket = Answer<'/api/tickets', 'post', 201>;
export type Activity = Answer<'/api/activity', 'get', 200>[number];
export type Snippet = Answer<'/api/snippets', 'get', 200>[number];
export type Preview = Answer<'/api/previews', 'get', 200>[number];
/** What a snippet says. */
export type SnippetWords = Pick<Snippet, 'name' | 'description' | 'body'>;

/** Who is signed in, and the installation this page belongs to. */
import { api, call } from '$lib/api/client';
import { type ApiProblem, asProblem } from '$lib/api/problem';
import type { Installation, Me } from '$lib/api/types';

/** What the page knows about the person in front of it. */
export type AccountPhase = 'loading' | 'setup' | 'signed-out' | 'signed-in' | 'unreachable';

export class Account {
  installation: Installation | undefined = $state();
  me: Me | undefined = $state();
  problem: ApiProblem | undefined = $state();

  readonly phase: AccountPhase = $derived.by(() => {
    if (this.me) return 'signed-in';
    if (!this.installation) return this.problem ? 'unreachable' : 'loading';
    return this.installation.setup_needed ? 'setup' : 'signed-out';
  });

  /** Asks the installation who we are; a failure leaves `problem` and can simply be tried again. */
  async load(): Promise<void> {
    this.problem = undefined;
    try {
      const installation = await call(api.GET('/api/installation'));
      if (installation.signed_in) this.me = await call(api.GET('/api/me'));
      this.installation = installation;
    } catch (thrown) {
      this.problem = asProblem(thrown);
    }
  }

  async signIn(email: string, password: string): Promise<void> {
    this.me = await call(api.POST('/api/logins', { body: { email, password } }));
  }

  async setUp(token: string, email: string, name: string, password: string): Promise<void> {
    this.me = await call(api.POST('/api/setup', { body: { token, email, name, password } }));
    if (this.installation) this.installation.setup_needed = false;
  }

  async signOut(): Promise<void> {
    await call(api.DELETE('/api/logins/current'));
    this.forget();
  }

  /** The login ended elsewhere. */
  forget(): void {
    this.me = undefined;
  }
}

export const account = new Account();

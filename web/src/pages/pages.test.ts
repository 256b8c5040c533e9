import { fireEvent, render, screen, waitFor } from '@testing-library/svelte';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import MachineList from '$lib/machines/MachineList.svelte';
import { account } from '$lib/state/account.svelte';
import { clock } from '$lib/state/clock.svelte';
import { sampleMachine } from '$lib/state/sample';
import Setup from './Setup.svelte';
import SignIn from './SignIn.svelte';

const installation = {
  name: 'Rexec',
  version: '0.1.0',
  setup_needed: true,
  signed_in: false,
  public_url: 'http://localhost:8080',
  time: 1_795_343_836_123,
};

function answering(status: number, body: unknown, headers: Record<string, string> = {}) {
  const bodies: unknown[] = [];
  vi.stubGlobal('fetch', async (request: Request) => {
    bodies.push(await request.json());
    return new Response(JSON.stringify(body), { status, headers });
  });
  return bodies;
}

const type = (label: string, value: string) =>
  fireEvent.input(screen.getByLabelText(label), { target: { value } });

beforeEach(() => {
  account.installation = { ...installation };
  return clock.start();
});

afterEach(() => {
  vi.unstubAllGlobals();
  account.me = undefined;
});

describe('set-up', () => {
  it('sends the token of the link, which is no longer in the address', async () => {
    history.replaceState(null, '', '/setup#one-time');
    const bodies = answering(201, { user: {}, org: {}, login: {} });
    render(Setup);
    expect(location.hash).toBe('');
    await type('Email', ' ada@x.dev ');
    await type('Name', 'Ada');
    await type('Password', 'correct horse battery');
    await fireEvent.submit(screen.getByTestId('setup-form'));
    await waitFor(() => expect(account.me).toBeDefined());
    expect(bodies).toEqual([
      { token: 'one-time', email: 'ada@x.dev', name: 'Ada', password: 'correct horse battery' },
    ]);
  });

  it('without a token explains where the link is', () => {
    history.replaceState(null, '', '/setup');
    render(Setup);
    expect(screen.getByTestId('setup-no-token').textContent).toContain('rexec-control setup-link');
  });

  it('a used link says so and leads to sign-in', () => {
    history.replaceState(null, '', '/setup#old');
    account.installation = { ...installation, setup_needed: false };
    render(Setup);
    expect(screen.getByTestId('setup-used').querySelector('a')?.getAttribute('href')).toBe(
      '/sign-in',
    );
  });

  it('a refused field is marked, described and focused', async () => {
    history.replaceState(null, '', '/setup#one-time');
    answering(422, { code: 'invalid', detail: 'this is no e-mail address', field: 'email' });
    render(Setup);
    await type('Email', 'ada@x');
    await type('Name', 'Ada');
    await type('Password', 'correct horse battery');
    await fireEvent.submit(screen.getByTestId('setup-form'));
    const email = screen.getByLabelText('Email');
    await waitFor(() => expect(email.getAttribute('aria-invalid')).toBe('true'));
    expect(document.getElementById(email.getAttribute('aria-describedby') ?? '')?.textContent).toBe(
      'This is no e-mail address',
    );
    expect(document.activeElement).toBe(email);
  });
});

describe('sign-in', () => {
  it('counts down after too many attempts and sends nothing meanwhile', async () => {
    const bodies = answering(
      429,
      { code: 'rate_limited', detail: 'too many attempts' },
      { 'retry-after': '42' },
    );
    render(SignIn);
    await type('Email', 'ada@x.dev');
    await type('Password', 'wrong');
    await fireEvent.submit(screen.getByTestId('sign-in-form'));
    await waitFor(() => expect(screen.getByTestId('rate-limited').textContent).toMatch(/0:4[123]/));
    await fireEvent.submit(screen.getByTestId('sign-in-form'));
    expect(bodies).toHaveLength(1);
    expect(screen.getByTestId<HTMLButtonElement>('submit').disabled).toBe(true);
  });
});

describe('machine list', () => {
  it('names, hosts and tags from outside stay text', () => {
    const evil = '<img src=x onerror=alert(1)>';
    const machines = [
      sampleMachine({ id: 'a', name: evil, hostname: evil, tags: [evil], os: evil }),
    ];
    const { container } = render(MachineList, {
      entries: machines.map((machine) => ({ machine })),
      ready: true,
      onaction: vi.fn(),
      ontag: vi.fn(),
    });
    expect(container.querySelector('img')).toBeNull();
    expect(screen.getByTestId('machine-name').textContent).toBe(evil);
  });

  it('a machine over TCP says why it is not over QUIC, and one over QUIC has nothing to say', () => {
    const reason = { cause: 'udp_silent', detail: '<b>UDP</b> got no answer' } as const;
    const machines = [
      sampleMachine({ id: 'a', transport: 'tcp', transport_reason: reason }),
      sampleMachine({ id: 'b', transport: 'quic' }),
    ];
    render(MachineList, {
      entries: machines.map((machine) => ({ machine })),
      ready: true,
      onaction: vi.fn(),
      ontag: vi.fn(),
    });
    const told = screen.getAllByTestId('not-quic').map((mark) => mark.title);
    expect(told).toEqual(['TCP — no answer over UDP (<b>UDP</b> got no answer)']);
  });

  it('an id from outside stays one segment of the address', () => {
    const machines = [sampleMachine({ id: '../sign-in?return=' })];
    render(MachineList, {
      entries: machines.map((machine) => ({ machine })),
      ready: true,
      onaction: vi.fn(),
      ontag: vi.fn(),
    });
    expect(screen.getByTestId<HTMLAnchorElement>('machine-name').pathname).toBe(
      '/m/..%2Fsign-in%3Freturn%3D',
    );
  });
});

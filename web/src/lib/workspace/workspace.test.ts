import { describe, expect, it, vi } from 'vitest';
import type { Machine, MachineSession } from '$lib/api/types';
import { ViewerMachine } from '../protocol/viewer';
import { isReport } from './cast';
import { choicesOf } from './choices';
import { type Group, parseLayout } from './layout';
import { type Connect, SessionTab, type Shown } from './tab.svelte';
import { Workspace } from './workspace.svelte';

const ME = 'me';
const id = (n: number) => `01920000-0000-7000-8000-${String(n).padStart(12, '0')}`;

const session = (n: number, more: Partial<MachineSession> = {}): MachineSession => ({
  session: id(n),
  kind: 'terminal',
  title: `title ${n}`,
  cols: 80,
  rows: 24,
  viewers: 0,
  user: ME,
  created: Date.parse('2026-11-22T10:00:00Z'),
  ...more,
});

const machine = (n: number, sessions: MachineSession[] = [], online = true) =>
  ({ id: id(n), name: `m${n}`, online, sessions }) as Machine;

function bench(stored = 'null') {
  let kept = stored;
  const links: {
    place: Parameters<Connect>[0];
    create: boolean;
    dispose: () => void;
    wake: () => void;
  }[] = [];
  const connect: Connect = (place, options) => {
    const spec = options.spec;
    const viewer = new ViewerMachine({ ...options, session: place.session, spec, random: () => 0 });
    const link = {
      machine: viewer,
      start: vi.fn(),
      write: vi.fn(() => true),
      parsed: vi.fn(),
      resize: vi.fn(),
      takeLease: vi.fn(),
      cancelInput: vi.fn(),
      endSession: vi.fn(),
      wake: vi.fn(),
      dispose: vi.fn(),
    };
    links.push({ place, create: options.create, dispose: link.dispose, wake: link.wake });
    return link;
  };
  let next = 100;
  const notices: string[] = [];
  const workspace: Workspace = new Workspace({
    keep: (layout) => {
      kept = JSON.stringify(layout);
    },
    newId: () => id(next++),
    makeTab: (place, changed) =>
      new SessionTab({
        place,
        viewer: id(900),
        connect,
        reports: {
          changed,
          notice: (text) => notices.push(text),
          ended: (tab) => workspace.close(tab),
          finished: () => {},
          rang: () => {},
          typed: (tab, bytes) => workspace.relay(tab, bytes),
        },
      }),
  });
  const restore = () => workspace.restore(parseLayout(JSON.parse(stored)));
  return { workspace, links, notices, restore, kept: () => kept };
}

const places = (workspace: Workspace) => workspace.tabs.map(({ machine: m, session: s }) => [m, s]);
const front = (workspace: Workspace) => workspace.active?.session;

describe('workspace', () => {
  it('coming to a machine attaches to all that runs there', () => {
    const { workspace } = bench();
    const all = [
      session(1),
      session(2, { exited: { code: 0, offset: 9 } }),
      session(3, { kind: 'exec' }),
      session(4),
      session(5, { user: 'other' }),
    ];
    expect(workspace.arrive(machine(1, all), ME)).toBe(true);
    expect(places(workspace)).toEqual([
      [id(1), id(1)],
      [id(1), id(4)],
    ]);
    expect(front(workspace)).toBe(id(1));
    expect(workspace.tabs.map(({ label }) => label)).toEqual(['title 1', 'title 4']);
  });

  it('coming to a machine where nothing runs opens a session', () => {
    const { workspace, links } = bench();
    workspace.arrive(machine(1), ME);
    workspace.active?.setRoom({ cols: 100, rows: 30 });
    expect(links).toMatchObject([{ create: true, place: { session: id(100) } }]);
  });

  it('coming to a machine that is away waits for it', () => {
    const { workspace } = bench();
    expect(workspace.arrive(machine(1, [], false), ME)).toBe(false);
    expect(workspace.tabs).toEqual([]);
    expect(workspace.arrive(machine(1, [session(1)]), ME)).toBe(true);
  });

  it('a reload brings back the same tabs and the same one in front', () => {
    const first = bench();
    first.workspace.arrive(machine(1, [session(1), session(2)]), ME);
    first.workspace.openNew(id(2));
    first.workspace.active?.rename('db');
    const second = bench(first.kept());
    second.restore();
    expect(places(second.workspace)).toEqual(places(first.workspace));
    expect(second.workspace.active?.label).toBe('db');
    second.workspace.arrive(machine(1, [session(1), session(2), session(3)]), ME);
    expect(second.workspace.tabs).toHaveLength(3);
    expect(front(second.workspace)).toBe(id(1));
  });

  it('a session that was opened once is attached to after a reload', () => {
    const first = bench();
    const tab = first.workspace.openNew(id(1));
    expect(first.kept()).toContain('"fresh":true');
    tab.take({
      type: 'opened',
      resumed: false,
      opened: {
        session: tab.session,
        epoch: id(7),
        role: 'writer',
        cols: 80,
        rows: 24,
        offset: 0,
        input_seq: 0,
        created: 1,
        title: 'sh',
      },
    });
    expect(first.kept()).toContain('"fresh":false');
  });

  it('closing leaves the session, and the neighbour comes to the front', () => {
    const { workspace, links } = bench();
    workspace.arrive(machine(1, [session(1), session(2), session(3)]), ME);
    workspace.selectAt(1);
    const closed = workspace.active;
    closed?.setRoom({ cols: 80, rows: 24 });
    if (closed) workspace.close(closed);
    expect(links[0]?.dispose).toHaveBeenCalledOnce();
    expect(front(workspace)).toBe(id(3));
    workspace.step(1);
    expect(front(workspace)).toBe(id(1));
    workspace.step(-1);
    expect(front(workspace)).toBe(id(3));
  });

  it('a session has one tab', () => {
    const { workspace } = bench();
    workspace.attach(id(1), id(5), 'x');
    workspace.openNew(id(1));
    workspace.attach(id(1), id(5));
    expect(workspace.tabs).toHaveLength(2);
    expect(front(workspace)).toBe(id(5));
  });

  it('a machine that is back wakes its tabs and no others', () => {
    const { workspace, links } = bench();
    for (const n of [1, 2]) workspace.attach(id(n), id(10 + n)).setRoom({ cols: 80, rows: 24 });
    workspace.wake(id(2));
    expect(links.map(({ wake }) => vi.mocked(wake).mock.calls.length)).toEqual([0, 1]);
  });

  it('an ended session is replaced in its place', () => {
    const { workspace } = bench();
    workspace.arrive(machine(1, [session(1), session(2)]), ME);
    const [tab] = workspace.tabs;
    if (tab) workspace.reopen(tab);
    expect(places(workspace)).toEqual([
      [id(1), id(100)],
      [id(1), id(2)],
    ]);
    expect(front(workspace)).toBe(id(100));
  });
});

describe('tab', () => {
  it('connects when there is room, and says every later size', () => {
    const { workspace, links } = bench();
    const tab = workspace.attach(id(1), id(2));
    expect(tab.link).toBeNull();
    tab.setRoom({ cols: 100, rows: 40 });
    tab.setRoom({ cols: 90, rows: 40 });
    expect(links).toHaveLength(1);
    expect(tab.link?.resize).toHaveBeenCalledWith({ cols: 90, rows: 40 });
  });

  it('passes bytes on in order and marks what nobody has looked at', () => {
    const { workspace } = bench();
    const [a, b] = [workspace.attach(id(1), id(2)), workspace.attach(id(1), id(3))];
    const taken: string[] = [];
    const shown: Shown = {
      take: (event) => taken.push(event.type),
      text: () => '',
      focus: vi.fn(),
      openFind: vi.fn(),
      copy: vi.fn(),
      insert: vi.fn(),
      press: vi.fn(),
      jump: vi.fn(),
    };
    a.attachScreen(shown);
    a.take({ type: 'reset', generation: 1, cols: 80, rows: 24 });
    a.take({ type: 'output', generation: 1, end: 1, bytes: new Uint8Array(1) });
    b.take({ type: 'output', generation: 1, end: 1, bytes: new Uint8Array(1) });
    expect(taken).toEqual(['reset', 'output']);
    expect([a.unseen, b.unseen]).toEqual([true, false]);
    workspace.select(a);
    expect(a.unseen).toBe(false);
  });

  it('loss is told, never silent', () => {
    const { workspace, notices } = bench();
    const tab = workspace.attach(id(1), id(2));
    tab.take({ type: 'gap', from: 1, to: 9 });
    tab.take({ type: 'input_lost', bytes: 4 });
    tab.take({ type: 'fault', message: 'output at 3, expected 5' });
    expect(notices).toHaveLength(3);
  });

  it('input that was not taken is told', () => {
    const { workspace, notices } = bench();
    const tab = workspace.attach(id(1), id(2));
    tab.setRoom({ cols: 80, rows: 24 });
    if (tab.link) vi.mocked(tab.link.write).mockReturnValue(false);
    tab.type(Uint8Array.of(1));
    expect(notices).toEqual(['Nothing was typed: too much is waiting to be sent']);
  });
});

describe('ending a session', () => {
  const live = { at: 'live', n: 1, since: 0 } as const;
  const exit = { code: null, signal: 1, offset: 0 };
  const ended = { at: 'over', ending: { kind: 'exited', exit } } as const;

  function asked() {
    const { workspace, notices } = bench();
    const tab = workspace.attach(id(1), id(2));
    tab.setRoom({ cols: 80, rows: 24 });
    tab.take({ type: 'phase', phase: live });
    tab.end();
    return { workspace, notices, tab };
  }

  it('keeps the tab, and its connection, until the end has been heard', () => {
    const { workspace, tab } = asked();
    expect(tab.link?.endSession).toHaveBeenCalledOnce();
    expect(tab.link?.dispose).not.toHaveBeenCalled();
    expect(workspace.tabs).toEqual([tab]);
    expect(tab.standing.label).toBe('Ending');
    expect(tab.unfinished).toBe(true);
    tab.take({ type: 'phase', phase: ended });
    expect(workspace.tabs).toEqual([]);
  });

  it('a session that is gone already has ended', () => {
    const { workspace, tab } = asked();
    const cause = { code: 'session_not_found', message: '' };
    tab.take({ type: 'phase', phase: { at: 'over', ending: { kind: 'refused', cause } } });
    expect(workspace.tabs).toEqual([]);
  });

  it('a tab that was refused stays and says why', () => {
    const { workspace, tab } = asked();
    const cause = { code: 'revoked', message: '' };
    tab.take({ type: 'phase', phase: { at: 'over', ending: { kind: 'refused', cause } } });
    expect(workspace.tabs).toEqual([tab]);
    expect(tab.unfinished).toBe(false);
  });
});

describe('input on its way', () => {
  it('makes a tab unfinished until it is acknowledged or the session is over', () => {
    const { workspace } = bench();
    const tab = workspace.attach(id(1), id(2));
    tab.take({ type: 'input', acked: 0, pending: 3 });
    expect(tab.unfinished).toBe(true);
    tab.take({ type: 'input', acked: 3, pending: 0 });
    expect(tab.unfinished).toBe(false);
  });

  it('that is left behind is told', () => {
    const { workspace, notices } = bench();
    const tab = workspace.attach(id(1), id(2));
    tab.take({ type: 'input', acked: 0, pending: 3 });
    workspace.close(tab);
    expect(notices).toEqual(['3 bytes typed may not have reached the session']);
  });
});

describe('choices', () => {
  it('this machine first, machines that are away never, sessions with a tab neither', () => {
    const machines = [
      machine(1, [session(1, { title: 'vim' }), session(2, { title: 'vim' }), session(3)]),
      machine(2),
      machine(3, [], false),
    ];
    const tabs = [{ key: `${id(1)}/${id(3)}` }];
    const { open, attach } = choicesOf(machines, id(2), tabs, ME);
    expect(open.map(({ label }) => label)).toEqual(['New session on m2', 'New session on m1']);
    expect(attach.map(({ label }) => label)).toEqual(['vim on m1', 'vim on m1 (2)']);
  });
});

describe('splits', () => {
  const shown = (workspace: Workspace) =>
    workspace.tabs.filter((tab) => tab.shown).map((tab) => tab.session);

  function three() {
    const made = bench();
    const { workspace } = made;
    workspace.arrive(machine(1, [session(1), session(2)]), ME);
    const first = workspace.active as SessionTab;
    const beside = workspace.split(first, 'row') as SessionTab;
    return { ...made, first, beside, other: workspace.tabs[1] as SessionTab };
  }

  it('a new pane is on the same machine, has the keyboard, and its tab shows both', () => {
    const { workspace, first, beside } = three();
    expect(beside.machine).toBe(first.machine);
    expect(workspace.active).toBe(beside);
    expect(shown(workspace)).toEqual([id(1), beside.session]);
    expect(workspace.groups).toHaveLength(2);
    expect([first.focused, beside.focused]).toEqual([false, true]);
    expect(workspace.focusNext('left')).toBe(true);
    expect(workspace.active).toBe(first);
    expect(workspace.focusNext('left')).toBe(false);
  });

  it('tabs are stepped through whole, and each comes back to its own pane', () => {
    const { workspace, first, other } = three();
    workspace.select(first);
    workspace.step(1);
    expect(shown(workspace)).toEqual([other.session]);
    workspace.step(1);
    expect(workspace.active).toBe(first);
  });

  it('a pane that closes leaves its space and the keyboard to the next', () => {
    const { workspace, first, beside } = three();
    workspace.close(beside);
    expect(workspace.active).toBe(first);
    expect(workspace.groups.map(({ tree }) => typeof tree)).toEqual(['string', 'string']);
  });

  it('joins, lifts, moves, and comes back after a reload', () => {
    const { workspace, first, other, kept } = three();
    expect(workspace.join(other, first, 'column', true)).toBe(true);
    expect(workspace.groups).toHaveLength(1);
    expect(workspace.active).toBe(other);
    const again = bench(kept());
    again.restore();
    expect(again.workspace.groups).toEqual(workspace.groups);
    expect(shown(again.workspace)).toHaveLength(3);
    workspace.lift(other);
    expect(workspace.groups).toHaveLength(2);
    expect(shown(workspace)).toEqual([other.session]);
    workspace.move(workspace.groups[1] as Group, 0);
    expect(workspace.groups[0]?.tree).toBe(other.key);
  });

  it('no more panes than can be read', () => {
    const { workspace } = bench();
    const tab = workspace.openNew(id(1));
    for (let panes = 1; panes < 16; panes += 1) expect(workspace.split(tab, 'row')).not.toBeNull();
    expect(workspace.split(tab, 'row')).toBeNull();
    expect(workspace.tabs).toHaveLength(16);
  });

  it('what is typed in one goes to all that take part, once', () => {
    const { workspace, first, beside, other } = three();
    const written: string[] = [];
    for (const tab of [first, beside, other])
      vi.spyOn(tab, 'receive').mockImplementation((bytes) => {
        written.push(`${tab.session} ${String.fromCharCode(...bytes)}`);
        return 1;
      });
    workspace.broadcast(true);
    beside.type(new Uint8Array([108]));
    expect(written).toEqual([`${first.session} l`, `${beside.session} l`]);
    workspace.include(first, false);
    expect(workspace.cast.size).toBe(0);
    workspace.broadcast(true);
    workspace.select(other);
    written.length = 0;
    beside.type(new Uint8Array([115]));
    expect(written).toEqual([`${beside.session} s`]);
  });

  it.each([
    ['a key', 'a', false],
    ['an arrow', '\u001b[A', false],
    ['a paste', '\u001b[200~ls\u001b[201~', false],
    ['focus', '\u001b[I', true],
    ['the mouse', '\u001b[<0;12;3M', true],
    ['the mouse as it was', '\u001b[M !!', true],
  ])('%s: of its own pane only is what only its pane can mean', (_what, text, report) => {
    expect(isReport(new TextEncoder().encode(text))).toBe(report);
  });
});

import { beforeEach, describe, expect, it } from 'vitest';
import type { Machine } from '$lib/api/types';
import { Machines } from './machines.svelte';
import { sampleMachine } from './sample';

let machines: Machines;
const hello = (...list: Machine[]) =>
  machines.apply({ event: 'hello', data: JSON.stringify({ machines: list }) });
const changed = (machine: Machine) =>
  machines.apply({ event: 'machine', data: JSON.stringify(machine) });
const names = () => [...machines.byId.keys()].sort();

beforeEach(() => {
  machines = new Machines();
});

describe('machines', () => {
  it('are ready with the first list, not before', () => {
    expect(machines.ready).toBe(false);
    hello();
    expect(machines.ready).toBe(true);
  });

  it('follow changes and removals', () => {
    hello(sampleMachine({ id: 'a' }), sampleMachine({ id: 'b', online: false }));
    expect(machines.onlineCount).toBe(1);
    changed(sampleMachine({ id: 'b' }));
    expect(machines.onlineCount).toBe(2);
    machines.apply({ event: 'machine_removed', data: '{"id":"a"}' });
    expect(names()).toEqual(['b']);
  });

  it('a list after a reconnect replaces what was known', () => {
    hello(sampleMachine({ id: 'a' }), sampleMachine({ id: 'b' }));
    hello(sampleMachine({ id: 'b' }), sampleMachine({ id: 'c' }));
    expect(names()).toEqual(['b', 'c']);
  });

  it('a machine that joins while the page is open is a newcomer once it is online', () => {
    hello(sampleMachine({ id: 'a' }));
    changed(sampleMachine({ id: 'new', online: false }));
    expect(machines.newcomer).toBeUndefined();
    changed(sampleMachine({ id: 'new' }));
    expect(machines.newcomer?.id).toBe('new');
  });

  it('a newcomer that came during an outage of the stream is noticed too', () => {
    hello(sampleMachine({ id: 'a' }));
    hello(sampleMachine({ id: 'a' }), sampleMachine({ id: 'new' }));
    expect(machines.newcomer?.id).toBe('new');
  });

  it('an old machine coming back is no newcomer, but is announced', () => {
    const announced: string[] = [];
    hello(sampleMachine({ id: 'a', online: false }));
    const end = machines.onArrival((machine) => announced.push(machine.id));
    changed(sampleMachine({ id: 'a' }));
    changed(sampleMachine({ id: 'a', rtt_ms: 3 }));
    expect(machines.newcomer).toBeUndefined();
    expect(announced).toEqual(['a']);
    end();
    changed(sampleMachine({ id: 'a', online: false }));
    changed(sampleMachine({ id: 'a' }));
    expect(announced).toEqual(['a']);
  });

  it('a newcomer that is removed is no longer offered', () => {
    hello();
    changed(sampleMachine({ id: 'new' }));
    machines.apply({ event: 'machine_removed', data: '{"id":"new"}' });
    expect(machines.newcomer).toBeUndefined();
  });

  it('events of a newer server are passed over', () => {
    hello();
    expect(() => machines.apply({ event: 'weather', data: 'not json' })).not.toThrow();
  });
});

/** What a person hears of terminals that nobody looks at. */
import { machines } from '$lib/state/machines.svelte';
import { tell } from '$lib/state/notices.svelte';
import { settings } from '$lib/state/settings.svelte';
import { duration } from './format';
import type { SessionTab } from './tab.svelte';

/** A command ended. */
export function finished(
  tab: SessionTab,
  code: number | null,
  seconds: number,
  show: () => void,
): void {
  const { finishedAfter } = settings.value;
  if (finishedAfter === 0 || seconds < finishedAfter || isSeen(tab)) return;
  const how = code === null ? 'ended' : code === 0 ? 'succeeded' : `failed with exit code ${code}`;
  tell({ text: `${whose(tab)} ${how} after ${duration(seconds)}`, show, bad: (code ?? 0) !== 0 });
}

/** The bell rang. */
export function rang(tab: SessionTab, show: () => void): void {
  if (settings.value.bell !== 'off' && !isSeen(tab))
    tell({ text: `${whose(tab)} rang the bell`, show });
}

function isSeen(tab: SessionTab): boolean {
  return tab.shown && document.visibilityState === 'visible' && document.hasFocus();
}

/** The machine comes first: what a program calls itself is its own word (THREATS OUT-04). */
function whose(tab: SessionTab): string {
  const machine = machines.byId.get(tab.machine)?.name ?? 'A machine';
  return `${machine}: ${tab.label.slice(0, 128)}`;
}

/** Breaks something in the middle of a program's work, and sees to it that nobody lost a byte. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { numbers, shows, state, text, typeLine } from './browser.mjs';
import { isAlive } from './processes.mjs';

const LAST = 1500;
const BACK_MS = 10_000;

/** Waits until the session in front is running, or no longer. */
export const becomes = (page, running, timeout) =>
  page.waitForFunction((running) => (window.__rexec.state()?.status === 'running') === running, running, { timeout });

/**
 * Counts, some hundred numbers a second, while another program takes the hash of the next `count` bytes that are typed. The last word has a line of
 * its own, whatever of the next command is echoed just before it.
 */
const countAndHash = (last, count) =>
  `stty -icanon -echo; (exec 9<> <(:); (for ((i = 0; i < ${last}; i++)); do echo "n$i."; read -t 0.004 -u 9; done) & ` +
  `head -c ${count} | sha256sum; wait); stty icanon echo; printf '\\no''ver\\n'`;

/**
 * Breaks something in the middle of counting, types while it is broken, mends it, and looks at every number and every typed byte
 * afterwards. `begin` comes back when it is broken, `end` mends it.
 */
export async function survives(page, machine, { begin, end }) {
  const typed = randomBytes(450).toString('base64');
  await page.keyboard.press('Control+l');
  await typeLine(page, countAndHash(LAST, typed.length));
  await shows(page, /^n100\.$/m);
  const [shell] = machine.shells();
  await begin();
  await page.keyboard.type(typed);
  // For the shell itself: it arrives once, when the loop has ended.
  await page.keyboard.type(`echo typ''ed-meanwhile`);
  await page.keyboard.press('Enter');
  await end();
  await becomes(page, true, BACK_MS);
  await shows(page, /^over$/m, 40_000);
  await shows(page, /^typed-meanwhile$/m);
  assert.ok(isAlive(shell), 'the shell lives');
  assert.deepEqual(await numbers(page), Array.from({ length: LAST }, (_, number) => number));
  const seen = await text(page);
  assert.deepEqual(seen.match(/^[0-9a-f]{64}(?= {2}-)/gm), [createHash('sha256').update(typed).digest('hex')], 'every byte typed, once');
  assert.equal(seen.match(/^typed-meanwhile$/gm).length, 1);
  assert.equal((await state(page)).inputPending, 0);
  await typeLine(page, 'clear');
  await page.waitForFunction(() => !/^n\d/m.test(window.__rexec.text()));
}

/** Barriers that axe can find on a page. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/**
 * There is none. Evaluated as the debugger does, so the page's content policy stays as it is. The terminal's rows are xterm's; its own
 * accessible tree is switched on by a screen reader.
 */
export async function assertNoBarriers(page, place = '') {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => window.axe.run({ exclude: ['.xterm'] }));
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  assert.deepEqual(told, [], place);
}

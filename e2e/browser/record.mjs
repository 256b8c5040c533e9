// Records what the landing page replays: a real shell, typed into from a real browser through a real installation whose server
// is killed and started again meanwhile. `node record.mjs FILE` writes an asciicast v2.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { running, shows, typeLine } from './lib/browser.mjs';
import { Stage } from './lib/stage.mjs';

const [COLS, ROWS] = [76, 18];
/** Nobody waits longer than that for nothing, s. */
const IDLE_MAX = 1.1;
const stage = await Stage.set();
try {
  const page = await stage.terminal();
  const at = (name) => join(stage.dir, name);
  const prompt = String.raw`\[\e[32m\]ada@workbench\[\e[0m\] \[\e[34m\]~/rocket\[\e[0m\] $ `;
  writeFileSync(at('rc'), `PS1='${prompt}'; stty cols ${COLS} rows ${ROWS}; export LS_COLORS= TERM=xterm-256color\n`);
  await typeLine(page, `mkdir -p ${at('rocket')}; cd ${at('rocket')}; clear; script -q -T ${at('times')} -O ${at('out')} -c 'bash --noprofile --rcfile ${at('rc')} -i'`);
  await shows(page, /ada@workbench/);
  const say = async (line, pause = 500) => {
    for (const char of line) {
      await page.keyboard.type(char);
      await page.waitForTimeout(28 + ((char.charCodeAt(0) * 37) % 55));
    }
    await page.waitForTimeout(260);
    await page.keyboard.press('Enter');
    await page.waitForTimeout(pause);
  };
  await say('uptime -p', 900);
  await say('# a long build, watched from a browser tab');
  await page.keyboard.type(String.raw`for i in {1..9}; do printf '\e[2m[%d/9]\e[0m compiling stage %d\n' $i $i; sleep .45; done`);
  await page.keyboard.press('Enter');
  await page.waitForTimeout(1_300);
  await stage.installation.control.kill9();
  await stage.installation.startControl();
  await running(page, 30_000);
  // The prompt is back: what is typed before it would be echoed beside it.
  await shows(page, /\[9\/9\].*\n.*\$ ?$/, 30_000);
  await say('# the server was killed and started again');
  await say('echo "same shell, process $$, nothing lost"', 900);
  await page.keyboard.press('Control+d');
  // What was recorded is whole once the outer shell is back.
  await shows(page, /exit\n.*[#$] $|exit\n.*[#$]$/);
  writeCast(process.argv[2], readFileSync(at('times'), 'utf8'), readFileSync(at('out'), 'utf8'));
} finally {
  await stage.strike();
}

/** `script` says how long it waited for how many bytes. */
function writeCast(file, times, out) {
  const body = Buffer.from(out.slice(out.indexOf('\n') + 1), 'utf8');
  const header = { version: 2, width: COLS, height: ROWS, title: 'A shell that its server does not take along' };
  const lines = [JSON.stringify(header)];
  let [time, from] = [0, 0];
  // The shell's own leaving is nobody's business.
  for (const [, wait, bytes] of times.matchAll(/^(?:O )?([\d.]+) (\d+)$/gm)) {
    time += Math.min(Number(wait), IDLE_MAX);
    lines.push(JSON.stringify([Number(time.toFixed(3)), 'o', body.subarray(from, from + Number(bytes)).toString('utf8')]));
    from += Number(bytes);
  }
  while (!lines.at(-1).includes('nothing lost')) lines.pop();
  writeFileSync(file, `${lines.join('\n')}\n`);
}
process.exit(0);

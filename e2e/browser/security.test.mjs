// Attacks of /docs/SECURITY.md that need a real browser. Each test begins with the id of the attack it proves us safe from.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { by, cell, clipboard, pageOf, person, shows, signIn, state, text, typeLine } from './lib/browser.mjs';
import { Installation, OWNER } from './lib/installation.mjs';
import { until } from './lib/processes.mjs';
import { Stage } from './lib/stage.mjs';

const ESC = '\x1b';
const CANARY = 'EVILcanary';

let stage;
let script = 0;

before(async () => {
  stage = await Stage.set();
});

after(() => stage.strike());
afterEach(() => stage.endShells());

/** Has the shell run a script, so that nothing of it is on the screen before its time. */
async function run(page, lines) {
  script += 1;
  const file = join(stage.dir, `script-${script}`);
  writeFileSync(file, `${lines}\necho do''ne-${script}\n`);
  await typeLine(page, `bash ${file}`);
  await shows(page, new RegExp(`^done-${script}$`, 'm'));
  await page.waitForFunction(() => ((now) => now.parsed === now.offset)(window.__rexec.state()));
}

/** A bash string of any bytes. */
const quoted = (bytes) => `$'${[...Buffer.from(bytes)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}'`;

/** Bytes that the page has typed since it was opened. */
const typed = async (page) => ((now) => now.inputAcked + now.inputPending)(await state(page));

// ── what a program prints ───────────────────────────────────────────────────────────────────────

test('out_01 a program neither reads nor writes the clipboard', async () => {
  const page = await stage.terminal();
  await clipboard(page, 'what was there');
  await run(page, '');
  const before = await typed(page);
  const line = `bash ${join(stage.dir, `script-${script + 1}`)}\r`;
  const set = Buffer.from('rm -rf /').toString('base64');
  const asked = [`52;c;?`, `52;;?`, `52;p;?`, `52;c;${set}`, `52;c;${set};?`, `5522;type=read;`].map((what) => `${ESC}]${what}\x07`);
  await run(page, `printf %s ${quoted(asked.join(''))}`);
  assert.equal((await typed(page)) - before, line.length, 'nothing was typed but the line');
  assert.equal(await clipboard(page), 'what was there');
  await stage.leave(page);
});

const QUERIES = [
  '[c', '[0c', '[>c', '[=c', '[6n', '[?6n', '[?15n', '[?25n', '[?26n', '[?53n', '[?996n', '[x', '[1x', '[>q', '[>0q', '[?u', '[?4m', '[?1;1;0S',
  '[11t', '[13t', '[14t', '[15t', '[16t', '[18t', '[19t', '[20t', '[21t', '[4$p', '[?1004$p', '[?2004$p', '[1$w', '[2$w', '[1;1;1;1;1;1*y', 'Z', '\x05',
  ...['4;1;?', '5;1;?', '10;?', '11;?', '12;?', '13;?', '14;?', '17;?', '19;?', '10;?;?;?', '21;foreground=?', '50;?', '52;c;?', '1337;ReportCellSize', '1337;ReportVariable=cGF0aA==', '99;i=1:p=?;', '66;?']
    .flatMap((what) => [`]${what}\x07`, `]${what}${ESC}\\`]),
  ...['$qm', '$qr', '$q"p', `$q${CANARY}`, '+q544e', '+q524742', `+q${Buffer.from(CANARY).toString('hex')}`, '+p544e'].map((what) => `P${what}${ESC}\\`),
  `_Gi=1,a=q;${CANARY}${ESC}\\`, '[?1004h', '[?1004l', '[?1004h',
].map((query) => (query === '\x05' ? query : `${ESC}${query}`));

/** What a session host may answer: numbers. */
const ANSWERS = [
  /\x1b\[[?>]?[\d;]*[cnRux]/, // device attributes, status, cursor, keyboard flags
  /\x1b\[\??[\d;]*\$y/, // modes
  /\x1b\[[\d;]*t/, // sizes
  /\x1bP[01]\$r[\d;]*[\w" ]{0,3}\x1b\\/, // settings
  /\x1bP[01]\+r[\da-fA-F=]*\x1b\\/, // capabilities
  /\x1b\](?:4;\d+|1\d);rgb:[\da-f/]+(?:\x07|\x1b\\)/, // colours
  /\x1bP!\|[\dA-F]*\x1b\\/, // terminal's number
];

test('out_02 only the session host answers, in numbers, and nothing a program chose comes back as input', async () => {
  const page = await stage.terminal();
  const other = await stage.terminal(await stage.newPerson());
  const answer = join(stage.dir, 'answers');
  await run(page, '');
  const before = await typed(page);
  const corpus = [`${ESC}]0;${CANARY}\r\x07`, `${ESC}]2;${CANARY}\x07`, ...QUERIES].join('');
  const line = `bash ${join(stage.dir, `script-${script + 1}`)}\r`;
  // The last question is how the program knows that all have been answered.
  await run(page, `stty raw -echo
printf %s ${quoted(corpus)}${quoted(`${ESC}[5n`)}
while [[ $all != *$'\\e[0n' ]]; do IFS= LC_ALL=C read -r -d '' -n 1 -t 10 byte || break; all+="$byte"; done
printf %s "$all" > ${answer}
stty sane`);
  const all = readFileSync(answer, 'latin1');
  assert.ok(all.endsWith(`${ESC}[0n`), JSON.stringify(all));
  const rest = ANSWERS.reduce((rest, one) => rest.replaceAll(new RegExp(one, 'g'), ''), all);
  assert.equal(rest, '', `of ${JSON.stringify(all)}`);
  assert.ok(!/[\r\n]/.test(all) && !all.includes('EVIL'));
  // Neither page has typed anything, now or when the past is painted anew.
  assert.equal((await typed(page)) - before, line.length);
  assert.equal(await typed(other), 0);
  await page.reload();
  await shows(page, new RegExp(`^done-${script}$`, 'm'));
  await page.waitForFunction(() => ((now) => now.parsed === now.offset && now.inputPending === 0)(window.__rexec.state()));
  assert.equal(await typed(page), 0);
  await other.context().close();
  await stage.leave(page);
});

test('out_03 a link shows where it leads, is followed after a question, and cannot reach back', async () => {
  const page = await stage.terminal();
  const lead = (address, words) => `${ESC}]8;;${address}${ESC}\\${words}${ESC}]8;;${ESC}\\\n`;
  const targets = ['https://evil.test/path', 'javascript:alert(document.domain)', 'data:text/html,<script>1</script>', 'file:///etc/passwd', 'rexec://open'];
  await run(page, `printf %s ${quoted(`${ESC}[2J${ESC}[H${targets.map((target, n) => lead(target, n ? 'here it is' : 'https://good.test')).join('')}`)}`);
  const opened = [];
  page.context().on('page', (page) => opened.push(page));
  await page.context().route('https://evil.test/**', (route) => route.fulfill({ contentType: 'text/html', body: 'evil' }));

  await page.mouse.move(...(await cell(page, 5, 0)));
  await page.getByText(targets[0], { exact: true }).waitFor();
  await page.keyboard.down('Control');
  for (const row of [1, 2, 3, 4]) {
    await page.mouse.move(...(await cell(page, 4, row)));
    await page.mouse.click(...(await cell(page, 5, row)));
  }
  assert.equal(await by(page, 'link-confirm').count(), 0, 'no other scheme is even asked about');
  await page.mouse.move(...(await cell(page, 4, 0)));
  await page.mouse.click(...(await cell(page, 5, 0)));
  await page.keyboard.up('Control');
  await by(page, 'link-confirm').getByText(targets[0], { exact: true }).waitFor();
  assert.equal(opened.length, 0);
  await by(page, 'link-confirm').getByRole('button', { name: 'Open' }).click();
  await until('the page that was opened', 5_000, () => opened.length === 1);
  const [evil] = opened;
  await evil.waitForLoadState();
  assert.equal(evil.url(), targets[0]);
  assert.deepEqual(await evil.evaluate(() => [window.opener, document.referrer]), [null, '']);
  await evil.close();
  await stage.leave(page);
});

test('out_04 a title is short, printable, and stands behind the name of its machine', async () => {
  const page = await stage.terminal();
  await run(page, `printf %s ${quoted(`${ESC}]0;sign in at\u202e\u0001 evil.test\u200b\u{e0041} ${'x'.repeat(400)}\x07`)}; read -t 0`);
  await page.waitForFunction(() => /evil\.test/.test(document.title));
  const label = await by(page, 'tab-name').innerText();
  const title = await page.title();
  assert.ok([...label.trim()].length <= 128, `${label.length}`);
  assert.match(title, /^workbench: sign in at evil\.test x+ · Rexec$/);
  assert.ok(!/\p{C}/u.test(title) && !/\p{C}/u.test(label.trim()));
  await stage.leave(page);
});

test('out_08 a paste cannot leave its brackets, and several lines are asked about where there are none', async () => {
  const page = await stage.terminal();
  const paste = async (text) => {
    await clipboard(page, text);
    await page.keyboard.press('Control+Shift+V');
  };
  // Bash brackets pastes: what stands on its line has not been run.
  await paste(`echo one${ESC}[201~\recho pw""ned\x03\x04\n${ESC}[20${ESC}[201~1~\recho pw""ned\x9b201~\r`);
  await shows(page, /echo one[\s\S]*pw""ned/);
  await page.keyboard.press('Control+c');
  await typeLine(page, `echo al''ive`);
  await shows(page, /^alive$/m);
  assert.ok(!/^pwned/m.test(await text(page)), await text(page));

  await typeLine(page, `cat -v; echo e''nd`);
  await shows(page, /cat -v/);
  await page.waitForFunction(() => window.__rexec.state().inputPending === 0);
  await until('cat', 5_000, () => stage.machine.shells().length === 1);
  await paste('first\nsecond\x1b[A\n');
  await by(page, 'paste-bar').getByText('Control characters were taken out').waitFor();
  await by(page, 'paste-cancel').click();
  await paste('third\nfourth\x1b[A\n');
  await by(page, 'paste-confirm').click();
  await shows(page, /^third\nfourth\[A\nthird\nfourth\[A$/m);
  await page.keyboard.press('Control+d');
  await shows(page, /^end$/m);
  assert.ok(!/first|second|\^\[/.test((await text(page)).split('cat -v').at(-1)));
  await stage.leave(page);
});

const TRUSTED_TYPES = `require-trusted-types-for 'script'; trusted-types svelte-trusted-html rexec-worker`;
const MARKUP = [
  '<img src=x onerror="window.pwned=1">', '<script>window.pwned=1</script>', '"><svg onload=window.pwned=1>', `';window.pwned=1;//`, '{{constructor.constructor("window.pwned=1")()}}',
  '{@html "<img src=x onerror=window.pwned=1>"}', '<iframe srcdoc="<script>parent.pwned=1</script>">', 'javascript:window.pwned=1', '<a href="javascript:window.pwned=1">x</a>', '<style>*{display:none}</style>',
];

/** Serves the page under a policy that demands Trusted Types, where control does not do so itself. */
async function withTrustedTypes(context) {
  // To the browser an intercepted page is not of this machine, where the terminal's socket leads.
  await context.grantPermissions(['local-network-access']);
  const isPage = (route) => route.request().resourceType() === 'document';
  await context.route((url) => url.origin === stage.origin, async (route) => {
    if (!isPage(route)) return route.continue();
    const response = await route.fetch();
    const headers = response.headers();
    const policy = headers['content-security-policy'];
    if (!policy.includes('trusted-types')) headers['content-security-policy'] = `${policy}; ${TRUSTED_TYPES}`;
    return route.fulfill({ response, headers });
  });
}

test('out_09 markup in a title, a name, a search or a tag is text, under Trusted Types too', async () => {
  const context = await stage.newPerson();
  await withTrustedTypes(context);
  await context.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI, sample }) => window.violations.push([violatedDirective, blockedURI, sample].join(' ')));
  });
  const page = await stage.terminal(context);
  const unharmed = async (where) => {
    assert.deepEqual(await page.evaluate(() => [window.pwned, window.violations]), [undefined, []], where);
  };
  await unharmed('the workspace');
  for (const [n, markup] of MARKUP.entries()) {
    await run(page, `printf '%s\\n' ${quoted(markup)}; printf %s ${quoted(`${ESC}]0;t${n} ${markup}\x07`)}`);
    await page.waitForFunction((start) => document.title.includes(start), `t${n} `);
    assert.ok((await by(page, 'tab-name').innerText()).includes(markup.slice(0, 100)), markup);
    await by(page, 'tab-name').hover();
    await unharmed(`title ${markup}`);

    await page.keyboard.press('Alt+Shift+R');
    await by(page, 'tab-rename').fill(markup);
    await by(page, 'tab-rename').press('Enter');
    await unharmed(`name ${markup}`);
    await page.keyboard.press('Alt+Shift+R');
    await by(page, 'tab-rename').fill('');
    await by(page, 'tab-rename').press('Enter');

    await page.keyboard.press('Control+Shift+F');
    await by(page, 'find-input').fill(markup);
    await by(page, 'find-outcome').getByText(/of/).waitFor();
    await by(page, 'find-input').press('Escape');
    await unharmed(`search ${markup}`);
  }
  await page.goto(`${stage.origin}/`);
  const rows = by(page, 'machine-list');
  await rows.waitFor();
  const refused = await page.evaluate(async ([id, names]) => {
    const headers = { 'content-type': 'application/json', 'x-rexec-csrf': '1' };
    const change = async (body) => (await fetch(`/api/machines/${id}`, { method: 'PATCH', headers, body: JSON.stringify(body) })).status;
    const answers = [];
    for (const name of names) answers.push(await change({ name: name.slice(0, 60) }), await change({ tags: [name.slice(0, 30)] }));
    answers.push(await change({ name: 'workbench', tags: [] }));
    return answers.filter((status) => status >= 500);
  }, [stage.machine.id, MARKUP]);
  assert.deepEqual(refused, []);
  await page.getByText('workbench').first().waitFor();
  await unharmed('the machines page');
  assert.deepEqual(page.complaints, []);
  await context.close();
});

// ── other sites ─────────────────────────────────────────────────────────────────────────────────

/** A page on another port of the same host: same site, so that the cookie travels with every request; but another origin. */
async function withAttacker(work) {
  const server = createServer((_request, response) => response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>evil</title><body>'));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const context = await stage.newPerson();
  const evil = await context.newPage();
  await evil.goto(`http://localhost:${server.address().port}/`);
  try {
    await work(evil, context);
  } finally {
    await context.close();
    server.close();
  }
}

/** A request as no browser would let a page make it. */
function ask(path, headers) {
  return new Promise((done, fail) => {
    const asking = request(`${stage.origin}${path}`, { headers }, (response) => done(response.resume().statusCode));
    asking.on('upgrade', (_response, socket) => done(socket.destroy() && 101));
    asking.on('error', fail);
    asking.end();
  });
}

const UPGRADE = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==' };

test('ws_01 a page of another origin gets neither a socket nor a stream nor an answer, with the cookies of the victim', async () => {
  await withAttacker(async (evil, context) => {
    const outcome = await evil.evaluate(async (origin) => {
      const socket = (url) =>
        new Promise((done) => {
          const socket = new WebSocket(url);
          socket.onopen = () => done('open');
          socket.onclose = ({ code }) => done(code);
        });
      const read = (path) => fetch(`${origin}${path}`, { credentials: 'include' }).then(({ status }) => status, ({ name }) => name);
      const events = new Promise((done) => {
        const source = new EventSource(`${origin}/api/events`, { withCredentials: true });
        source.onopen = () => done('open');
        source.onerror = () => done(source.close() ?? 'refused');
      });
      return [await socket(`${origin.replace('http', 'ws')}/viewer`), await read('/api/me'), await read('/api/machines'), await events];
    }, stage.origin);
    assert.deepEqual(outcome, [1006, 'TypeError', 'TypeError', 'refused']);

    const cookie = (await context.cookies(stage.origin)).map(({ name, value }) => `${name}=${value}`).join('; ');
    const { port } = new URL(stage.origin);
    const host = `localhost:${port}`;
    assert.equal(await ask('/viewer', { ...UPGRADE, host, cookie, origin: stage.origin }), 101);
    const tricks = ['null', `http://localhost:${port}.evil.test`, `http://evil.test:${port}`, `http://localhost:${Number(port) + 1}`, `https://localhost:${port}`, `http://localhost`, `http://xlocalhost:${port}`, `http://localhost.:${port}`, `http://user@localhost:${port}`, `http://xn--lcalhost-s2a:${port}`, `ws://localhost:${port}`, `${stage.origin}/`, ''];
    for (const origin of tricks) assert.equal(await ask('/viewer', { ...UPGRADE, host, cookie, origin }), 403, `origin ${origin}`);
    assert.equal(await ask('/viewer', { ...UPGRADE, host, cookie }), 403, 'no origin');
    assert.equal(await ask('/viewer', { ...UPGRADE, host: 'evil.test', cookie, origin: 'http://evil.test' }), 421, 'a rebound name');
  });
});

test('ws_02 no form and no simple request of another origin changes anything', async () => {
  await withAttacker(async (evil, context) => {
    const look = async () => {
      const page = await context.newPage();
      await page.goto(`${stage.origin}/`);
      await by(page, 'machine-list').waitFor();
      const seen = await page.evaluate(async () => Promise.all(['/api/machines', '/api/join-tokens', '/api/logins'].map(async (path) => (await (await fetch(path)).json()).map(({ id, name }) => [id, name]))));
      await page.close();
      return seen;
    };
    const before = await look();
    const answers = [];
    evil.on('response', (response) => {
      if (response.url().startsWith(`${stage.origin}/api/`)) answers.push([response.request().method(), new URL(response.url()).pathname, response.status()].join(' '));
    });
    const machine = `/api/machines/${stage.machine.id}`;
    const paths = ['/api/join-tokens', '/api/tickets', machine, `${machine}?_method=DELETE`, '/api/logins/current', '/api/setup', '/api/device/approve'];
    await evil.evaluate(async ([origin, paths]) => {
      const body = '{"name":"pwned","uses":1}';
      for (const path of paths) {
        for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
          await fetch(`${origin}${path}`, { method: 'POST', mode: 'no-cors', credentials: 'include', headers: { 'content-type': type }, body }).catch(() => {});
          await new Promise((done) => {
            const frame = Object.assign(document.createElement('iframe'), { name: `f${Math.random()}`, onload: done, onerror: done });
            const form = Object.assign(document.createElement('form'), { method: 'POST', action: `${origin}${path}`, enctype: type, target: frame.name });
            for (const [name, value] of [['{"name":"pwned","x":"', '"}'], ['_method', 'DELETE']]) form.append(Object.assign(document.createElement('input'), { name, value }));
            document.body.append(frame, form);
            form.submit();
          });
        }
        for (const method of ['DELETE', 'PATCH', 'PUT']) await fetch(`${origin}${path}`, { method, credentials: 'include', headers: { 'content-type': 'application/json' }, body }).catch(() => {});
        await fetch(`${origin}${path}`, { mode: 'no-cors', credentials: 'include' }).catch(() => {});
      }
    }, [stage.origin, paths]);
    const passed = answers.filter((answer) => answer.startsWith('POST') && !/ (403|404|405|415)$/.test(answer));
    assert.deepEqual(passed, []);
    assert.ok(answers.filter((answer) => / 403$/.test(answer)).length >= paths.length);
    assert.deepEqual(await look(), before);
  });
});

test('ws_04 no other page frames ours, holds on to it, or finds it in a cache', async () => {
  await withAttacker(async (evil) => {
    await evil.evaluate((origin) => new Promise((done) => document.body.append(Object.assign(document.createElement('iframe'), { src: origin, onload: done }))), stage.origin);
    assert.match(evil.frames()[1].url(), /^chrome-error:/);

    const [popup] = await Promise.all([evil.context().waitForEvent('page'), evil.evaluate((origin) => { window.victim = window.open(origin); }, stage.origin)]);
    await by(popup, 'machine-list').waitFor();
    assert.equal(await popup.evaluate(() => window.opener), null);
    assert.deepEqual(await evil.evaluate(() => [window.victim.closed, window.victim.length]), [true, 0]);
    assert.equal(await popup.evaluate(() => self.crossOriginIsolated || document.domain !== ''), true);

    const page = await fetch(`${stage.origin}/`);
    const header = (name) => page.headers.get(name) ?? '';
    assert.match(header('content-security-policy'), /frame-ancestors 'none'/);
    assert.match(header('content-security-policy'), /script-src 'self'(;|$)/);
    assert.deepEqual(['cross-origin-opener-policy', 'cross-origin-resource-policy', 'x-content-type-options'].map(header), ['same-origin', 'same-origin', 'nosniff']);
    for (const path of ['/api/installation', '/api/me']) assert.match((await fetch(`${stage.origin}${path}`)).headers.get('cache-control') ?? '', /no-store/, path);
  });
});

// ── the login's cookie ──────────────────────────────────────────────────────────────────────────

test('st_04 no script sees the cookie, and no other site sends it', async () => {
  const context = await stage.newPerson();
  const cookies = await context.cookies(stage.origin);
  assert.deepEqual(cookies.map(({ name, httpOnly, sameSite, path, domain }) => [name, httpOnly, sameSite, path, domain]), [['rexec_login', true, 'Lax', '/', 'localhost']]);
  const page = await context.newPage();
  await page.goto(`${stage.origin}/`);
  assert.equal(await page.evaluate(() => document.cookie), '');
  assert.equal(await page.evaluate(() => Object.keys(localStorage).filter((key) => !/theme/.test(key)).length), 0);
  await context.close();
});

test('bu_11 signing in makes a new cookie, bound to this very host behind https', async () => {
  const context = await person(stage.browser);
  const planted = 'A'.repeat(43);
  await context.addCookies([{ name: 'rexec_login', value: planted, url: stage.origin }]);
  const page = await pageOf(context);
  await signIn(page, stage.origin);
  const [{ value }] = await context.cookies(stage.origin);
  assert.notEqual(value, planted);
  const again = async (value) => (await fetch(`${stage.origin}/api/me`, { headers: { cookie: `rexec_login=${value}` } })).status;
  assert.deepEqual([await again(value), await again(planted)], [200, 401]);
  await context.close();

  const origin = 'https://rexec.test';
  const secure = await Installation.start({ more: { REXEC_PUBLIC_URL: origin } });
  try {
    const headers = { 'content-type': 'application/json', 'x-rexec-csrf': '1', origin };
    const { email, password } = OWNER;
    const answer = await fetch(`${secure.origin}/api/logins`, { method: 'POST', headers, body: JSON.stringify({ email, password }) });
    assert.equal(answer.status, 201);
    assert.match(answer.headers.get('set-cookie'), /^__Host-rexec_login=[\w-]+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax; Secure$/);
  } finally {
    await secure.stop();
  }
});

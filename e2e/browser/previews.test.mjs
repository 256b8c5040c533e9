// A program's web pages on a machine's port, in the browser: signed in, by a link, with WebSockets, cut when it should be, and out of reach of everything of ours.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer, request } from 'node:http';
import net from 'node:net';
import { after, before, beforeEach, test } from 'node:test';
import { by, pageOf, person, signIn } from './lib/browser.mjs';
import { until } from './lib/processes.mjs';
import { OWNER } from './lib/installation.mjs';
import { Stage } from './lib/stage.mjs';

let stage;
/** The program on the machine, and what it was sent. */
let program;
let port;
const seen = [];
const sockets = new Set();

const PAGE = `<!doctype html><title>Program</title><h1>Hello from the program</h1><p id="socket">no socket</p>
<script>
  const socket = new WebSocket(location.href.replace('http', 'ws') + 'socket');
  const say = (text) => { document.getElementById('socket').textContent = text; };
  socket.onopen = () => socket.send('ping');
  socket.onmessage = ({ data }) => say('socket says ' + data);
  socket.onclose = () => say('socket closed');
</script>`;

/** A WebSocket server of a few lines: it answers each short text with the same text. */
function upgraded(request, socket) {
  seen.push({ url: request.url, headers: request.headers });
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.on('error', () => {});
  sockets.add(socket.on('close', () => sockets.delete(socket)));
  socket.on('data', (frame) => {
    if ((frame[0] & 0x0f) !== 1) return socket.end();
    const [length, mask] = [frame[1] & 0x7f, frame.subarray(2, 6)];
    const text = Buffer.from(frame.subarray(6, 6 + length).map((byte, at) => byte ^ mask[at % 4]));
    socket.write(Buffer.concat([Buffer.from([0x81, text.length]), text]));
  });
}

before(async () => {
  stage = await Stage.set();
  program = createServer((request, response) => {
    seen.push({ url: request.url, method: request.method, headers: request.headers });
    if (request.url === '/moved') return response.writeHead(302, { location: `http://localhost:${port}/there?x=1` }).end();
    if (request.url === '/large') return response.end(Buffer.alloc(5_000_000, 'x'));
    if (request.url === '/sum') {
      let sum = 0;
      return request.on('data', (bytes) => { sum += bytes.length; }).on('end', () => response.end(String(sum)));
    }
    response.setHeader('set-cookie', ['session=theirs; Path=/; Domain=localhost', 'rexec_preview=planted; Path=/']);
    response.setHeader('content-type', 'text/html');
    return response.end(PAGE);
  });
  program.on('upgrade', upgraded);
  await new Promise((resolve) => program.listen(0, '127.0.0.1', resolve));
  port = program.address().port;
});

after(async () => {
  await stage.strike();
  await stopProgram();
});

async function stopProgram() {
  const closed = new Promise((resolve) => program.close(resolve));
  program.closeAllConnections();
  for (const socket of sockets) socket.destroy();
  await closed;
}

beforeEach(() => {
  seen.length = 0;
});

const name = () => `${port}-${stage.machine.id.replaceAll('-', '')}.localhost`;
const address = () => `http://${name()}:${stage.installation.port}`;

/** The dialog with the ports of the machine. */
async function ports(context = stage.context) {
  const page = await pageOf(context);
  await page.goto(stage.origin);
  await page.locator(`[data-machine="${stage.machine.id}"]`).getByTestId('machine-menu').click();
  await by(page, 'ports-machine').click();
  await by(page, 'ports-dialog').waitFor();
  return page;
}

async function openPort(page, number = port) {
  await by(page, 'port-input').fill(String(number));
  await by(page, 'open-port').click();
  await by(page, 'port-row').waitFor();
}

/** The preview's own tab. */
async function shown(page) {
  const [tab] = await Promise.all([page.context().waitForEvent('page'), by(page, 'show-port').click()]);
  await tab.getByText('Hello from the program').waitFor();
  return tab;
}

async function closePort(page) {
  await by(page, 'port-menu').click();
  await by(page, 'close-port').click();
  await by(page, 'port-row').waitFor({ state: 'detached' });
}

/** Without a browser: the name is in the header alone. */
function raw(path, headers = {}) {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port: stage.installation.port, path, headers: { host: `${name()}:${stage.installation.port}`, ...headers } }, (response) => {
      response.resume();
      response.on('end', () => resolve({ status: response.statusCode, headers: response.headers }));
    });
    asked.on('error', reject);
    asked.end();
  });
}

test('a port is opened and shown in a tab of its own, with sockets, large answers and uploads, as if the browser were on the machine', async () => {
  const page = await ports();
  await openPort(page);
  const tab = await shown(page);
  assert.ok(tab.url().startsWith(`${address()}/`) && !tab.url().includes('#'), tab.url());
  await tab.getByText('socket says ping').waitFor();
  assert.equal(await tab.evaluate(async () => (await (await fetch('/large')).text()).length), 5_000_000);
  assert.equal(await tab.evaluate(async () => (await fetch('/sum', { method: 'POST', body: 'x'.repeat(3_000_000) })).text()), '3000000');
  await tab.goto(`${address()}/moved`);
  assert.equal(tab.url(), `${address()}/there?x=1`);
  for (const { url, headers } of seen) {
    assert.equal(headers.host, `localhost:${port}`, url);
    assert.ok(!/rexec/.test(headers.cookie ?? ''), `${url} was sent ${headers.cookie}`);
    assert.ok(headers.origin === undefined || headers.origin === `http://localhost:${port}`, headers.origin);
    assert.equal(headers['x-forwarded-host'], `${name()}:${stage.installation.port}`);
  }
  assert.ok(seen.some(({ headers }) => headers.cookie === 'session=theirs'), 'the program has its own cookie back');
  // Who came is told once, however many connections that took, and is no terminal.
  const told = await page.evaluate(async () => (await (await fetch('/api/activity')).json()).map(({ action, target_name }) => [action, target_name]));
  assert.deepEqual(told.filter(([action]) => /^(preview|session|files)/.test(action)), [['preview.enter', 'workbench'], ['preview.open', 'workbench']]);
  const cookies = await tab.context().cookies(address());
  assert.deepEqual(cookies.map((cookie) => [cookie.name, cookie.domain, cookie.httpOnly]).sort(), [['rexec_preview', name(), true], ['session', name(), false]]);
  await closePort(page);
  await stage.leave(page);
  await tab.close();
});

test('ws_05 a preview reads no cookie of ours, no answer of our API, no window that opened it, and frames nothing of ours', async () => {
  const page = await ports();
  await openPort(page);
  const tab = await shown(page);
  const got = await tab.evaluate(async (origin) => {
    const tried = async (url, init) => {
      try {
        const answer = await fetch(url, init);
        return answer.type === 'opaque' ? 'opaque' : `${answer.status} ${await answer.text()}`;
      } catch {
        return 'nothing';
      }
    };
    const framed = (url) => new Promise((resolve) => {
      const frame = document.createElement('iframe');
      frame.onload = () => {
        try {
          resolve(frame.contentDocument?.body?.innerText ? 'read' : 'nothing');
        } catch {
          resolve('nothing');
        }
      };
      frame.src = url;
      document.body.append(frame);
    });
    const worker = await navigator.serviceWorker?.register(`${origin}/sw.js`).then(() => 'registered', () => 'nothing');
    return {
      cookie: document.cookie,
      opener: window.opener,
      alone: window.parent === window && window.top === window,
      api: await tried(`${origin}/api/me`, { credentials: 'include' }),
      blind: await tried(`${origin}/api/me`, { credentials: 'include', mode: 'no-cors' }),
      change: await tried(`${origin}/api/snippets`, { method: 'POST', credentials: 'include', headers: { 'content-type': 'application/json', 'x-rexec-csrf': '1' }, body: '{"name":"evil","body":"x"}' }),
      form: await tried(`${origin}/api/snippets`, { method: 'POST', credentials: 'include', mode: 'no-cors', body: '{"name":"evil","body":"x"}' }),
      socket: await new Promise((resolve) => {
        const socket = new WebSocket(`${origin.replace('http', 'ws')}/viewer`);
        socket.onopen = () => resolve('open');
        socket.onerror = () => resolve('nothing');
      }),
      here: await tried('/api/me', { credentials: 'include' }),
      framed: await framed(`${origin}/`),
      planted: (() => { document.cookie = 'rexec_login=planted; domain=localhost; path=/'; return document.cookie.includes('planted'); })(),
      worker,
    };
  }, stage.origin);
  assert.deepEqual({ ...got, here: got.here.slice(0, 3), blind: '' }, {
    cookie: 'session=theirs', opener: null, alone: true, api: 'nothing', blind: '', change: 'nothing', form: got.form, socket: 'nothing', here: '200', framed: 'nothing', planted: false, worker: 'nothing',
  });
  assert.ok(['opaque', 'nothing'].includes(got.blind) && ['opaque', 'nothing'].includes(got.form));
  assert.ok(got.here.includes('Hello from the program'), 'under its name even our own paths are the program');
  assert.deepEqual(await page.evaluate(async () => (await (await fetch('/api/snippets')).json()).length), 0, 'nothing was written');
  await closePort(page);
  page.complaints.length = 0;
  await stage.leave(page);
  await tab.close();
});

test('ws_05 a page of another preview asks for nothing with the visitor’s cookie', async () => {
  const page = await ports();
  await openPort(page);
  const tab = await shown(page);
  const cookie = (await tab.context().cookies(address())).map(({ name, value }) => `${name}=${value}`).join('; ');
  seen.length = 0;
  const foreign = { origin: `http://1-${stage.machine.id.replaceAll('-', '')}.localhost:${stage.installation.port}` };
  const socket = { connection: 'upgrade', upgrade: 'websocket', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', 'sec-websocket-version': '13' };
  for (const headers of [foreign, { origin: 'null' }, { ...foreign, ...socket }, { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' }, { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'cors' }]) {
    assert.equal((await raw('/act', { cookie, ...headers })).status, 403, JSON.stringify(headers));
  }
  assert.equal(seen.length, 0, 'nothing reached the program');
  for (const headers of [{}, { origin: address() }, { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }, { 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' }]) {
    assert.equal((await raw('/', { cookie, ...headers })).status, 200, JSON.stringify(headers));
  }
  await closePort(page);
  await stage.leave(page);
  await tab.close();
});

test('who is not signed in is asked to, and then whether to go there', async () => {
  const page = await ports();
  await openPort(page);
  assert.equal((await raw('/')).status, 401);
  assert.equal((await raw('/', { cookie: 'rexec_preview=00000000000000000000000000000001.l00000000000000000000000000000001.9999999999999.x' })).status, 401);
  assert.equal(seen.length, 0, 'nothing reached the program');
  const stranger = await person(stage.browser);
  const tab = await stranger.newPage();
  await tab.goto(`${address()}/deep?x=1`);
  await by(tab, 'sign-in-form').waitFor();
  assert.ok(tab.url().startsWith(stage.origin));
  await by(tab, 'email').fill(OWNER.email);
  await by(tab, 'password').fill(OWNER.password);
  await by(tab, 'submit').click();
  await by(tab, 'enter-preview').click();
  await tab.getByText('Hello from the program').waitFor();
  assert.equal(tab.url(), `${address()}/deep?x=1`);
  await closePort(page);
  // Closed, the address leads to the question whether to open it.
  await tab.reload();
  await tab.getByText('This port is not open to browsers yet.').waitFor();
  await by(tab, 'enter-preview').click();
  await tab.getByText('Hello from the program').waitFor();
  await by(page, 'port-row').waitFor();
  await closePort(page);
  await stage.leave(page);
  await stranger.close();
});

test('a link lets anybody in until it is withdrawn, and what came by it is cut', async () => {
  const page = await ports();
  await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: stage.origin });
  await openPort(page);
  await by(page, 'port-menu').click();
  await by(page, 'share-0').click();
  await by(page, 'port-row').getByText('Anybody with the link').waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const guest = await person(stage.browser);
  const tab = await guest.newPage();
  await tab.goto(link);
  await tab.getByText('socket says ping').waitFor();
  assert.ok(!tab.url().includes('#'), 'the secret is not in the address any more');
  assert.ok(!stage.installation.log.includes(link.split('#')[1]), 'nor in a log');
  await by(page, 'port-menu').click();
  await by(page, 'unshare').click();
  await by(page, 'port-row').getByText('Signed in only').waitFor();
  await tab.getByText('socket closed').waitFor({ timeout: 2_000 });
  await tab.goto(`${address()}/`);
  await by(tab, 'sign-in-form').waitFor();
  await tab.goto(link);
  await tab.getByText('does not open anything any more').waitFor();
  await closePort(page);
  await stage.leave(page);
  await guest.close();
});

test('bu_03 closing the port and signing out cut a live preview within two seconds', async () => {
  const page = await ports();
  await openPort(page);
  const tab = await shown(page);
  await tab.getByText('socket says ping').waitFor();
  await closePort(page);
  await tab.getByText('socket closed').waitFor({ timeout: 2_000 });
  const leaving = await stage.newPerson();
  const other = await ports(leaving);
  await openPort(other);
  const second = await shown(other);
  await second.getByText('socket says ping').waitFor();
  await other.evaluate(() => fetch('/api/logins/current', { method: 'DELETE', headers: { 'x-rexec-csrf': '1', 'content-type': 'application/json' } }));
  await second.getByText('socket closed').waitFor({ timeout: 2_000 });
  assert.equal((await raw('/', { cookie: (await leaving.cookies(address())).map(({ name, value }) => `${name}=${value}`).join('; ') })).status, 401);
  await closePort(page).catch(() => {});
  page.complaints.length = 0;
  await page.close();
  await leaving.close();
});

test('a port where nothing listens, and one that speaks no HTTP, say so', async () => {
  const page = await ports();
  await openPort(page);
  const tab = await shown(page);
  await stopProgram();
  await tab.reload();
  await tab.getByText(`Nothing listens on port ${port}`).waitFor();
  await new Promise((resolve) => program.listen(port, '127.0.0.1', resolve));
  await tab.reload();
  await tab.getByText('Hello from the program').waitFor();
  await closePort(page);
  const other = net.createServer((socket) => socket.on('error', () => {}).end('SSH-2.0-Test\r\n'));
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  await openPort(page, other.address().port);
  const [wrong] = await Promise.all([page.context().waitForEvent('page'), by(page, 'show-port').click()]);
  await wrong.getByText('does not answer in HTTP').waitFor();
  await closePort(page);
  other.close();
  await stage.leave(page);
  await tab.close();
  await wrong.close();
});

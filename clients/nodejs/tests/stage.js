'use strict';
// The stage of clients/tests/stage.py, as the tests here use it: real servers, each behind a proxy that does as
// ordered.

const { spawn } = require('node:child_process');
const http = require('node:http');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');

const PROGRAM = path.join(__dirname, '../../tests/stage.py');
const PATIENCE = 60_000;

class Stage {
  #process;
  #address;
  #ready = [];
  // More at once would overflow the queue of the listener there.
  #agent = new http.Agent({ keepAlive: true, maxSockets: 4 });

  /** Starts it with the server that the environment variable DFLOCKD names. */
  async open() {
    const binary = process.env.DFLOCKD;
    if (!binary) throw new Error('set DFLOCKD to the path of the server, such as target/release/dflockd');
    this.#process = spawn('python3', [PROGRAM, binary], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#address = await new Promise((resolve, reject) => {
      this.#process.once('error', reject).once('exit', () => reject(new Error('the stage ended')));
      this.#process.stdout.once('data', (line) => resolve(line.toString().trim()));
    });
  }

  /** Everything that the stage started ends with its input. */
  close() {
    this.#process.stdin.end();
    this.#agent.destroy();
  }

  /** A server of its own for whoever asks. */
  async server(order) {
    if (!order && this.#ready.length > 0) return this.#ready.pop();
    return new StagedServer(this, await this.ask('POST', '/servers', order ?? {}));
  }

  /** Starts so many servers beforehand, so that no test has to measure times while others start. */
  async prepare(count) {
    const ready = await Promise.all(Array.from({ length: count }, () => this.server()));
    this.#ready.push(...ready);
  }

  certificates() {
    return this.ask('GET', '/certificates');
  }

  async ask(method, target, order) {
    const { status, body } = await request(method, this.#address + target, order, this.#agent);
    if (status !== 200) throw new Error(`${method} ${target}: ${JSON.stringify(body)}`);
    return body;
  }
}

class StagedServer {
  #stage;
  #target;

  constructor(stage, { name, url, direct, port }) {
    Object.assign(this, { url, direct, port });
    this.#stage = stage;
    this.#target = `/servers/${name}`;
  }

  order(order) {
    return this.#stage.ask('POST', `${this.#target}/orders`, order);
  }

  forgetOrders() {
    return this.#stage.ask('DELETE', `${this.#target}/orders`);
  }

  /** What came to the proxy and fits, as "METHOD /path". `at` is in milliseconds here. */
  async requests(match = /./) {
    const all = await this.#stage.ask('GET', `${this.#target}/requests`);
    const fit = all.filter(({ method, path: target }) => match.test(`${method} ${target}`));
    return fit.map((each) => ({ ...each, at: each.at * 1000 }));
  }

  signal(signal) {
    return this.#stage.ask('POST', `${this.#target}/signal`, { signal });
  }

  restart() {
    return this.#stage.ask('POST', `${this.#target}/restart`);
  }

  refuse(seconds) {
    return this.#stage.ask('POST', `${this.#target}/refuse`, { seconds });
  }

  closeIdle() {
    return this.#stage.ask('POST', `${this.#target}/close-idle`);
  }

  /** Asks the server itself, without the proxy and without a client. */
  raw(method, target, body) {
    return request(method, this.direct + target, body);
  }

  async status(name) {
    return (await this.raw('GET', `/locks/${encodeURIComponent(name)}/status`)).body;
  }

  async stats() {
    return (await this.raw('GET', '/locks/stats')).body;
  }
}

function request(method, url, order, agent = false) {
  return new Promise((resolve, reject) => {
    const asked = http.request(url, { method, agent, timeout: PATIENCE }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode, body: JSON.parse(text) }));
      response.on('error', reject);
    });
    asked.on('error', reject).on('timeout', () => asked.destroy(new Error(`${method} ${url}: no answer`)));
    asked.end(order === undefined ? undefined : JSON.stringify(order));
  });
}

/** Waits until `condition` holds, and gives its value. */
async function eventually(condition, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not within ${patience} ms: ${condition}`);
    await sleep(40);
  }
}

module.exports = { Stage, eventually };

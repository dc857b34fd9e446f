'use strict';
// One server, as HTTP requests reach it. It knows nothing of locks.
// Invariant: each exchange ends, with an answer of status 200 that is a JSON object, or with one error.

const http = require('node:http');
const https = require('node:https');
const clock = require('./clock');
const { errorFor, failureOf, isRepeatable, isUncertain } = require('./answers');

const CONNECT_PATIENCE = 5_000;
// The server ends an idle connection after 75 s.
const IDLE_MAX = 60_000;
const ANSWER_MAX = 64 * 1024 * 1024;

class Server {
  #origin;
  #base;
  #transport;
  #headers = { 'content-type': 'application/json' };
  #options;

  constructor({ protocol, hostname, port, origin, pathname }, { token, ca } = {}) {
    this.#origin = origin;
    this.#base = pathname.replace(/\/$/, '');
    this.#transport = protocol === 'https:' ? https : http;
    if (token) this.#headers.authorization = `Bearer ${token}`;
    // An agent of one's own ignores the proxies that the environment names. If `localhost` is ::1 first, the other
    // address is tried as well.
    const pool = { keepAlive: true, timeout: IDLE_MAX, autoSelectFamily: true, rejectUnauthorized: true, ca };
    const agent = new this.#transport.Agent(pool);
    this.#options = { host: hostname.replace(/^\[|\]$/g, ''), port, agent };
  }

  /**
   * Sends a request until it is answered, for `patience` milliseconds, or `awayPatience` while the server cannot have
   * heard it; one try of it lasts `tryMax` at most.
   */
  async persist({ patience, tryMax = patience, awayPatience = patience, ...request }) {
    const begun = clock.now();
    const end = begun + patience;
    for (let failures = 0; ; failures += 1) {
      try {
        const rest = Math.max(1, Math.min(end - clock.now(), tryMax));
        return await this.exchange({ ...request, patience: rest, isFresh: request.isFresh || failures > 0 });
      } catch (error) {
        const pause = backoff(failures);
        const last = isUncertain(error) ? end : begun + awayPatience;
        if (!isRepeatable(error) || clock.now() + pause >= last) throw error;
        await sleep(pause, request);
      }
    }
  }

  /**
   * One request and its answer: {body, sentAt}. `isFresh` asks for a new connection; `isBackground` lets the program
   * exit meanwhile; `onSend` is called when there is a connection to send it on; `stop` ends that; `what` is for the
   * texts of errors.
   */
  async exchange({ what, method, path, body, patience, stop, isBackground, isFresh, onSend }) {
    if (stop?.isStopped) throw stop.reason;
    // The other idle connections have most likely ended for the same reason.
    if (isFresh) this.#dropIdle();
    const data = JSON.stringify(body) ?? '';
    const headers = { ...this.#headers, 'content-length': Buffer.byteLength(data) };
    const sentAt = clock.now();
    const request = this.#transport.request({ ...this.#options, method, path: this.#base + path, headers });
    let isSent = false;
    let fail;
    const send = () => {
      isSent = true;
      onSend?.();
    };
    const limit = (most, isOver) => setTimeout(() => isOver() && fail(new Error(`none in ${most} ms`)), most);
    const timers = [limit(Math.ceil(patience), () => true), limit(CONNECT_PATIENCE, () => !isSent)];
    const text = new Promise((resolve, reject) => {
      fail = (error) => reject(failureOf(what, error, isSent, this.#origin));
      request.on('error', fail).on('response', (response) => textOf(response).then(resolve, fail));
      request.on('socket', (socket) => {
        if (socket.connecting) socket.once(socket.encrypted ? 'secureConnect' : 'connect', send);
        else send();
        if (isBackground) [socket, ...timers].forEach((each) => each.unref());
      });
      request.end(data);
    });
    if (stop) stop.hook = () => fail(new Error('stopped'));
    try {
      const mask = (value) => this.masked(value, { body });
      return { body: read(what, await text, request.res, mask), sentAt };
    } catch (error) {
      request.destroy();
      throw stop?.isStopped ? stop.reason : error;
    } finally {
      if (stop) stop.hook = null;
      timers.forEach(clearTimeout);
    }
  }

  /** What an answer says, without the secrets of its request. */
  masked(text, { body }) {
    const secrets = [this.#headers.authorization?.slice(7), body?.renewalToken, body?.requestId];
    return secrets.reduce((masked, secret) => (secret ? masked.replaceAll(secret, '***') : masked), text);
  }

  /** Ends the idle connections, and those in use. */
  close() {
    this.#options.agent.destroy();
  }

  #dropIdle() {
    for (const sockets of Object.values(this.#options.agent.freeSockets)) sockets.forEach((socket) => socket.destroy());
  }
}

function textOf(response) {
  return new Promise((resolve, reject) => {
    let text = '';
    response.setEncoding('utf8').on('error', reject);
    response.on('end', () => resolve(text));
    response.on('data', (chunk) => (text += chunk).length > ANSWER_MAX && reject(new Error('the answer is too long')));
  });
}

/** The JSON object in the text of a good answer. */
function read(what, text, { statusCode: status, headers }, mask) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    // A page of a proxy, or half of an answer.
  }
  if (typeof body !== 'object' || Array.isArray(body)) body = null;
  if (status !== 200 || !body) throw errorFor(what, status, body ?? {}, headers['x-request-id'], mask);
  return body;
}

/** Ends what it was given to, one thing at a time. An AbortController would cost more than all else here. */
class Stop {
  isStopped = false;
  reason = null;
  hook = null;

  stop(reason) {
    if (!this.isStopped) Object.assign(this, { isStopped: true, reason });
    this.hook?.();
  }
}

/** Resolves after a time, or at once when `stop` says so. */
function sleep(milliseconds, { stop, isBackground }) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    if (isBackground) timer.unref();
    if (stop) stop.hook = () => resolve(clearTimeout(timer));
  });
}

/** The pause before the repeat after so many failures: none, then 50 ms, doubled up to 2 s, and shortened at random. */
function backoff(failures) {
  return failures < 1 ? 0 : Math.min(2_000, 50 * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
}

module.exports = { Server, Stop, backoff, sleep };

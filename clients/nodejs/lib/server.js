'use strict';
// One server, as HTTP requests reach it. It knows nothing of locks.
// Invariant: each exchange ends, with an answer of status 200 that is a JSON object, or with one error.

const http = require('node:http');
const https = require('node:https');
const clock = require('./clock');
const { LockServerError, LockUnavailableError, errorFor, isRepeatable } = require('./errors');

const CONNECT_PATIENCE = 5_000;
// The server ends an idle connection after 75 s.
const IDLE_MAX = 60_000;
const ANSWER_MAX = 64 * 1024 * 1024;
const RESETS = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ECONNABORTED']);

class Server {
  #transport;
  #agent;
  #address;
  #base;
  #token;

  constructor(url, { token = null, ca } = {}) {
    const isTls = url.protocol === 'https:';
    this.url = url.origin;
    this.#transport = isTls ? https : http;
    // An agent of one's own ignores the proxies that the environment names. `localhost` may be ::1 first: the other address
    // is tried as well.
    const options = {
      keepAlive: true,
      maxFreeSockets: 256,
      scheduling: 'lifo',
      timeout: IDLE_MAX,
      autoSelectFamily: true,
    };
    this.#agent = new this.#transport.Agent(isTls ? { ...options, ca, rejectUnauthorized: true } : options);
    this.#address = { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port || (isTls ? 443 : 80) };
    this.#base = url.pathname.replace(/\/$/, '');
    this.#token = token;
  }

  /** Sends a request until it is answered, for `patience` milliseconds. `tryMax` bounds one try of it. */
  async persist({ patience, tryMax = patience, ...request }) {
    const end = clock.now() + patience;
    for (let failures = 0; ; failures += 1) {
      try {
        const rest = Math.max(1, end - clock.now());
        return await this.exchange({
          ...request,
          patience: Math.min(rest, tryMax),
          isFresh: request.isFresh || failures > 0,
        });
      } catch (error) {
        const pause = backoff(failures);
        if (!isRepeatable(error) || clock.now() + pause >= end) throw error;
        await sleep(pause, request);
      }
    }
  }

  /**
   * One request and its answer: {body, sentAt}. `isFresh` asks for a new connection; `isBackground` lets the program exit
   * meanwhile; `onSend` is called before anything is sent; the promise rejects with the reason of `signal`.
   */
  exchange({ method, path, body, patience, signal, isBackground, isFresh, onSend }) {
    if (signal?.aborted) return Promise.reject(signal.reason);
    // The other idle connections have most likely ended for the same reason.
    if (isFresh) this.dropIdle();
    const data = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const headers = { accept: 'application/json' };
    if (data) Object.assign(headers, { 'content-type': 'application/json', 'content-length': data.length });
    if (this.#token !== null) headers.authorization = `Bearer ${this.#token}`;
    const secrets = [this.#token, body?.renewalToken, body?.requestId].filter(Boolean);
    onSend?.();
    const sentAt = clock.now();
    return new Promise((resolve, reject) => {
      const options = { ...this.#address, method, path: this.#base + path, headers, agent: this.#agent };
      const request = this.#transport.request(options);
      let progress = 'none';
      const timers = [];
      const abort = () => settle(reject, signal.reason);
      const settle = (how, value) => {
        timers.forEach(clearTimeout);
        signal?.removeEventListener('abort', abort);
        how(value);
        if (how === reject) request.destroy();
      };
      const fail = (error) => settle(reject, this.#failure(error, progress));
      const limit = (milliseconds, text) => {
        const timer = setTimeout(() => fail(new Error(text)), milliseconds);
        if (isBackground) timer.unref();
        timers.push(timer);
      };
      limit(patience, `no answer within ${Math.round(patience)} ms`);
      signal?.addEventListener('abort', abort, { once: true });
      request.on('error', fail);
      request.on('socket', (socket) => {
        if (isBackground) socket.unref();
        if (!socket.connecting) return (progress = 'sent');
        if (patience > CONNECT_PATIENCE)
          limit(CONNECT_PATIENCE, `no connection within ${CONNECT_PATIENCE} ms`);
        socket.once('connect', () => (progress = this.#transport === https ? 'connected' : 'sent'));
        socket.once('secureConnect', () => (progress = 'sent'));
        socket.once(this.#transport === https ? 'secureConnect' : 'connect', () => clearTimeout(timers[1]));
      });
      request.on('response', (response) => {
        const chunks = [];
        let length = 0;
        response.on('error', fail);
        response.on('data', (chunk) => {
          chunks.push(chunk);
          length += chunk.length;
          if (length > ANSWER_MAX) settle(reject, nonsense(response, 'the answer is too long'));
        });
        response.on('end', () => {
          if (!response.complete) return fail(new Error('the answer was cut'));
          try {
            settle(resolve, { body: read(response, Buffer.concat(chunks).toString(), secrets), sentAt });
          } catch (error) {
            settle(reject, error);
          }
        });
      });
      request.end(data);
    });
  }

  dropIdle() {
    for (const sockets of Object.values(this.#agent.freeSockets))
      sockets.forEach((socket) => socket.destroy());
  }

  /** Ends the idle connections, and those in use. */
  close() {
    this.#agent.destroy();
  }

  #failure(error, progress) {
    const why = `${error.code ?? ''} ${error.message}`.trim();
    if (/^HPE_/.test(error.code ?? '')) {
      return new LockServerError(
        `${this.url} does not answer in HTTP (${error.code}); check the URL of the client`,
      );
    }
    if (progress === 'connected' && error.code && !RESETS.has(error.code)) {
      const advice =
        'give the client the authority of the server as `ca`, and the name of the certificate as its URL';
      return new LockUnavailableError(`no TLS with ${this.url} (${why}); ${advice}`, { code: 'tls' });
    }
    const code = progress === 'sent' ? 'no-answer' : 'no-connection';
    const advice = 'check that the server runs and that the URL of the client is right';
    return new LockUnavailableError(`${code} from ${this.url} (${why}); ${advice}`, { code });
  }
}

function read(response, text, secrets) {
  const { statusCode: status, headers } = response;
  if (status === 200) {
    const body = parse(text);
    if (!body) throw nonsense(response, 'the answer is not a JSON object');
    return body;
  }
  for (const secret of secrets) text = text.replaceAll(secret, '***');
  throw errorFor(status, parse(text) ?? {}, headers['x-request-id']);
}

function parse(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}

function nonsense(response, what) {
  const known = { status: response.statusCode, requestId: response.headers['x-request-id'] ?? null };
  return new LockServerError(`${what}; check that the URL of the client is that of a dflockd server`, known);
}

/** The pause before the repeat after so many failures: none, then 50 ms, doubled up to 2 s, and shortened at random. */
function backoff(failures) {
  return failures === 0 ? 0 : Math.min(2_000, 50 * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
}

function sleep(milliseconds, { signal, isBackground }) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, milliseconds);
    if (isBackground) timer.unref();
    signal?.addEventListener('abort', abort, { once: true });
  });
}

module.exports = { Server, backoff, sleep };

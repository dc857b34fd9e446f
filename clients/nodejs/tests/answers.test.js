'use strict';
// What it means for the next request that one failed.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { describe, test } = require('node:test');
const { inspect } = require('node:util');
const { errorFor, errorOf, failureOf, isRepeatable, isUncertain } = require('../lib/answers');
const { LockDeadlockError } = require('../lib/errors');
const { Server } = require('../lib/server');

const HOST = 'https://host';

function failure(code, isSent, message = 'why') {
  const error = failureOf('health', Object.assign(new Error(message), code && { code }), isSent, HOST);
  return [error.code, isRepeatable(error), isUncertain(error)];
}

describe('a failure', () => {
  test('before anything was sent is of TLS only if TLS says so', () => {
    const trust = ['EPROTO', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_TLS_CERT_ALTNAME_INVALID', 'CERT_HAS_EXPIRED'];
    for (const code of [...trust, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'ERROR_IN_CERT_NOT_BEFORE_FIELD'])
      assert.deepEqual(failure(code, false), ['tls', false, false], code);
    const system = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EAI_FAIL', 'EAI_NODATA', 'E2BIG', undefined];
    for (const code of [...system, 'ERR_SOCKET_CONNECTION_TIMEOUT'])
      assert.deepEqual(failure(code, false), ['no-connection', true, false], code);
  });

  test('after the request was sent is no answer, whatever broke: it is repeated, and the attempt is ended', () => {
    const codes = ['ECONNRESET', 'EPROTO', 'ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC', undefined];
    for (const code of codes) assert.deepEqual(failure(code, true), ['no-answer', true, true], code);
  });

  test('has one of the codes that the README names, and no others', () => {
    const readme = fs.readFileSync(path.join(__dirname, '../README.md'), 'utf8');
    const named = [...readme.matchAll(/^\| `([a-z-]+)` \| .*\. \|$/gm)].map(([, code]) => code);
    const made = ['ECONNREFUSED', 'ECONNRESET', 'CERT_HAS_EXPIRED', 'HPE_INVALID_CONSTANT'].map(
      (code, index) => failure(code, index === 1)[0],
    );
    assert.deepEqual([...made, errorOf('', 'closed').code], named);
  });

  test('that is an answer without a code may have been one of the server only if it says that nothing was done', () => {
    for (const [status, problem, expected] of [
      [404, {}, true],
      [401, {}, false],
      [429, {}, false],
      [500, { code: 'internal' }, true],
      [503, {}, true],
      [503, { code: 'draining' }, false],
      [503, { code: 'max-locks' }, false],
    ])
      assert.equal(isUncertain(errorFor('stats', status, problem)), expected, `${status} ${problem.code}`);
  });

  test('has a text without gaps, and with whole milliseconds', async () => {
    const without = failureOf('health', new Error('none in 5 ms'), true, HOST).message;
    assert.match(without, /^health: no answer from https:\/\/host: none in 5 ms; check /);
    const silent = net.createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const server = new Server(new URL(`http://127.0.0.1:${silent.address().port}`));
    const request = { what: 'health', method: 'GET', path: '/', patience: 9.5 };
    await assert.rejects(server.exchange(request), /: none in 10 ms; check /);
    server.close();
    silent.close();
  });
});

describe('an answer that is an error', () => {
  const mask = (text) => text.replaceAll('lock', '***').replaceAll('to"ken', '***');

  test('keeps a code of the server although the token is part of it, and its text says what was asked', () => {
    const error = errorFor('acquire "a"', 409, { code: 'deadlock', detail: 'no lock' }, null, mask);
    assert.ok(error instanceof LockDeadlockError);
    const { code, detail, message } = error;
    assert.deepEqual([code, detail], ['deadlock', 'no ***']);
    assert.equal(message, 'acquire "a": the server answered 409 deadlock: no ***');
  });

  test('shows no secret, wherever the server repeats it', () => {
    const secret = 'to"ken';
    const cycle = [{ clientId: secret, waitsFor: secret }, null];
    for (const code of ['deadlock', secret]) {
      const error = errorFor('acquire "a"', 409, { code, detail: secret, cycle }, secret, mask);
      assert.ok(!inspect(error, { depth: Infinity }).includes(secret), inspect(error));
      assert.equal(error.requestId, '***');
    }
  });

  test('is masked after it was read as JSON', async () => {
    const token = 'to"ken';
    const body = JSON.stringify({ code: token, detail: `${token} ${'0'.repeat(32)}` });
    const head = `HTTP/1.1 400 Bad\r\nX-Request-Id: ${token}\r\nContent-Length: ${body.length}\r\n\r\n`;
    const echo = net.createServer((socket) => socket.once('data', () => socket.end(head + body)));
    await once(echo.listen(0, '127.0.0.1'), 'listening');
    const server = new Server(new URL(`http://127.0.0.1:${echo.address().port}`), { token });
    const request = { method: 'POST', path: '/', body: { requestId: '0'.repeat(32) }, patience: 5_000, what: 'x' };
    const error = await server.exchange(request).catch((failure) => failure);
    assert.deepEqual([error.code, error.detail, error.requestId], ['***', '*** ***', '***']);
    server.close();
    echo.close();
  });
});

describe('a request', () => {
  test('counts as sent when there is a connection, and one that needs no patience is told so at once', async () => {
    const nobody = net.createServer().listen(0, '127.0.0.1');
    await once(nobody, 'listening');
    const server = new Server(new URL(`http://127.0.0.1:${nobody.address().port}`));
    nobody.close();
    let sends = 0;
    const request = { what: 'x', method: 'GET', path: '/', onSend: () => (sends += 1) };
    const begun = Date.now();
    await assert.rejects(server.persist({ ...request, patience: 5_000, awayPatience: 0 }), { code: 'no-connection' });
    assert.ok(Date.now() - begun < 4_000);
    await assert.rejects(server.persist({ ...request, patience: 300 }), { code: 'no-connection' });
    assert.equal(sends, 0);
    server.close();
  });
});

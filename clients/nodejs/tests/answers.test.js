'use strict';
// What it means for the next request that one failed.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { describe, test } = require('node:test');
const { errorFor, errorOf, failureOf, isRepeatable, isUncertain } = require('../lib/answers');
const { Server } = require('../lib/server');

const HOST = 'https://host';

function failure(code, isSent, message = 'why') {
  const error = failureOf(Object.assign(new Error(message), code && { code }), isSent, HOST);
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
      assert.equal(isUncertain(errorFor(status, problem)), expected, `${status} ${problem.code}`);
  });

  test('has a text without gaps, and with whole milliseconds', async () => {
    const without = failureOf(new Error('none in 5 ms'), true, HOST).message;
    assert.match(without, /^no answer from https:\/\/host: none in 5 ms; check /);
    const silent = net.createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const server = new Server(new URL(`http://127.0.0.1:${silent.address().port}`));
    await assert.rejects(server.exchange({ method: 'GET', path: '/', patience: 9.5 }), /: none in 10 ms; check /);
    server.close();
    silent.close();
  });
});

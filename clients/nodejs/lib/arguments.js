'use strict';
// What callers pass in, checked before any request. An error names the argument, its value unless that may be a secret,
// and what is wanted.

const { inspect } = require('node:util');

const isNumber = (value, min, max) => typeof value === 'number' && value >= min && value <= max;
const isWhole = (value, min, max) => isNumber(value, min, max) && Number.isInteger(value);
const isFunction = (value) => typeof value === 'function';
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const isUtf8 = (value) => typeof value === 'string' && Buffer.from(value).toString() === value;
const isText = (value, max) =>
  isUtf8(value) && isNumber(Buffer.byteLength(value), 1, max) && !/[\u0000-\u001f\u007f-\u009f]/.test(value);

const WANTED = {
  name: [
    (value) => isText(value, 256) && !/ |^\.\.?$/.test(value),
    '1 to 256 bytes without blanks and controls, no "." or ".."',
  ],
  timeout: [(value) => isNumber(value, 100, Number.MAX_VALUE), 'milliseconds, at least 100'],
  waitTimeout: [(value) => isNumber(value, 0, Infinity), 'milliseconds, 0 to Infinity'],
  maxHold: [(value) => isNumber(value, 0, Infinity), 'milliseconds, 0 to Infinity'],
  autoRenew: [(value) => typeof value === 'boolean', 'true or false'],
  limit: [(value) => isWhole(value, 1, 1_048_576), 'a whole number, 1 to 1048576'],
  metadata: [isObject, 'an object'],
  onLost: [isFunction, 'a function'],
  signal: [(value) => isFunction(value?.addEventListener), 'an AbortSignal'],
  body: [isFunction, 'a function, which is the last argument'],
  token: [(value) => /^[\x21-\x7e]+$/.test(value), 'visible ASCII characters, without a line end'],
  ca: [(value) => value !== null, 'a certificate in PEM'],
  clientId: [(value) => isText(value, 128), '1 to 128 bytes without controls'],
  shard: [isFunction, 'a function'],
  server: [(value) => isWhole(value, 0, Infinity), 'the number of a server, from 0'],
  space: [(value) => value === 'lock' || value === 'semaphore', '"lock" or "semaphore"'],
  prefix: [(value) => typeof value === 'string', 'a string'],
  pageSize: [(value) => isWhole(value, 1, 1_000), 'a whole number, 1 to 1000'],
  lockId: [(value) => isText(value, 64), 'the lockId of a lock'],
};

const SECRETS = ['token', 'ca'];
const SHORT = { depth: 0, breakLength: Infinity };

/** `given` again, if all its values are as wanted. A misspelt option would be ignored without a word. */
function check(given, names = Object.keys(given)) {
  for (const [name, value] of Object.entries(given)) {
    if (!names.includes(name)) throw new TypeError(`there is no option ${name}: known are ${names.join(', ')}`);
    const [isGood, wanted] = WANTED[name];
    if (value === undefined || isGood(value)) continue;
    const shown = SECRETS.includes(name) ? 'not allowed' : inspect(value, SHORT).slice(0, 256);
    throw new (typeof value === 'number' ? RangeError : TypeError)(`${name} is ${shown}: want ${wanted}`);
  }
  return given;
}

/** The path of a lock: all but `:` and the unreserved characters of RFC 3986 is percent-encoded. */
function pathOf(name) {
  check({ name: name ?? null });
  const encoded = encodeURIComponent(name).replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16)}`);
  return `/locks/${encoded.replaceAll('%3A', ':')}`;
}

/** The number of the server for a name, from 0: its CRC-32 (IEEE) modulo their number, as in dflock(1). */
function shardOf(name, count) {
  return crc32(name) % count;
}

function crc32(text) {
  let sum = ~0;
  for (const byte of Buffer.from(text)) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

/** The URLs in a text with commas between them. A password in one is not shown. */
function urlsOf(text) {
  return `${text}`.split(',').map((part) => {
    if (/^\s*https?:\/\/[^/?#@\s]+(\/[^?#@\s]*)?\s*$/i.test(part)) return new URL(part);
    throw new TypeError(
      'the URL is not allowed: want http://HOST:PORT or https://HOST:PORT, several with commas between',
    );
  });
}

module.exports = { check, pathOf, shardOf, crc32, urlsOf };

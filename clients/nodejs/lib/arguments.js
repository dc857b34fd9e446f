'use strict';
// What callers pass in, checked before any request, with an error that names the argument, its value and what is wanted.

const TIMEOUT_MIN = 100;
const NAME_MAX = 256;
const ID_MAX = 128;
const LIMIT_MAX = 1_048_576;
const CONTROL = /[\u0000-\u001f\u007f-\u009f]/;

function checkName(name) {
  if (typeof name !== 'string') throw new TypeError(`the name of a lock is a string, not ${typeof name}`);
  const length = Buffer.byteLength(name);
  const isGood = length >= 1 && length <= NAME_MAX && !CONTROL.test(name) && name !== '.' && name !== '..';
  if (isGood && isWellFormed(name)) return;
  const wanted = `1 to ${NAME_MAX} bytes of UTF-8 without control characters, and not "." or ".."`;
  throw new RangeError(
    `the lock name ${JSON.stringify(name.slice(0, NAME_MAX))} is not allowed: want ${wanted}`,
  );
}

/** The name in a path: all but the unreserved characters of RFC 3986 and `:` is percent-encoded. */
function encodeName(name) {
  const encoded = encodeURIComponent(name).replace(
    /[!'()*]/g,
    (one) => '%' + one.charCodeAt(0).toString(16).toUpperCase(),
  );
  return encoded.replaceAll('%3A', ':');
}

function isWellFormed(text) {
  return Buffer.from(text).toString() === text;
}

function checkTimeout(timeout) {
  if (timeout === undefined || timeout === null) return null;
  return checkNumber('timeout', timeout, TIMEOUT_MIN, Number.MAX_VALUE);
}

/** The options of an acquire, with their defaults. */
function checkAcquire(options) {
  checkOptions(options, ['waitTimeout', 'autoRenew', 'limit', 'metadata', 'maxHold', 'onLost', 'signal']);
  const { waitTimeout = 0, autoRenew = false, limit, metadata, maxHold = Infinity, onLost, signal } = options;
  checkNumber('waitTimeout', waitTimeout, 0, Infinity);
  checkNumber('maxHold', maxHold, 0, Infinity);
  checkType('autoRenew', autoRenew, 'boolean');
  if (limit !== undefined && !Number.isInteger(checkNumber('limit', limit, 1, LIMIT_MAX))) {
    throw new RangeError(`limit is ${limit}: want a whole number`);
  }
  if (metadata !== undefined) checkType('metadata', Array.isArray(metadata) ? null : metadata, 'object');
  if (onLost !== undefined) checkType('onLost', onLost, 'function');
  if (signal !== undefined && typeof signal?.addEventListener !== 'function') {
    throw new TypeError('signal is not an AbortSignal: take the `signal` of an AbortController');
  }
  return { waitTimeout, autoRenew, limit, metadata, maxHold, onLost, signal };
}

/** A misspelt option would be ignored without a word. */
function checkOptions(options, names) {
  checkType('the options', options, 'object');
  for (const name of Object.keys(options)) {
    if (!names.includes(name))
      throw new TypeError(`there is no option ${name}: known are ${names.join(', ')}`);
  }
}

function checkNumber(what, value, min, max) {
  if (typeof value !== 'number')
    throw new TypeError(`${what} is a ${typeof value}: want a number of at least ${min}`);
  if (value >= min && value <= max) return value;
  const unit = what === 'limit' ? `${min} to ${max}` : `milliseconds, at least ${min}`;
  throw new RangeError(`${what} is ${value}: want ${unit}`);
}

function checkType(what, value, type) {
  if (typeof value !== type || value === null) throw new TypeError(`${what}: want a value of type ${type}`);
}

function checkId(id) {
  checkType('clientId', id, 'string');
  const length = Buffer.byteLength(id);
  if (length >= 1 && length <= ID_MAX && !CONTROL.test(id) && isWellFormed(id)) return id;
  throw new RangeError(
    `the clientId is not allowed: want 1 to ${ID_MAX} bytes of UTF-8 without control characters`,
  );
}

function checkToken(token) {
  if (typeof token === 'string' && /^[\x21-\x7e]+$/.test(token)) return token;
  throw new TypeError(
    'token: want a string of visible ASCII characters, as the server was given (without a line end)',
  );
}

/** The URLs of the servers, which have commas between them. */
function checkUrls(text) {
  return String(text)
    .split(',')
    .map((part) => {
      let url;
      try {
        url = new URL(part.trim());
      } catch {
        throw new TypeError(
          'the URL of the client is none: want http://host:port or https://host:port, several with commas',
        );
      }
      if (!/^https?:$/.test(url.protocol))
        throw new TypeError(`the URL has ${url.protocol}: want http: or https:`);
      if (url.username || url.password) throw new TypeError('the URL has a password: use the option `token`');
      if (url.search || url.hash) throw new TypeError('the URL has a query or a fragment: want none');
      return url;
    });
}

module.exports = {
  checkName,
  encodeName,
  checkTimeout,
  checkAcquire,
  checkOptions,
  checkNumber,
  checkType,
  checkId,
  checkToken,
  checkUrls,
};

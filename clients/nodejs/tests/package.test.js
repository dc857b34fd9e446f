'use strict';
// The package as others load it.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const manifest = require('../package.json');

const FOLDER = path.join(__dirname, '..');

test('`require`, `import` and the types have the same names, and `import` the same classes', async () => {
  const required = require('dflockd-client');
  const { default: _, ...imported } = await import('dflockd-client');
  const names = Object.keys(required).sort();
  assert.deepEqual(
    Object.keys(imported).filter((name) => name !== 'module.exports'),
    names,
  );
  for (const name of names) assert.equal(imported[name], required[name]);
  const types = fs.readFileSync(path.join(FOLDER, 'client.d.ts'), 'utf8');
  const typed = [...types.matchAll(/^export class (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(typed.sort(), names);
  assert.equal(require('../client'), required);
});

test('each error is a LockError with its own name', () => {
  const { DistributedLockClient, DistributedLock, LockError, ...errors } = require('../client');
  for (const [name, Kind] of Object.entries(errors)) {
    const error = new Kind('text', { code: 'x' });
    assert.ok(error instanceof LockError && error instanceof Error);
    assert.deepEqual([error.name, String(error), error.code, error.status], [name, `${name}: text`, 'x', null]);
    assert.ok(error.stack.startsWith(`${name}: text`));
  }
  assert.ok(new errors.LockDrainingError('') instanceof errors.LockUnavailableError);
  assert.equal(typeof DistributedLock, typeof DistributedLockClient);
});

test('the package needs nothing, and all that it loads is in it', () => {
  for (const kind of ['dependencies', 'peerDependencies', 'optionalDependencies'])
    assert.equal(manifest[kind], undefined);
  const files = ['client.js', ...fs.readdirSync(path.join(FOLDER, 'lib')).map((name) => `lib/${name}`)];
  for (const file of files) {
    const text = fs.readFileSync(path.join(FOLDER, file), 'utf8');
    for (const [, name] of text.matchAll(/require\('([^']+)'\)/g)) assert.match(name, /^(node:|\.\/)/, file);
  }
});

'use strict';
// Checks client.d.ts with a TypeScript compiler: usage.ts compiles, and in misuse.ts just the lines that end in "wrong" do not.
// Call it with the path of tsc. It exits with 1 if something is otherwise.

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const [tsc = 'tsc'] = process.argv.slice(2);

function complaints(project) {
  const { stdout, error } = spawnSync(tsc, ['--project', project, '--pretty', 'false'], {
    cwd: __dirname,
    encoding: 'utf8',
  });
  if (error) throw error;
  return stdout.trim();
}

const usage = complaints('tsconfig.json');
const misuse = complaints('misuse.json');
const found = [...misuse.matchAll(/^misuse\.ts\((\d+),/gm)].map(([, line]) => Number(line));
const lines = fs.readFileSync(path.join(__dirname, 'misuse.ts'), 'utf8').split('\n');
const wanted = lines.flatMap((line, index) => (line.endsWith('// wrong') ? [index + 1] : []));
const isGood = usage === '' && [...new Set(found)].join() === wanted.join() && !/^(?!misuse|\s)/m.test(misuse);
console.log(
  isGood ? `types: ${wanted.length} misuses found, no other complaint` : `${usage}\n${misuse}\nwanted: ${wanted}`,
);
process.exitCode = isGood ? 0 : 1;

'use strict';
// What a lock costs: an uncontended `withLock` against the two bare HTTP requests, over a kept connection each, turn by
// turn. Call it with DFLOCKD set. It prints medians and passes no judgement.

const http = require('node:http');
const { performance } = require('node:perf_hooks');
const { DistributedLockClient } = require('../client');
const { Stage } = require('./stage');

const ROUNDS = 2_000;
const WARM_UP = 500;

function bare(agent, url, body) {
  return new Promise((resolve, reject) => {
    const data = JSON.stringify(body);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(data) };
    const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      response.on('end', () => resolve(JSON.parse(text))).on('error', reject);
    });
    request.on('error', reject).end(data);
  });
}

function median(times) {
  return [...times].sort((one, other) => one - other)[Math.floor(times.length / 2)];
}

async function main() {
  const stage = new Stage();
  await stage.open();
  const { direct } = await stage.server();
  const client = new DistributedLockClient(direct);
  const agent = new http.Agent({ keepAlive: true });
  const ways = {
    async bare() {
      const url = `${direct}/locks/measure`;
      const { renewalToken } = await bare(agent, `${url}/acquire`, { clientId: 'bare', timeout: 30 });
      await bare(agent, `${url}/release`, { renewalToken });
    },
    withLock: () => client.withLock('measure', 30_000, () => {}),
  };
  const times = { bare: [], withLock: [] };
  for (let round = 0; round < WARM_UP + ROUNDS; round += 1) {
    for (const [name, way] of Object.entries(ways)) {
      const begun = performance.now();
      await way();
      if (round >= WARM_UP) times[name].push(performance.now() - begun);
    }
  }
  const [plain, scoped] = [median(times.bare), median(times.withLock)];
  console.log(`bare HTTP  ${plain.toFixed(3)} ms, median of ${ROUNDS}`);
  console.log(`withLock   ${scoped.toFixed(3)} ms`);
  console.log(`ratio      ${(scoped / plain).toFixed(2)}`);
  agent.destroy();
  await client.close();
  stage.close();
}

main();

// Uses of the client that must compile.
import { DistributedLockClient, LockLostError, LockTimeoutError, type LockStatus } from '../../client';

export async function uses(): Promise<void> {
  const client = new DistributedLockClient('http://localhost:5000', {
    token: 'x',
    ca: ['pem'],
    shard: (name, count) => name.length % count,
  });
  const lock = await client.acquire('user:123', 30000);
  const fence: bigint = lock.fence;
  const left: number = lock.remaining();
  const released: boolean = await lock.release();
  await lock.renew();
  await lock.renew(5_000);
  lock.signal.addEventListener('abort', () => console.log(fence, left, released));
  const tried = await client.tryAcquire('a', 1_000, { waitTimeout: Infinity, limit: 3, metadata: { job: 1 } });
  tried?.check();
  const length: number = await client.withLock('a', 1_000, async ({ lockId }) => lockId.length);
  const text: string = await client.withLock('a', 1_000, { autoRenew: true, maxHold: 60_000 }, () => `${length}`);
  {
    await using scoped = await client
      .actor('worker-7')
      .acquire('b', 1_000, {
        onLost: (error: LockLostError) => console.error(error.code, text),
        signal: new AbortController().signal,
      });
    scoped.check();
  }
  const statuses: LockStatus[] = [await client.status('a', { space: 'semaphore' })];
  for await (const status of client.locks({ prefix: 'a', pageSize: 1_000 })) statuses.push(status);
  const { locks } = await client.forceRelease('a', { lockId: lock.lockId });
  console.log(locks[0]?.clientId, (await client.stats())['activeLocks'], (await client.health(0)).uptime);
  try {
    await client.acquire('a');
  } catch (error) {
    if (error instanceof LockTimeoutError) console.log(error.reason, error.status);
    else throw error;
  }
  await client.close();
}

// Each line that ends in "wrong" must not compile; types.js checks that all of them, and no others, do not.
import { DistributedLock, DistributedLockClient, LockError } from '../../client';

export async function misuses(client: DistributedLockClient, lock: DistributedLock, error: LockError): Promise<void> {
  new DistributedLockClient(); // wrong
  new DistributedLockClient('http://a', { secret: 'x' }); // wrong
  new DistributedLock(); // wrong
  await client.acquire(7, 1_000); // wrong
  await client.acquire('a', '1000'); // wrong
  await client.acquire('a', 1_000, { waittimeout: 5 }); // wrong
  await client.acquire('a', 1_000, { limit: '3' }); // wrong
  (await client.tryAcquire('a', 1_000)).release(); // wrong
  await client.withLock('a', 1_000, { autoRenew: true }); // wrong
  const text: string = await client.withLock('a', 1_000, () => 7); // wrong
  const fence: number = lock.fence; // wrong
  lock.lockId = 'other'; // wrong
  lock.renewalToken; // wrong
  const released: boolean = lock.release(); // wrong
  error.code.length; // wrong
  for (const status of client.locks()) console.log(status); // wrong
  await client.status('a', { space: 'x' }); // wrong
  console.log(text, fence, released);
}

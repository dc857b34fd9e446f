// The same for `import`. Both forms share one module, so that an error is an instance of the same class in both.
import client from './client.js';

export const {
  DistributedLockClient,
  DistributedLock,
  LockError,
  LockTimeoutError,
  LockDeadlockError,
  LockLostError,
  LockNotHeldError,
  LockLimitMismatchError,
  LockDeniedError,
  LockUnavailableError,
  LockDrainingError,
  LockCapacityError,
  LockRequestError,
  LockServerError,
} = client;

"""A thin client of the lock server dflockd. `client.lock` is a lock for `with`; the README next to it is the manual."""

from ._aio import AsyncDistributedLock as AsyncDistributedLock
from ._aio import AsyncDistributedLockClient as AsyncDistributedLockClient
from ._core import LockCapacityError as LockCapacityError
from ._core import LockDeadlockError as LockDeadlockError
from ._core import LockDeniedError as LockDeniedError
from ._core import LockDrainingError as LockDrainingError
from ._core import LockError as LockError
from ._core import LockLimitMismatchError as LockLimitMismatchError
from ._core import LockLostError as LockLostError
from ._core import LockNotHeldError as LockNotHeldError
from ._core import LockOptions as LockOptions
from ._core import LockRequestError as LockRequestError
from ._core import LockServerError as LockServerError
from ._core import LockTimeoutError as LockTimeoutError
from ._core import LockUnavailableError as LockUnavailableError
from ._sync import DistributedLock as DistributedLock
from ._sync import DistributedLockClient as DistributedLockClient

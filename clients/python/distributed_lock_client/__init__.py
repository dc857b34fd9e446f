"""A thin client of the lock server dflockd. `client.lock` is a lock for `with`; the README next to it is the manual."""

from ._aio import AsyncDistributedLock as AsyncDistributedLock
from ._aio import AsyncDistributedLockClient as AsyncDistributedLockClient
from ._core import LockOptions as LockOptions
from ._errors import LockCapacityError as LockCapacityError
from ._errors import LockDeadlockError as LockDeadlockError
from ._errors import LockDeniedError as LockDeniedError
from ._errors import LockDrainingError as LockDrainingError
from ._errors import LockError as LockError
from ._errors import LockLimitMismatchError as LockLimitMismatchError
from ._errors import LockLostError as LockLostError
from ._errors import LockNotHeldError as LockNotHeldError
from ._errors import LockRequestError as LockRequestError
from ._errors import LockServerError as LockServerError
from ._errors import LockTimeoutError as LockTimeoutError
from ._errors import LockUnavailableError as LockUnavailableError
from ._sync import DistributedLock as DistributedLock
from ._sync import DistributedLockClient as DistributedLockClient

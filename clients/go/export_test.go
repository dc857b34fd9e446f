package distlock

import "time"

// Now is the clock of the deadlines, which the stage logs by, too.
var Now = now

// SetPollMax makes polls shorter, so that a test sees many.
func SetPollMax(c *DistributedLockClient, most time.Duration) { c.core.pollMax = most }

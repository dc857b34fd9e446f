//go:build !linux

package distlock

import "time"

func bootClock() (moment time.Duration, isKnown bool) { return 0, false }

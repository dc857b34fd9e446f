//go:build !linux

package distlock

import "time"

func now() time.Duration { return time.Since(began) }

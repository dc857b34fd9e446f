package distlock

import (
	"math"
	"time"
)

// never is a moment that does not come.
const never = time.Duration(math.MaxInt64)

// now is the time since an unknown moment. It goes on while the machine sleeps, where the system can tell: a lease does
// so, too, and time.Now does not.
var began = time.Now()

// later is moment + d, or never.
func later(moment, d time.Duration) time.Duration {
	if d > never-moment {
		return never
	}
	return moment + d
}

func clamp(d, least, most time.Duration) time.Duration {
	if d < least {
		return least
	}
	return shorter(d, most)
}

func shorter(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}

// seconds is a time as the server reads it, in whole milliseconds.
func seconds(d time.Duration) float64 { return math.Ceil(d.Seconds()*1000) / 1000 }

// duration is a time as the server writes it; what no clock reaches is cut.
func duration(seconds float64) time.Duration { return time.Duration(math.Min(seconds, 1e9) * 1e9) }

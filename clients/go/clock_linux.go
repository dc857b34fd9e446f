package distlock

import (
	"syscall"
	"time"
	"unsafe"
)

// bootClock is CLOCK_BOOTTIME of clock_gettime(2): the monotonic clock, but it counts the time in suspend.
func bootClock() (moment time.Duration, isKnown bool) {
	const clockBoottime = 7
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&t)), 0)
	return time.Duration(t.Nano()), errno == 0
}

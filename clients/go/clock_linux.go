package distlock

import (
	"syscall"
	"time"
	"unsafe"
)

// now is CLOCK_BOOTTIME of clock_gettime(2): the monotonic clock, but it counts the time in suspend.
func now() time.Duration {
	const clockBoottime = 7
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return time.Since(began)
	}
	return time.Duration(t.Nano())
}

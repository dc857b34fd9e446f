package distlock

import (
	"context"
	"strconv"
	"sync"
	"time"
)

// A timer stands still in suspend. A lock looks at the clock so often, to tell of its loss soon after it.
const tick = 500 * time.Millisecond

// Lock is a lock that was granted. All methods may be called by many goroutines.
type Lock struct {
	Name string
	// ID names this grant, as "lock-18a3f217b3c4d87f". It is public.
	ID string
	// ClientID is the name under which the server's status shows the holder.
	ClientID string
	// FencingToken has 16 hex digits and is greater than that of each earlier grant: give it to the storage that the lock
	// protects, so that it can refuse writers of the past. Fence is the same as a number.
	FencingToken string
	Fence        uint64

	hold *hold
}

// String is the name and the ID; a print that looked into a lock would race with its renewals.
func (l Lock) String() string { return l.Name + " (" + l.ID + ")" }

// Context ends when the lock is lost or released. Under Do it also ends with the context of Do.
func (l *Lock) Context() context.Context { return l.hold.ctx }

// Remaining is how long the lock is held for sure if no renewal succeeds any more. It is 0 if it is not held.
func (l *Lock) Remaining() time.Duration { return l.hold.remaining() }

// Err is nil while the lock is held, ErrLockLost if it was lost, and ErrLockNotHeld if it was released. It reads the
// clock, so it is right even just after the machine woke up.
func (l *Lock) Err() error { return l.hold.stateOr(nil) }

// Renew makes the lease end timeout from now, earlier or later than it would have; later renewals of AutoRenew do the
// same. After an error that is not ErrLockLost, the lock is still held for what Remaining says.
func (l *Lock) Renew(timeout time.Duration) error {
	if err := checkTimeout(timeout); err != nil {
		return err
	}
	return l.hold.renew(context.Background(), timeout)
}

// Release gives the lock back. The error is nil if the server confirmed that. It is ErrLockLost if the lock was lost
// before. After another one the lock ends with its lease. A second call sends nothing and returns the same.
func (l *Lock) Release() error { return l.hold.release(context.Background()) }

// hold is the hidden part of a lock.
type hold struct {
	errand
	core          *core
	owner         *owner
	lockID, token string // The token is the one for renewals, a secret.
	ended         object // the release
	lease         lease
	ctx           context.Context
	cancel        context.CancelFunc

	looks sync.Mutex
	timer *time.Timer // nil until the holder has the lock

	renewals  sync.Mutex // One at a time, or their order at the server would not be known.
	timeout   time.Duration
	hasFailed bool

	once     sync.Once
	released error
}

// watch begins to look after the lease. It is false if the client was closed meanwhile.
func (h *hold) watch() bool {
	h.core.mu.Lock()
	h.timer = time.AfterFunc(never, h.look)
	isClosed := h.owner.isEnded()
	if !isClosed {
		h.core.holds[h] = true
	}
	h.core.mu.Unlock()
	h.look()
	return !isClosed
}

// look does what is due for the lease, and comes again.
func (h *hold) look() {
	if h.timer == nil {
		return
	}
	h.looks.Lock()
	defer h.looks.Unlock()
	mustRenew, due := h.lease.next(now())
	if mustRenew {
		go h.renew(context.Background(), 0)
	}
	if due == never {
		h.forget()
		return
	}
	h.timer.Reset(shorter(due-now(), tick))
}

func (h *hold) forget() {
	h.timer.Stop()
	h.core.mu.Lock()
	defer h.core.mu.Unlock()
	delete(h.core.holds, h)
}

// renew asks for a new lease, within the time that the old one allows for that and until ctx ends. A timeout of 0 is
// AutoRenew's: the one of the last time, and not past MaxHold.
func (h *hold) renew(ctx context.Context, timeout time.Duration) error {
	h.renewals.Lock()
	defer h.renewals.Unlock()
	isAutomatic := timeout == 0
	if isAutomatic {
		timeout = h.timeout
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	asked := now()
	patience := h.lease.ask(timeout, asked, isAutomatic, stop)
	if patience == 0 {
		return h.stateOr(nil)
	}
	h.look() // The deadline may be earlier now.
	var answer lockAnswer
	r := request{what: h.what("renewal"), method: "POST", url: h.address + "/renew",
		body: object{"renewalToken": h.token, "timeout": seconds(timeout)}, isFresh: h.hasFailed,
		patience: patience, until: asked + patience, pauseMax: clamp(timeout/15, 50*time.Millisecond, never)}
	sent, isUncertain, err := h.core.repeat(ctx, r, &answer)
	if err == nil && (answer.LockID != h.lockID || answer.TTL <= 0) {
		err, isUncertain = nonsense(r.what, "it is no renewal of this lock"), true
	}
	h.hasFailed = err != nil
	ttl := time.Duration(0)
	if err == nil {
		h.timeout, ttl = timeout, shorter(duration(answer.TTL), timeout)
	} else if err.Kind == ErrLockNotHeld {
		ttl = gone
	}
	h.lease.answered(sent, timeout, ttl, now(), isUncertain)
	h.look()
	return h.stateOr(orNil(err))
}

// quit ends the lock for its holder. It is false if the lock was lost before.
func (h *hold) quit() bool {
	defer h.cancel()
	return h.lease.release(now())
}

func (h *hold) release(ctx context.Context) error {
	h.once.Do(func() {
		isHeld := h.quit()
		h.forget()
		if isHeld {
			h.released = h.confirm(ctx)
			return
		}
		h.released = h.stateOr(nil)
		// The server may have the lock for the rest of the lease.
		h.core.giveBack(h.owner, h.errand, h.ended)
	})
	return h.released
}

// confirm sends the release and waits for the answer.
func (h *hold) confirm(ctx context.Context) error {
	// A renewal that was on its way has been stopped; none follows.
	h.renewals.Lock()
	defer h.renewals.Unlock()
	var answer lockAnswer
	r := request{what: h.what("release"), method: "POST", url: h.address + "/release", body: h.ended,
		patience: answerPatience / 2, until: now() + answerPatience}
	_, isUncertain, err := h.core.repeat(ctx, r, &answer)
	if err == nil && (answer.Released == nil || !*answer.Released) {
		err = nonsense(r.what, "it does not say that the lock was released")
	}
	isGone := err != nil && err.Kind == ErrLockNotHeld
	h.lease.end(isGone && !isUncertain)
	switch {
	case isGone && isUncertain:
		return nil
	case isGone:
		return h.stateOr(nil)
	}
	return orNil(err)
}

// end sends a release of which nobody needs the answer.
func (core *core) end(address string, body object) {
	_, _, _ = core.repeat(context.Background(), request{method: "POST", url: address + "/release", body: body,
		patience: time.Second, until: now() + 3*time.Second}, &lockAnswer{})
}

func (h *hold) remaining() time.Duration {
	remaining, _ := h.lease.state(now())
	return remaining
}

// stateOr is the error of a lock that is not held, or err.
func (h *hold) stateOr(err error) error {
	remaining, isLost := h.lease.state(now())
	switch {
	case remaining > 0:
		return err
	case isLost:
		return &LockError{Kind: ErrLockLost, Detail: strconv.Quote(h.name)}
	}
	return &LockError{Kind: ErrLockNotHeld, Detail: strconv.Quote(h.name) + " was released"}
}

package distlock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

const (
	pollMax = 45 * time.Second // Proxies cut what is silent for 60 s.
	pollMin = 5 * time.Second
	// For so long the server keeps the place between two polls.
	keepPlace = 5 * time.Second
)

// Options are what a lock is acquired with besides its name and its lease.
type Options struct {
	// WaitTimeout is how long to wait for a lock that others hold. 0 tries once, Forever has no end.
	WaitTimeout time.Duration
	// AutoRenew renews the lease after each third of it, until the lock is released or lost.
	AutoRenew bool
	// MaxHold ends these renewals so long after the grant; the lock is then lost at the end of its lease. 0 is no end.
	MaxHold time.Duration
	// Limit makes the lock a semaphore: so many, 1 to 1,048,576, may hold it at a time, and all give the same limit. 0 is
	// a lock; a semaphore of the same name is another thing.
	Limit int
	// Metadata is an object for all who look at the lock's status: at most 4 KiB of JSON.
	Metadata map[string]interface{}
}

// Acquire gets the lock, for a lease of timeout: at least 100 ms, and at most what the server allows, by default 300 s.
// It tries once, or waits as WaitTimeout says. The errors are all of this package but ErrLockLost and ErrLockNotHeld.
func (c *DistributedLockClient) Acquire(name string, timeout time.Duration, options ...Options) (*Lock, error) {
	return c.AcquireContext(context.Background(), name, timeout, options...)
}

// AcquireContext is Acquire that gives up when ctx ends; nothing of it then stays at the server. For the lock that it
// returns, ctx has no meaning.
func (c *DistributedLockClient) AcquireContext(ctx context.Context, name string, timeout time.Duration,
	options ...Options) (*Lock, error) {
	lock, err := c.acquire(ctx, context.Background(), name, timeout, options)
	return lock, orNil(err)
}

// TryAcquire is Acquire without an ErrLockTimeout: if others hold the lock, ok is false and err is nil.
func (c *DistributedLockClient) TryAcquire(name string, timeout time.Duration,
	options ...Options) (lock *Lock, ok bool, err error) {
	lock, err = c.Acquire(name, timeout, options...)
	if errors.Is(err, ErrLockTimeout) {
		return nil, false, nil
	}
	return lock, err == nil, err
}

// Do runs fn under the lock and releases it. The context of fn ends with ctx and when the lock is lost. The error is
// that of Acquire or of fn; it is ErrLockLost if the lock was lost and fn had no error but that of its context.
func (c *DistributedLockClient) Do(ctx context.Context, name string, timeout time.Duration,
	fn func(ctx context.Context, lock *Lock) error, options ...Options) error {
	lock, failed := c.acquire(ctx, ctx, name, timeout, options)
	if failed != nil {
		return failed
	}
	defer lock.Release() // for panics
	err := fn(lock.Context(), lock)
	isOnlyTold := errors.Is(err, context.Canceled) && ctx.Err() == nil
	if errors.Is(lock.Release(), ErrLockLost) && (err == nil || isOnlyTold) {
		return &LockError{Kind: ErrLockLost, Detail: strconv.Quote(name), cause: err}
	}
	return err
}

// attempt is one wish for one lock, from the first poll to the grant or the end.
type attempt struct {
	errand
	Options
	core    *core
	owner   *owner
	timeout time.Duration
	asked   object // of the polls; the server knows repeats by the requestId, a secret
	sends   int    // with this requestId
	isOpen  bool   // The server may hold or queue something for it.
}

// lockAnswer is what acquire, release and renew answer.
type lockAnswer struct {
	LockID, LockName, ClientID, RenewalToken, FencingToken, Reason string
	Acquired, Released                                             *bool
	WaitTime, TTL                                                  float64
}

func (c *DistributedLockClient) acquire(ctx, parent context.Context, name string, timeout time.Duration,
	options []Options) (*Lock, *LockError) {
	a := &attempt{core: c.core, owner: c.owner, errand: errand{name: name}, timeout: timeout}
	var err *LockError
	if a.address, err = c.address(name); err != nil {
		return nil, err
	}
	if err = a.check(options); err != nil {
		return nil, err
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	c.core.begin(a, cancel)
	defer c.core.finish(a)
	lock, err := a.run(own, parent)
	if err != nil && a.isOpen {
		// This ends the attempt whether it waits or holds, and also if a request of it comes only later.
		c.core.giveBack(a.owner, a.errand, a.end(object{}))
	}
	if err != nil && own.Err() != nil && ctx.Err() == nil {
		err = closed()
	}
	return lock, err
}

func (a *attempt) check(options []Options) (err *LockError) {
	if a.Options, err = first(options); err != nil {
		return err
	}
	switch {
	case a.WaitTimeout < 0:
		return wrong("WaitTimeout: want 0 or more, or Forever, not %v", a.WaitTimeout)
	case a.MaxHold < 0:
		return wrong("MaxHold: want 0 or more, not %v", a.MaxHold)
	case a.Limit < 0 || a.Limit > 1<<20:
		return wrong("Limit: want 1 to 1048576, or 0 for a lock, not %d", a.Limit)
	}
	if a.MaxHold == 0 {
		a.MaxHold = never
	}
	a.asked = object{"timeout": seconds(a.timeout)}
	if a.Limit > 0 {
		a.asked["limit"] = a.Limit
	}
	if a.Metadata != nil {
		metadata, err := json.Marshal(a.Metadata)
		if err != nil {
			return wrong("Metadata: want what JSON can say")
		}
		a.asked["metadata"] = json.RawMessage(metadata)
	}
	return checkTimeout(a.timeout)
}

func checkTimeout(timeout time.Duration) *LockError {
	if timeout < 100*time.Millisecond || timeout == Forever {
		return wrong("timeout: want 100ms or more, and not Forever: AutoRenew is for long work")
	}
	return nil
}

// run polls until the lock is granted, the wait is over or ctx ends.
func (a *attempt) run(ctx, parent context.Context) (*Lock, *LockError) {
	a.draw()
	end, most := later(now(), a.WaitTimeout), a.core.pollMax
	var again pace
	var isFresh, isHeard bool
	var failed *LockError
	a.core.awaitReturn(ctx, a.errand)
	for ctx.Err() == nil {
		sent := now()
		poll, isLast := clamp(end-sent, 0, most), end-sent <= most
		// A repeat must not make the whole wait longer.
		patience := shorter(poll, end-sent) + answerPatience
		answer, err := a.poll(ctx, poll, patience, isLast, isFresh)
		took, status := now()-sent, 200
		if err == nil && *answer.Acquired {
			lock, err := a.granted(ctx, parent, sent, answer)
			if lock != nil || err != nil {
				return lock, err
			}
			answer.Reason, status = "late", 0
		}
		isFresh, isHeard = err != nil, isHeard || err == nil
		if err != nil && (ctx.Err() == nil || !err.isUncertain) {
			failed = err // and not by the end of ctx alone
		}
		var pause time.Duration
		switch {
		case ctx.Err() != nil: // So it ends here.
		case err != nil:
			// Without a server a try ends at once. A grant that may be there is worth more patience.
			last := end
			if err.isUncertain {
				last = later(end, answerPatience)
				if took >= time.Second {
					most = clamp(took*4/5, pollMin, a.core.pollMax)
				}
			}
			if !err.isRepeatable || now() >= last {
				return nil, err
			}
			pause = shorter(again.next(), last-now())
		case now() >= end:
			return nil, &LockError{Kind: ErrLockTimeout, Reason: answer.Reason, Status: status,
				Detail: fmt.Sprintf("%q after %v: %s", a.name, a.WaitTimeout, answer.Reason)}
		case took < poll/2:
			pause = again.next() // An early no is one to a delayed repeat.
		default:
			again = pace{}
		}
		if sleep(ctx, pause) && err != nil && now() >= later(end, answerPatience) {
			return nil, err
		}
	}
	if failed != nil && !isHeard && ctx.Err() == context.DeadlineExceeded {
		failed.cause = ctx.Err()
		return nil, failed
	}
	return nil, contextError(ctx.Err(), a.name)
}

// draw gives the attempt a new name, for which the server has nothing.
func (a *attempt) draw() {
	a.asked["clientId"], a.asked["requestId"] = a.clientID, fmt.Sprintf("%x", random(16))
	a.sends, a.isOpen = 0, false
}

// end makes a release end the attempt, too.
func (a *attempt) end(release object) object {
	release["clientId"], release["requestId"] = a.clientID, a.asked["requestId"]
	return release
}

// poll asks once. Its answer has Acquired.
func (a *attempt) poll(ctx context.Context, wait, patience time.Duration,
	isLast, isFresh bool) (lockAnswer, *LockError) {
	a.asked["waitTimeout"], a.asked["keepPlace"] = seconds(wait), seconds(keepPlace)
	if isLast {
		delete(a.asked, "keepPlace")
	}
	a.sends++
	var answer lockAnswer
	r := request{what: a.what("acquire"), method: "POST", url: a.address + "/acquire", body: a.asked, isFresh: isFresh,
		patience: patience}
	err := a.core.once(ctx, r, &answer)
	if err == nil && (answer.Acquired == nil || answer.LockName != a.name || answer.ClientID != a.clientID) {
		err = nonsense(r.what, "it does not say whether the lock was acquired")
	}
	answer.Reason = hide(answer.Reason, a.core.secrets(r))
	a.isOpen = a.isOpen || !isLast || err == nil && *answer.Acquired || err != nil && err.isUncertain
	return answer, err
}

// granted makes a lock of a grant. One that came too late to be of use is renewed, or else given back, and the attempt
// begins anew: there is then neither a lock nor an error.
func (a *attempt) granted(ctx, parent context.Context, sent time.Duration, answer lockAnswer) (*Lock, *LockError) {
	fence, err := strconv.ParseUint(answer.FencingToken, 16, 64)
	if err != nil || len(answer.FencingToken) != 16 || answer.LockID == "" || answer.RenewalToken == "" ||
		answer.TTL <= 0 {
		return nil, nonsense(a.what("acquire"), "it is a grant that lacks a part")
	}
	h := &hold{core: a.core, owner: a.owner, errand: a.errand, lockID: answer.LockID, token: answer.RenewalToken,
		timeout: a.timeout}
	h.ended = object{"renewalToken": h.token}
	if a.sends > 1 {
		a.end(h.ended) // One of them may come after the release.
	}
	h.ctx, h.cancel = context.WithCancel(parent)
	h.lease.tell, h.lease.isAutoRenewed, h.lease.renewEnd = h.cancel, a.AutoRenew, later(now(), a.MaxHold)
	h.lease.begin(sent, duration(answer.WaitTime), shorter(duration(answer.TTL), a.timeout), now())
	enough := (a.timeout - margin(a.timeout)) / 2
	if h.remaining() < enough {
		_ = h.renew(ctx, a.timeout) // The lease says how that went.
	}
	if h.remaining() >= enough && ctx.Err() == nil && h.watch() {
		a.isOpen = false
		return &Lock{a.name, h.lockID, a.clientID, answer.FencingToken, fence, h}, nil
	}
	h.quit()
	if ctx.Err() != nil {
		a.core.giveBack(a.owner, a.errand, h.ended)
	} else {
		// The next poll would wait for its own clientId, a deadlock for the server.
		a.core.end(a.address, h.ended)
	}
	a.draw()
	return nil, nil
}

// contextError is the error of a wait whose context ended.
func contextError(err error, name string) *LockError {
	result := &LockError{Kind: context.Canceled, cause: err, Detail: fmt.Sprintf("the wait for %q was given up", name)}
	if err == context.DeadlineExceeded {
		result.Kind, result.Reason = ErrLockTimeout, "timeout"
	}
	return result
}

// begin counts an acquire, which Close then can cancel. After Close it is cancelled at once.
func (core *core) begin(a *attempt, cancel func()) {
	core.mu.Lock()
	defer core.mu.Unlock()
	if a.owner.isEnded() {
		cancel()
	}
	a.owner.count(1)
	core.count++
	core.waits[a] = cancel
	if a.clientID = a.owner.id; a.clientID == "" {
		a.clientID = fmt.Sprintf("%s-%d", core.prefix, core.count)
	}
}

func (core *core) finish(a *attempt) {
	core.mu.Lock()
	defer core.mu.Unlock()
	delete(core.waits, a)
	core.rest(a.owner)
}

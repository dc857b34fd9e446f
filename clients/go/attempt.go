package distlock

import (
	"context"
	"encoding/hex"
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
func (c *DistributedLockClient) AcquireContext(ctx context.Context, name string, timeout time.Duration, options ...Options) (*Lock, error) {
	lock, err := c.acquire(ctx, context.Background(), name, timeout, options)
	if err != nil {
		return nil, err
	}
	return lock, nil
}

// TryAcquire is Acquire without a wait. If others hold the lock, ok is false and err is nil.
func (c *DistributedLockClient) TryAcquire(name string, timeout time.Duration, options ...Options) (lock *Lock, ok bool, err error) {
	once := append([]Options{}, options...)
	for i := range once {
		once[i].WaitTimeout = 0
	}
	lock, err = c.Acquire(name, timeout, once...)
	if errors.Is(err, ErrLockTimeout) {
		return nil, false, nil
	}
	return lock, err == nil, err
}

// Do runs fn under the lock and releases it. The context of fn ends with ctx and when the lock is lost. The error is
// that of Acquire or of fn; it is ErrLockLost if the lock was lost and fn had no error but that of its context.
func (c *DistributedLockClient) Do(ctx context.Context, name string, timeout time.Duration, fn func(ctx context.Context, lock *Lock) error, options ...Options) error {
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
	Options
	core          *core
	name, address string
	timeout       time.Duration
	metadata      json.RawMessage
	clientID      string
	requestID     string // The server knows repeats by this secret.
	sends         int    // with this requestID
	isOpen        bool   // The server may hold or queue something for it.
}

type acquireBody struct {
	ClientID    string          `json:"clientId"`
	RequestID   string          `json:"requestId"`
	Timeout     float64         `json:"timeout"`
	WaitTimeout float64         `json:"waitTimeout"`
	KeepPlace   float64         `json:"keepPlace,omitempty"`
	Limit       int             `json:"limit,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
}

// lockAnswer is what acquire, release and renew answer.
type lockAnswer struct {
	LockID, LockName, ClientID, RenewalToken, FencingToken, Reason string
	Acquired, Released                                             *bool
	WaitTime, TTL                                                  float64
}

func (c *DistributedLockClient) acquire(ctx, parent context.Context, name string, timeout time.Duration, options []Options) (*Lock, *LockError) {
	address, err := c.address(name)
	if err != nil {
		return nil, err
	}
	o, isClear := first(options)
	if !isClear {
		return nil, wrong("more than one Options")
	}
	a := &attempt{Options: o, core: c.core, name: name, address: address, timeout: timeout}
	if err := a.check(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx.Err(), name)
	}
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	if !c.core.begin(a, c.actor, cancel) {
		return nil, wrong("the client is closed, make another one")
	}
	defer c.core.finish(a)
	lock, err := a.run(own, parent)
	if err != nil && a.isOpen {
		// This ends the attempt whether it waits or holds, and also if a request of it comes only later.
		c.core.giveBack(errand{a.clientID, address}, releaseBody{ClientID: a.clientID, RequestID: a.requestID})
	}
	if err != nil && own.Err() != nil && ctx.Err() == nil {
		err = wrong("the client was closed, make another one")
	}
	return lock, err
}

func (a *attempt) check() *LockError {
	switch {
	case checkTimeout(a.timeout) != nil:
		return checkTimeout(a.timeout)
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
	if a.Metadata != nil {
		var err error
		if a.metadata, err = json.Marshal(a.Metadata); err != nil {
			return wrong("Metadata: want what JSON can say")
		}
	}
	return nil
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
	var isFresh bool
	if !a.core.isBack(ctx, errand{a.clientID, a.address}) {
		return nil, contextError(ctx.Err(), a.name)
	}
	for {
		sent := now()
		poll, isLast := clamp(end-sent, 0, most), end-sent <= most
		// A repeat must not make the whole wait longer.
		patience := shorter(poll, end-sent) + answerPatience
		answer, err := a.poll(ctx, poll, patience, isLast, isFresh)
		took := now() - sent
		if err == nil && *answer.Acquired {
			lock, err := a.granted(ctx, parent, sent, answer)
			if lock != nil || err != nil {
				return lock, err
			}
			answer.Reason = "late"
		}
		isFresh = err != nil
		var pause time.Duration
		switch {
		case ctx.Err() != nil:
			return nil, contextError(ctx.Err(), a.name)
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
			return nil, &LockError{Kind: ErrLockTimeout, Reason: answer.Reason,
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
}

// draw gives the attempt a new name, for which the server has nothing.
func (a *attempt) draw() { a.requestID, a.sends, a.isOpen = hex.EncodeToString(random(16)), 0, false }

// poll asks once. Its answer has Acquired.
func (a *attempt) poll(ctx context.Context, wait, patience time.Duration, isLast, isFresh bool) (lockAnswer, *LockError) {
	body := acquireBody{a.clientID, a.requestID, seconds(a.timeout), seconds(wait), 0, a.Limit, a.metadata}
	if !isLast {
		body.KeepPlace = seconds(keepPlace)
	}
	a.sends++
	var answer lockAnswer
	err := a.core.once(ctx, request{method: "POST", url: a.address + "/acquire", body: body, isFresh: isFresh,
		secrets: []string{a.requestID}, patience: patience}, &answer)
	if err == nil && (answer.Acquired == nil || answer.LockName != a.name || answer.ClientID != a.clientID) {
		err = nonsense("it does not say whether the lock was acquired")
	}
	a.isOpen = a.isOpen || !isLast || err == nil && *answer.Acquired || err != nil && err.isUncertain
	return answer, err
}

// granted makes a lock of a grant. One that came too late to be of use is renewed, or else given back, and the attempt
// begins anew: there is then neither a lock nor an error.
func (a *attempt) granted(ctx, parent context.Context, sent time.Duration, answer lockAnswer) (*Lock, *LockError) {
	fence, err := strconv.ParseUint(answer.FencingToken, 16, 64)
	if err != nil || len(answer.FencingToken) != 16 || answer.LockID == "" || answer.RenewalToken == "" || answer.TTL <= 0 {
		return nil, nonsense("it is a grant that lacks a part")
	}
	h := &hold{core: a.core, name: a.name, address: a.address, lockID: answer.LockID, clientID: a.clientID, timeout: a.timeout}
	body := releaseBody{RenewalToken: answer.RenewalToken}
	if a.sends > 1 {
		body.ClientID, body.RequestID = a.clientID, a.requestID
	}
	h.body = func() releaseBody { return body }
	h.ctx, h.cancel = context.WithCancel(parent)
	h.lease.tell, h.lease.isAutoRenewed, h.lease.renewEnd = h.cancel, a.AutoRenew, later(now(), a.MaxHold)
	h.lease.begin(sent, duration(answer.WaitTime), shorter(duration(answer.TTL), a.timeout), now())
	enough := (a.timeout - margin(a.timeout)) / 2
	remaining, _ := h.lease.state(now())
	if remaining < enough {
		_ = h.renew(ctx, a.timeout) // The lease says how that went.
		remaining, _ = h.lease.state(now())
	}
	if remaining >= enough && ctx.Err() == nil && h.watch() {
		a.isOpen = false
		return &Lock{a.name, h.lockID, a.clientID, answer.FencingToken, fence, h}, nil
	}
	h.quit()
	if ctx.Err() != nil {
		a.core.giveBack(errand{a.clientID, a.address}, body)
	} else {
		// The next poll would wait for its own clientId, a deadlock for the server.
		a.core.end(a.address, body)
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

// begin counts an acquire, which Close then can cancel. It is false after Close.
func (core *core) begin(a *attempt, actor string, cancel func()) bool {
	core.mu.Lock()
	defer core.mu.Unlock()
	if core.isClosed {
		return false
	}
	core.busy++
	core.count++
	core.waits[a] = cancel
	if a.clientID = actor; actor == "" {
		a.clientID = fmt.Sprintf("%s-%d", core.prefix, core.count)
	}
	return true
}

func (core *core) finish(a *attempt) {
	core.mu.Lock()
	defer core.mu.Unlock()
	delete(core.waits, a)
	core.rest()
}

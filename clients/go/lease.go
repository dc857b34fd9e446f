package distlock

import (
	"sync"
	"time"
)

type phase int

const (
	acquiring phase = iota
	held
	releasing
	ended
)

// How long an unanswered renewal may still be on its way to the server.
const doubtMax = time.Minute

// gone is the lease of a lock that the server does not know.
const gone = time.Duration(-1)

// lease is what a client knows of one lock that it was granted. It has no clock and no connection: each moment is an
// argument, so tests play them. Its invariants: the deadline is never after the end of the lease at the server, and a
// lease that was lost once stays so.
type lease struct {
	mu       sync.Mutex
	phase    phase
	deadline time.Duration // The holder has to have stopped by then.
	before   time.Duration // the deadline before the renewal that is on its way
	isLost   bool
	tell     func() // tells the holder that the lock is lost

	isAutoRenewed bool
	isRenewing    bool
	renewAt       time.Duration // the next renewal
	renewEnd      time.Duration // No such renewal is sent from then on.
	stop          func()        // ends the renewal that is on its way

	// A renewal without an answer can come to the server late, after a longer one, and shorten the lease again.
	doubt    time.Duration
	doubtEnd time.Duration
}

// margin is how much earlier than the lease its holder stops, for clocks that drift.
func margin(ttl time.Duration) time.Duration { return shorter(time.Second, ttl/10) }

// begin notes a grant: the server had the request no earlier than at `sent`, and ttl of lease are left after `waited`.
func (l *lease) begin(sent, waited, ttl, now time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase, l.doubt, l.stop = held, never, func() {}
	waited = shorter(waited, now-sent)
	l.move(sent+waited-waited/1000, ttl)
}

func (l *lease) move(start, ttl time.Duration) {
	l.deadline = later(start, ttl-margin(ttl))
	l.renewAt = never
	if l.isAutoRenewed {
		l.renewAt = start + ttl/3
	}
}

// next says whether to renew now, and when to ask again: never if the lock is not held any more.
func (l *lease) next(now time.Duration) (renew bool, due time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isHeld(now) {
		return false, never
	}
	if l.isRenewing || l.renewAt >= l.renewEnd || now >= l.renewEnd {
		return false, l.deadline
	}
	l.isRenewing = now >= l.renewAt
	return l.isRenewing, shorter(clamp(l.renewAt, now, never), l.deadline)
}

// ask is told before a renewal is sent. It says for how long that may take, 0 if it may not be sent. The server may
// have it and not be able to say so, and a shorter lease ends earlier than the one before.
func (l *lease) ask(timeout, now time.Duration, isAutomatic bool, stop func()) (patience time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	end := l.deadline
	if isAutomatic {
		end = shorter(end, l.renewEnd)
	}
	if !l.isHeld(now) || now >= end {
		l.isRenewing = false
		return 0
	}
	l.before, l.deadline = l.deadline, shorter(l.deadline, later(now, timeout-margin(timeout)))
	l.isRenewing, l.stop = true, stop
	return shorter(shorter(end, l.deadline)-now, clamp(timeout/6, 200*time.Millisecond, 5*time.Second))
}

// answered notes how a renewal fared that was sent at `sent`: ttl is 0 if it failed, gone if the server knows nothing of
// the lock. After the deadline that changes nothing. isUncertain: at least one sending of it had no answer.
func (l *lease) answered(sent, asked, ttl, now time.Duration, isUncertain bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isRenewing = false
	if now >= l.doubtEnd {
		l.doubt = never
	}
	if isUncertain {
		l.doubt, l.doubtEnd = shorter(l.doubt, asked), now+doubtMax
	}
	if ttl == 0 && !isUncertain && l.phase == held {
		l.deadline = l.before // It was never sent, or refused.
	}
	switch {
	case !l.isHeld(now):
	case ttl == gone:
		l.lose()
	case ttl > 0:
		l.move(sent, shorter(ttl, l.doubt))
	case l.isAutoRenewed:
		l.renewAt = now + clamp(asked/15, 50*time.Millisecond, never)
	}
}

// release notes that the holder is done. It is false if the lock was not held any more when it was first said.
func (l *lease) release(now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isHeld(now) {
		l.phase = releasing
		l.stop()
	}
	return l.phase == releasing
}

// end notes the answer to the release, or that there is none.
func (l *lease) end(isLost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase, l.isLost = ended, isLost
}

// state is how long the lock is held for sure, 0 if it is not, and whether it was lost.
func (l *lease) state(now time.Duration) (remaining time.Duration, isLost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isHeld(now) {
		remaining = l.deadline - now
	}
	return remaining, l.isLost
}

// isHeld notes the loss if nobody came by since the deadline.
func (l *lease) isHeld(now time.Duration) bool {
	if l.phase == held && now >= l.deadline {
		l.lose()
	}
	return l.phase == held
}

func (l *lease) lose() {
	l.phase, l.isLost = ended, true
	l.stop()
	l.tell()
}

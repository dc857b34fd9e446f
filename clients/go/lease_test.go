package distlock

import (
	"context"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

const ms = time.Millisecond

// granted is a lease that was asked for at 0 and counts how often its holder was told.
func granted(ttl time.Duration, isAutoRenewed bool, told *int) *lease {
	l := &lease{tell: func() { *told++ }, isAutoRenewed: isAutoRenewed, renewEnd: never}
	l.begin(0, 0, ttl, 0)
	return l
}

func TestLeaseEndsAMarginEarly(t *testing.T) {
	told := 0
	l := granted(time.Second, false, &told)
	if remaining, isLost := l.state(899 * ms); remaining != ms || isLost {
		t.Fatal(remaining, isLost)
	}
	if remaining, isLost := l.state(900 * ms); remaining != 0 || !isLost || told != 1 {
		t.Fatal(remaining, isLost, told)
	}
	// It is lost for good, and told once.
	l.answered(800*ms, time.Second, time.Second, 901*ms, false)
	if _, due := l.next(100 * ms); due != never || told != 1 || l.release(0) {
		t.Fatal(due, told)
	}
	if l = granted(time.Minute, false, &told); l.deadline != 59*time.Second {
		t.Fatal(l.deadline)
	}
}

func TestWaitCountsAlmostWhole(t *testing.T) {
	l := &lease{renewEnd: never}
	l.begin(10*time.Second, 20*time.Second, 10*time.Second, 31*time.Second)
	if l.deadline != 10*time.Second+19980*ms+9*time.Second {
		t.Fatal(l.deadline)
	}
	// A server cannot have waited for longer than the answer took.
	l.begin(10*time.Second, time.Hour, 10*time.Second, 11*time.Second)
	if l.deadline > 20*time.Second {
		t.Fatal(l.deadline)
	}
}

func TestRenewalIsDueAfterAThird(t *testing.T) {
	told := 0
	l := granted(3*time.Second, true, &told)
	if renew, due := l.next(999 * ms); renew || due != time.Second {
		t.Fatal(renew, due)
	}
	if renew, _ := l.next(time.Second); !renew {
		t.Fatal("it is due")
	}
	if renew, due := l.next(time.Second); renew || due != 2700*ms {
		t.Fatal("only one at a time", due)
	}
	if patience := l.ask(3*time.Second, time.Second, false, func() {}); patience != 500*ms {
		t.Fatal(patience)
	}
	l.answered(time.Second, 3*time.Second, 0, 1500*ms, true)
	if renew, due := l.next(1500 * ms); renew || due != 1700*ms {
		t.Fatal(renew, due)
	}
	l.ask(3*time.Second, 1700*ms, false, func() {})
	l.answered(1700*ms, 3*time.Second, 3*time.Second, 1800*ms, false)
	if _, due := l.next(1800 * ms); due != 2700*ms || l.deadline != 4400*ms {
		t.Fatal(due, l.deadline)
	}
	l.renewEnd = 2700 * ms
	if renew, due := l.next(2700 * ms); renew || due != 4400*ms {
		t.Fatal("not past the longest hold", due)
	}
}

func TestRenewalEndsWithTheLongestHold(t *testing.T) {
	told := 0
	l := granted(3*time.Second, true, &told)
	l.renewEnd = 1200 * ms
	l.next(time.Second)
	if patience := l.ask(3*time.Second, time.Second, true, func() {}); patience != 200*ms {
		t.Fatal(patience)
	}
	l.answered(time.Second, 3*time.Second, 0, 1200*ms, true)
	// One that was due earlier may have waited for another one.
	if patience := l.ask(3*time.Second, 1200*ms, true, func() {}); patience != 0 {
		t.Fatal(patience)
	}
	if patience := l.ask(3*time.Second, 1200*ms, false, func() {}); patience != 500*ms {
		t.Fatal("the holder may ask for more", patience)
	}
}

func TestHoldSendsNoLateRenewal(t *testing.T) {
	var count int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		atomic.AddInt32(&count, 1)
		w.WriteHeader(500)
	}))
	defer server.Close()
	told := 0
	h := &hold{core: NewDistributedLockClient(server.URL).core, errand: errand{address: server.URL}, timeout: time.Minute}
	h.lease.tell, h.lease.isAutoRenewed, h.lease.renewEnd = func() { told++ }, true, now()
	h.lease.begin(now(), 0, time.Minute, now())
	if err := h.renew(context.Background(), 0); err != nil || atomic.LoadInt32(&count) != 0 {
		t.Fatal(err, count)
	}
	if err := h.renew(context.Background(), time.Minute); err == nil || atomic.LoadInt32(&count) != 1 {
		t.Fatal(err, count)
	}
}

func TestRenewalThatIsNotSentOrRefusedLeavesTheLease(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(403)
		_, _ = w.Write([]byte(`{"code":"not-owner"}`))
	}))
	defer refusing.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	for url, code := range map[string]string{refusing.URL: "not-owner", gone.URL: "no-connection"} {
		h := &hold{core: NewDistributedLockClient(url).core, errand: errand{address: url}, timeout: time.Minute}
		h.lease.tell, h.lease.renewEnd = func() {}, never
		h.lease.begin(now(), 0, time.Minute, now())
		err, _ := h.renew(context.Background(), 3*time.Second).(*LockError)
		if err == nil || err.Code != code || h.remaining() < 30*time.Second {
			t.Fatal(err, h.remaining())
		}
	}
}

func TestReleaseStopsTheRenewal(t *testing.T) {
	told, stopped := 0, 0
	l := granted(3*time.Second, true, &told)
	l.next(time.Second)
	l.ask(3*time.Second, time.Second, false, func() { stopped++ })
	if !l.release(1100*ms) || stopped != 1 || l.phase != releasing {
		t.Fatal(stopped, l.phase)
	}
	l.answered(time.Second, 3*time.Second, 3*time.Second, 1200*ms, false)
	l.answered(time.Second, 3*time.Second, gone, 1200*ms, false)
	if renew, due := l.next(2 * time.Second); renew || due != never || l.ask(time.Second, 2*time.Second, false, nil) != 0 {
		t.Fatal("nothing follows a release")
	}
	l.end(false)
	if _, isLost := l.state(time.Hour); isLost || told != 0 || l.phase != ended {
		t.Fatal("released is not lost")
	}
}

func TestShorterRenewalCountsFromItsSend(t *testing.T) {
	told := 0
	l := granted(30*time.Second, false, &told)
	l.ask(2*time.Second, time.Second, false, func() {})
	if l.deadline != 2800*ms {
		t.Fatal(l.deadline)
	}
	// Without an answer it may come to the server after the next one, which is longer.
	l.answered(time.Second, 2*time.Second, 0, 1500*ms, true)
	l.ask(30*time.Second, 2*time.Second, false, func() {})
	l.answered(2*time.Second, 30*time.Second, 30*time.Second, 2100*ms, false)
	if l.deadline != 3800*ms {
		t.Fatal(l.deadline)
	}
}

func TestRenewalThatWasNotCarriedOutChangesNothing(t *testing.T) {
	told := 0
	l := granted(30*time.Second, false, &told)
	if patience := l.ask(200*ms, time.Second, false, func() {}); patience != 180*ms {
		t.Fatal("it goes on past the deadline that it brings", patience)
	}
	l.answered(time.Second, 200*ms, 0, 1170*ms, false)
	if l.deadline != 29*time.Second {
		t.Fatal(l.deadline)
	}
	// One that may come to the server counts.
	l.ask(2*time.Second, 2*time.Second, false, func() {})
	l.answered(2*time.Second, 2*time.Second, 0, 3*time.Second, true)
	if l.deadline != 3800*ms {
		t.Fatal(l.deadline)
	}
}

// world is a server, a network and a suspend that are played.
type world struct {
	random             *rand.Rand
	now                time.Duration
	events             []event
	leaseEnd           time.Duration
	serverStop         time.Duration
	suspend, resume    time.Duration
	fastness           float64 // of the server's clock
	lease              *lease
	timeout            time.Duration
	toldAt             time.Duration
	isRenewing         bool
	renewals, failures int
}

type event struct {
	at       time.Duration
	isClient bool // A suspend holds it up.
	do       func()
}

func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.random.Int63n(int64(d) + 1))
}

func (w *world) plan(at time.Duration, isClient bool, do func()) {
	if isClient && at >= w.suspend && at < w.resume {
		at = w.resume + w.upTo(10*ms)
	}
	w.events = append(w.events, event{at, isClient, do})
}

// renew plays one renewal, of which the request, the answer or both may be late or lost.
func (w *world) renew(timeout time.Duration) {
	stop := func() {}
	sent := w.now
	patience := w.lease.ask(timeout, sent, false, stop)
	if patience == 0 {
		return
	}
	w.isRenewing = true
	w.look() // The deadline may be earlier now.
	w.renewals++
	there, back := w.upTo(timeout/50), w.upTo(timeout/50)
	switch w.random.Intn(5) {
	case 0:
		there += w.upTo(30 * time.Second)
	case 1:
		back += w.upTo(30 * time.Second)
	}
	isLost := w.random.Intn(6) == 0
	var answered bool
	w.plan(sent+there, false, func() {
		if w.now < w.serverStop && w.now < w.leaseEnd && !isLost {
			w.leaseEnd = w.now + time.Duration(float64(timeout)/w.fastness)
			answered = true
		}
	})
	w.plan(shorter(sent+there+back, sent+patience), true, func() {
		w.isRenewing = false
		ttl := timeout
		if !answered || there+back > patience {
			ttl = 0
			w.failures++
		}
		if ttl > 0 {
			w.timeout = timeout
		}
		w.lease.answered(sent, timeout, ttl, w.now, ttl == 0)
		w.look()
	})
}

// look is what the timer of a lock does.
func (w *world) look() {
	renew, due := w.lease.next(w.now)
	if renew {
		w.renew(w.timeout)
	}
	if due != never {
		w.plan(clamp(due, w.now, w.now+tick)+w.upTo(w.timeout/50), true, w.look)
	}
}

// play ends with the loss.
func (w *world) play(t *testing.T, seed int) {
	for w.toldAt == 0 {
		next := 0
		for i := range w.events {
			if w.events[i].at < w.events[next].at {
				next = i
			}
		}
		event := w.events[next]
		w.events = append(w.events[:next], w.events[next+1:]...)
		w.now = event.at
		if event.isClient && w.now >= w.leaseEnd {
			// The holder may ask in this moment, before any timer.
			if remaining, _ := w.lease.state(w.now); remaining > 0 {
				t.Fatalf("seed %d: held for %v more at %v, the lease ended at %v", seed, remaining, w.now, w.leaseEnd)
			}
		}
		event.do()
	}
	isAsleep := w.leaseEnd >= w.suspend && w.leaseEnd <= w.resume+20*ms
	if w.toldAt >= w.leaseEnd && !(isAsleep && w.toldAt <= w.resume+time.Second) {
		t.Fatalf("seed %d: told at %v, the lease ended at %v", seed, w.toldAt, w.leaseEnd)
	}
}

func TestThousandPlayedLossesAreTold(t *testing.T) {
	t.Parallel()
	renewals, failures, suspends := 0, 0, 0
	for seed := 0; seed < 1000; seed++ {
		random := rand.New(rand.NewSource(int64(seed)))
		w := &world{random: random, now: time.Hour, fastness: 1 + random.Float64()/2000}
		w.timeout = 100*ms + w.upTo([]time.Duration{time.Second, 10 * time.Second, time.Minute}[random.Intn(3)])
		w.serverStop = w.now + w.upTo(20*w.timeout)
		if random.Intn(2) == 0 {
			w.suspend = w.now + w.upTo(5*w.timeout)
			w.resume = w.suspend + w.upTo(3*w.timeout)
		}
		w.lease = &lease{isAutoRenewed: random.Intn(4) > 0, renewEnd: never, tell: func() { w.toldAt = w.now }}
		waited, there := w.upTo(10*w.timeout), w.upTo(w.timeout/20)
		sent := w.now - there - waited
		w.leaseEnd = w.now + time.Duration(float64(w.timeout)/w.fastness)
		w.lease.begin(sent, time.Duration(float64(waited)*w.fastness), w.timeout, w.now)
		w.look()
		// Now and then the holder names another timeout.
		for i := random.Intn(4); i > 0; i-- {
			w.plan(w.now+w.upTo(5*w.timeout), true, func() {
				if !w.isRenewing {
					w.renew(100*ms + w.upTo(2*w.timeout))
				}
			})
		}
		w.play(t, seed)
		renewals, failures = renewals+w.renewals, failures+w.failures
		if w.toldAt > w.resume && w.resume > 0 {
			suspends++
		}
	}
	t.Logf("%d renewals, of which %d failed, and %d suspends", renewals, failures, suspends)
	if renewals < 1000 || failures < 1000 || suspends < 100 {
		t.Fatal("too little was played")
	}
}

package distlock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	. "distlock"
)

func Test05DeadlineCountsFromTheSend(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	// The margin of this lease is 1 s, so a machine that stands still may be that late.
	atBest(t, 10*time.Second, func() time.Duration {
		s.order(object{"do": "delay", "seconds": 1, "match": "/acquire"})
		lock := s.acquire(s.client(), "k", 10*time.Second)
		deadline := Now() + lock.Remaining()
		// On a busy machine the grant may be so late that it was renewed.
		asked := s.requests("")
		sent := asked[len(asked)-1].at()
		if early := sent + 9*time.Second - deadline; early < 0 || early > 3*time.Second {
			t.Fatal(early)
		}
		lost := lossOf(t, lock, 20*time.Second)
		if !errors.Is(lock.Err(), ErrLockLost) || lock.Remaining() != 0 {
			t.Fatal(lock.Err())
		}
		// The server's own end of the lease is later.
		return lost - sent
	})
}

func Test06GrantAfterItsLeaseIsNotHandedOut(t *testing.T) {
	t.Parallel()
	late := object{"do": "delay", "seconds": 2.3, "match": "/acquire"}
	stale := object{"do": "delay", "seconds": 4.6, "match": "/acquire"}
	t.Run("try", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		s.order(late)
		_, ok, err := s.client().TryAcquire("k", 2*time.Second)
		if ok || err != nil {
			t.Fatal(ok, err)
		}
	})
	t.Run("once", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		s.order(late)
		_, err := s.client().Acquire("k", 2*time.Second)
		var detail *LockError
		if !errors.As(err, &detail) || detail.Reason != "late" {
			t.Fatal(err)
		}
	})
	t.Run("wait", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		s.order(stale)
		// The server must not see a client that waits for itself.
		s.order(object{"do": "hold", "seconds": 0.5, "match": "/release"})
		s.order(object{"do": "say", "match": "/renew", "answer": "HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n"})
		lock := s.acquire(s.client(), "k", 8*time.Second, Options{WaitTimeout: 20 * time.Second})
		if lock.Err() != nil || lock.Remaining() < 3*time.Second {
			t.Fatal(lock.Remaining())
		}
		asked := s.requests("/acquire")
		if len(asked) < 2 || asked[0].Body["requestId"] == asked[1].Body["requestId"] {
			t.Fatal(asked)
		}
	})
	// A grant that is old but not over is renewed first.
	t.Run("old", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		s.order(object{"do": "delay", "seconds": 8, "match": "/acquire"})
		lock := s.acquire(s.client(), "k", 16*time.Second)
		renewals := s.requests("/renew")
		if len(renewals) == 0 || Now()+lock.Remaining() < renewals[0].at()+12*time.Second {
			t.Fatal(renewals, lock.Remaining())
		}
	})
}

func Test07ShortLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	// It is lost if the machine stands still for more than half a second.
	atBest(t, 0, func() time.Duration { return missingOfShortLease(t) })
}

// missingOfShortLease is for how much of 5 s a lease of 1 s was lost.
func missingOfShortLease(t *testing.T) time.Duration {
	s := startServer(t)
	lock := s.acquire(s.client(), "k", time.Second, Options{AutoRenew: true, WaitTimeout: 20 * time.Second})
	id, token := lock.ID, lock.FencingToken
	select {
	case <-lock.Context().Done():
		return 5 * time.Second
	case <-time.After(5 * time.Second):
	}
	holders := s.status("k").Holders
	if lock.Release() != nil {
		return 5 * time.Second
	}
	if len(holders) != 1 || holders[0].LockID != id || id != "lock-"+token || lock.ID != id || lock.FencingToken != token {
		t.Fatal(holders, lock)
	}
	return 0
}

func Test08SilentServerLosesTheLockInTime(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"stop", "swallow"} {
		how := how
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			// The margin of this lease is 1 s, so a machine that stands still may be that late.
			atBest(t, 10*time.Second, func() time.Duration { return lossUnder(t, how) })
		})
	}
}

// lossUnder is how long after the last good send the loss of a lock of 10 s is told, if the server falls silent.
func lossUnder(t *testing.T, how string) time.Duration {
	s := startServer(t)
	lock := s.acquire(s.client(), "k", 10*time.Second, Options{AutoRenew: true})
	eventually(t, 60*time.Second, "a renewal", func() bool { return len(s.requests("/renew")) > 0 })
	if how == "stop" {
		s.signal("STOP")
	} else {
		s.order(object{"do": "swallow", "times": nil})
	}
	lost := lossOf(t, lock, 20*time.Second)
	if !errors.Is(lock.Err(), ErrLockLost) {
		t.Fatal(lock.Err())
	}
	began := Now()
	if err := lock.Release(); !errors.Is(err, ErrLockLost) || Now()-began > 3*time.Second {
		t.Fatal(err, Now()-began)
	}
	var answered logged
	for _, request := range s.requests("") {
		if request.Status != nil {
			answered = request
		}
	}
	return lost - answered.at()
}

func Test09EmptyServerLosesTheLockAtTheFirstRenewal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	lock := s.acquire(s.client(), "k", 9*time.Second, Options{AutoRenew: true})
	s.restart()
	lost := lossOf(t, lock, 20*time.Second)
	for _, request := range s.requests("/renew") {
		if request.Status != nil && *request.Status != 409 {
			t.Fatal(*request.Status)
		}
	}
	asked := s.requests("/acquire")
	// It is not the deadline that ended it.
	if took := lost - asked[len(asked)-1].at(); took > 7*time.Second || !errors.Is(lock.Err(), ErrLockLost) {
		t.Fatal(took, lock.Err())
	}
}

func Test10ForcedReleaseIsTold(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := s.client()
	for _, body := range []error{nil, context.Canceled, errors.New("the body's")} {
		s.forgetRequests()
		err := client.Do(context.Background(), "k", 12*time.Second, func(ctx context.Context, lock *Lock) error {
			// The renewal is due in 1 s then, and a third of the lease and 1 s are 5 s.
			time.Sleep(3 * time.Second)
			evicted, err := client.ForceRelease(ctx, "k")
			s.check(err)
			if len(evicted) != 1 || evicted[0].LockID != lock.ID {
				t.Error(evicted)
			}
			forced := s.requests("/locks/k")[0].at()
			if lost := lossOf(t, lock, 20*time.Second); lost > forced+5*time.Second {
				t.Error(lost - forced)
			}
			return body
		}, Options{AutoRenew: true})
		if body != nil && body != context.Canceled {
			if err != body {
				t.Fatal(err)
			}
		} else if !errors.Is(err, ErrLockLost) || body != nil && !errors.Is(err, body) {
			t.Fatal(err)
		}
	}
	// The loss is also told if only the release hears of it.
	err := client.Do(context.Background(), "k", 30*time.Second, func(ctx context.Context, lock *Lock) error {
		_, err := client.ForceRelease(ctx, "k", OnlyLock(lock.ID))
		return err
	})
	if !errors.Is(err, ErrLockLost) {
		t.Fatal(err)
	}
	ctx := context.Background()
	if _, err = client.ForceRelease(ctx, "k"); !errors.Is(err, ErrLockNotHeld) {
		t.Fatal(err)
	}
	// The end of a kept connection is none of a request.
	before := s.requests("")
	s.acquire(client, "k", 30*time.Second)
	_, err = client.ForceRelease(ctx, "k")
	s.check(err)
	all := s.requests("")
	for _, request := range before {
		if request.Connection == all[len(all)-1].Connection {
			t.Fatal("it came over a connection from before")
		}
	}
	// It is sent once, and repeated if it can only end the hold that it names.
	s.acquire(client, "k", 30*time.Second)
	s.forgetRequests()
	s.order(object{"do": "cut", "at": 0, "match": "DELETE"})
	if _, err = client.ForceRelease(ctx, "k"); codeOf(err) != "no-answer" || len(s.requests("")) != 1 ||
		!strings.HasPrefix(err.Error(), `distlock: forced release of "k": `) {
		t.Fatal(err, s.requests(""))
	}
	lock := s.acquire(client, "k", 30*time.Second)
	s.order(object{"do": "cut", "at": 0, "match": "DELETE"})
	evicted, err := client.ForceRelease(ctx, "k", OnlyLock(lock.ID))
	if err != nil || len(evicted) != 1 || evicted[0].LockID != lock.ID || s.status("k").Locked {
		t.Fatal(evicted, err)
	}
	if _, err = client.ForceRelease(ctx, "k", OnlyLock(lock.ID)); !errors.Is(err, ErrLockNotHeld) {
		t.Fatal(err)
	}
}

func Test11RenewalSurvivesFailures(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	good := func() (count int) {
		for _, request := range s.requests("/renew") {
			if request.Status != nil && *request.Status == 200 {
				count++
			}
		}
		return count
	}
	s.order(object{"do": "cut", "at": 0, "match": "/renew", "times": 2})
	s.order(object{"do": "say", "match": "/renew", "answer": "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry"})
	lock := s.acquire(s.client(), "k", 8*time.Second, Options{AutoRenew: true})
	eventually(t, 60*time.Second, "a renewal after the failures", func() bool { return good() > 0 })
	if tries := len(s.requests("/renew")); tries < 4 {
		t.Fatal(tries)
	}
	before := good()
	s.refuse(4)
	eventually(t, 60*time.Second, "a renewal after the refusals", func() bool { return good() > before })
	s.check(lock.Err())
	if holders := s.status("k").Holders; len(holders) != 1 || holders[0].LockID != lock.ID {
		t.Fatal(holders)
	}
	for _, request := range s.requests("") {
		if _, isThere := request.Body["autoRenew"]; isThere || request.Body["timeout"] != 8.0 {
			t.Fatal("the server would keep the lock of a dead client", request.Body)
		}
	}
	s.check(lock.Release())
}

func Test15LostReleaseAnswerIsARelease(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := s.client()
	s.order(object{"do": "cut", "at": 0, "match": "/release"})
	lock := s.acquire(client, "k", 30*time.Second)
	s.check(lock.Release())
	if s.status("k").Locked || !errors.Is(lock.Err(), ErrLockNotHeld) || lock.Context().Err() == nil {
		t.Fatal(lock.Err())
	}
	sent := len(s.requests(""))
	s.check(lock.Release())
	if err := lock.Renew(time.Second); !errors.Is(err, ErrLockNotHeld) {
		t.Fatal(err)
	}
	if len(s.requests("")) != sent {
		t.Fatal("a second release sent something")
	}
	// The acquire was answered at once, so its name is not sent again; a repeated one is ended by name, too.
	if s.requests("/release")[0].Body["requestId"] != nil {
		t.Fatal("the name of the attempt was sent")
	}
	s.forgetRequests()
	s.order(object{"do": "cut", "at": 0, "match": "/acquire"})
	s.check(s.acquire(client, "k", 30*time.Second).Release())
	if body := s.requests("/release")[0].Body; body["requestId"] != s.requests("/acquire")[0].Body["requestId"] {
		t.Fatal("the name of the attempt was not sent")
	}
	// What nobody confirms is an error, and not a loss.
	lock = s.acquire(client, "k", 30*time.Second)
	s.order(object{"do": "say", "match": "/release", "answer": "HTTP/1.1 500 Sorry\r\nContent-Length: 0\r\n\r\n"})
	if err := lock.Release(); !errors.Is(err, ErrLockServer) || errors.Is(err, ErrLockLost) {
		t.Fatal(err)
	}
}

func Test16NoRenewalFollowsTheEnd(t *testing.T) {
	t.Parallel()
	lastRenewal := func(s *server) time.Duration {
		renewals := s.requests("/renew")
		if len(renewals) == 0 {
			s.t.Fatal("there was no renewal at all")
		}
		return renewals[len(renewals)-1].at()
	}
	t.Run("release", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		// The release comes while a renewal is on its way.
		s.order(object{"do": "delay", "seconds": 0.3, "match": "/renew", "times": nil})
		lock := s.acquire(s.client(), "k", 6*time.Second, Options{AutoRenew: true})
		eventually(t, 60*time.Second, "a renewal", func() bool { return len(s.requests("/renew")) > 0 })
		s.check(lock.Release())
		time.Sleep(3 * time.Second)
		if late := lastRenewal(s) - s.requests("/release")[0].at(); late > 0 {
			t.Fatal(late)
		}
		if !errors.Is(lock.Err(), ErrLockNotHeld) || s.status("k").Locked {
			t.Fatal(lock.Err())
		}
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		s.order(object{"do": "say", "match": "/renew", "times": nil,
			"answer": "HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n"})
		lock := s.acquire(s.client(), "k", 6*time.Second, Options{AutoRenew: true})
		deadline := Now() + lock.Remaining()
		lossOf(t, lock, 20*time.Second)
		if err := lock.Renew(time.Second); !errors.Is(err, ErrLockLost) {
			t.Fatal(err)
		}
		// What was sent before the deadline may come to the stage a little later.
		time.Sleep(3 * time.Second)
		if count := len(s.requests("/renew")); lastRenewal(s) > deadline+1500*time.Millisecond || count < 2 {
			t.Fatal(count, lastRenewal(s)-deadline)
		}
	})
	t.Run("max_hold", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		// A renewal would be due each 3 s, so none is near the end.
		lock := s.acquire(s.client(), "k", 9*time.Second, Options{AutoRenew: true, MaxHold: 4500 * time.Millisecond})
		granted := Now()
		lossOf(t, lock, 30*time.Second)
		if late := lastRenewal(s) - granted; late < time.Second || late > 5500*time.Millisecond {
			t.Fatal(late)
		}
	})
}

func Test17FencesRise(t *testing.T) {
	heavy(t)
	s := startServer(t)
	client := s.client(ClientOptions{ClientID: "a"})
	var last uint64
	var text string
	for i := 0; i < 50; i++ {
		lock := s.acquire(client, "k", 30*time.Second)
		if lock.Fence <= last || lock.FencingToken <= text || fmt.Sprintf("%016x", lock.Fence) != lock.FencingToken ||
			lock.Fence < 1<<53 || s.status("k").Holders[0].LockID != "lock-"+lock.FencingToken {
			t.Fatal(lock, last)
		}
		last, text = lock.Fence, lock.FencingToken
		s.check(lock.Release())
	}
	body := `{"lockId":"lock-ffffffffffffffff","lockName":"k","clientId":"a","acquired":true,"waitTime":0,"ttl":30,` +
		`"renewalToken":"x","fencingToken":"ffffffffffffffff"}`
	s.order(object{"do": "say", "match": "/acquire", "answer": fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)})
	if lock := s.acquire(client, "k", 30*time.Second); lock.Fence != 1<<64-1 {
		t.Fatal(lock.Fence)
	}
}

func Test19MetadataAndNamesComeBack(t *testing.T) {
	heavy(t)
	s := startServer(t)
	client := s.client()
	for _, name := range []string{"user:123", "a/b", "ü", "100%&?#+;=~", strings.Repeat("x", 256)} {
		lock := s.acquire(client, name, 30*time.Second, Options{Metadata: object{"name": name, "n": 1}})
		status, err := client.Status(context.Background(), name)
		s.check(err)
		if lock.Name != name || status.LockName != name || !status.Locked || len(status.Holders) != 1 ||
			status.Holders[0].ClientID != lock.ClientID {
			t.Fatal(status)
		}
		if metadata := string(status.Holders[0].Metadata); !strings.Contains(metadata, fmt.Sprintf(`"n":1,"name":%s`, quoted(name))) {
			t.Fatal(metadata)
		}
		s.check(lock.Renew(20 * time.Second))
		s.check(lock.Release())
	}
	if path := s.requests("/status")[0].Path; strings.TrimSuffix(path, "?") != "/locks/user:123/status" {
		t.Fatal(path)
	}
}

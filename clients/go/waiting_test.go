package distlock_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	. "distlock"
)

func Test02TryOnAHeldLockEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.acquire(s.client(), "k", 30*time.Second)
	client := s.client()
	atBest(t, 500*time.Millisecond, func() time.Duration {
		began := Now()
		lock, ok, err := client.TryAcquire("k", 30*time.Second)
		if lock != nil || ok || err != nil {
			t.Fatal(lock, ok, err)
		}
		return Now() - began
	})
	_, err := client.Acquire("k", 30*time.Second)
	var detail *LockError
	if !errors.Is(err, ErrLockTimeout) || !errors.As(err, &detail) || detail.Reason != "timeout" || detail.Code != "" ||
		detail.Status != 200 {
		t.Fatal(err)
	}
	if waiters := s.status("k").Waiters; waiters != 0 {
		t.Fatal(waiters)
	}
}

func Test03WaitersKeepTheirOrderOverFivePolls(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	lock := s.acquire(s.directly(), "k", 30*time.Second)
	var all sync.WaitGroup
	order := make(chan int, 3)
	polls := func(id string) (count int) {
		for _, request := range s.requests("/acquire") {
			if request.Body["clientId"] == id {
				count++
			}
		}
		return count
	}
	ids := []string{"first", "second", "third"}
	for i, id := range ids {
		client := s.client(ClientOptions{ClientID: id})
		SetPollMax(client, 300*time.Millisecond)
		all.Add(1)
		go func(i int) {
			defer all.Done()
			lock, err := client.Acquire("k", 30*time.Second, Options{WaitTimeout: 20 * time.Second})
			if err != nil {
				t.Error(err)
				order <- -1
			} else if order <- i; lock.Release() != nil {
				t.Error(i)
			}
		}(i)
		eventually(t, 30*time.Second, "it waits", func() bool { return s.status("k").Waiters == i+1 })
	}
	for _, id := range ids {
		eventually(t, 60*time.Second, "five polls", func() bool { return polls(id) > 5 })
	}
	s.check(lock.Release())
	for want := range ids {
		if got := <-order; got != want {
			t.Fatalf("%d was served before %d", got, want)
		}
	}
	all.Wait()
	for _, request := range s.requests("/acquire") {
		if request.Body["keepPlace"] != 5.0 {
			t.Fatal(request.Body)
		}
	}
}

func Test04WaitEndsInTimeAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	lock := s.acquire(s.directly(), "k", 30*time.Second)
	client := s.client()
	atBest(t, 2*time.Second, func() time.Duration {
		began := Now()
		_, err := client.Acquire("k", 30*time.Second, Options{WaitTimeout: 1500 * time.Millisecond})
		took := Now() - began
		if !errors.Is(err, ErrLockTimeout) || took < 1400*time.Millisecond {
			t.Fatal(err, took)
		}
		return took
	})
	if status := s.status("k"); status.Waiters != 0 || len(status.Holders) != 1 {
		t.Fatal(status)
	}
	s.check(lock.Release())
	if status := s.status("k"); status.Locked || status.Waiters != 0 {
		t.Fatal(status)
	}
}

func Test04TryAcquireWaitsIfToldTo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	lock := s.acquire(s.directly(), "k", 30*time.Second)
	began := Now()
	wait := Options{WaitTimeout: 300 * time.Millisecond}
	_, ok, err := s.client().TryAcquire("k", 30*time.Second, wait)
	if ok || err != nil || Now()-began < 300*time.Millisecond {
		t.Fatal(ok, err, Now()-began)
	}
	s.check(lock.Release())
}

func TestRepeatedPollEndsWithTheFirstOne(t *testing.T) {
	t.Parallel()
	polls := make(chan int, 1)
	polls <- 1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		select {
		case <-polls:
			time.Sleep(4 * time.Second)
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	client := closing(t, NewDistributedLockClient(server.URL))
	began := Now()
	_, err := client.Acquire("k", 30*time.Second)
	if took := Now() - began; !errors.Is(err, ErrLockUnavailable) || took > 7*time.Second {
		t.Fatal(err, took)
	}
}

func Test13CancelledWaitLeavesNoWaiter(t *testing.T) {
	t.Parallel()
	for _, hides := range []bool{false, true} {
		hides := hides
		t.Run(fmt.Sprint(hides), func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			s.acquire(s.directly(), "k", 30*time.Second)
			if hides {
				s.order(object{"do": "hide", "match": "/acquire", "times": nil})
			}
			client := s.client()
			atBest(t, time.Second, func() time.Duration {
				ctx, cancel := context.WithCancel(context.Background())
				result := make(chan error)
				go func() {
					_, err := client.AcquireContext(ctx, "k", 30*time.Second, Options{WaitTimeout: Forever})
					result <- err
				}()
				eventually(t, 30*time.Second, "it waits", func() bool { return s.status("k").Waiters == 1 })
				cancel()
				began := Now()
				if err := <-result; !errors.Is(err, context.Canceled) || errors.Is(err, ErrLockTimeout) || codeOf(err) != "" {
					t.Fatal(err)
				}
				eventually(t, 30*time.Second, "nobody waits", func() bool { return s.status("k").Waiters == 0 })
				return Now() - began
			})
		})
	}
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		s.acquire(s.directly(), "k", 30*time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		err := s.client().Do(ctx, "k", 30*time.Second, nil, Options{WaitTimeout: Forever})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrLockTimeout) {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, "nobody waits", func() bool { return s.status("k").Waiters == 0 })
	})
	t.Run("deadline without a server", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		client := s.directly()
		s.signal("KILL")
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_, err := client.AcquireContext(ctx, "k", 30*time.Second, Options{WaitTimeout: Forever})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrLockUnavailable) ||
			errors.Is(err, ErrLockTimeout) || codeOf(err) != "no-connection" {
			t.Fatal(err)
		}
	})
	t.Run("query", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		s.order(object{"do": "swallow"})
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_, err := s.client().Status(ctx, "k")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrLockUnavailable) ||
			errors.Is(err, ErrLockTimeout) {
			t.Fatal(err)
		}
		s.forgetOrders()
	})
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := s.client().AcquireContext(ctx, "k", 30*time.Second)
		if !errors.Is(err, context.Canceled) || len(s.requests("")) != 0 {
			t.Fatal(err)
		}
	})
}

func Test14CancelAroundTheGrantLeavesNothing(t *testing.T) {
	heavy(t)
	s := startServer(t)
	s.order(object{"do": "delay", "seconds": 0.02, "match": "/acquire", "times": nil})
	client := s.client()
	random := rand.New(rand.NewSource(14))
	var all sync.WaitGroup
	granted := 0
	for i := 0; i < 100; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.Int63n(int64(60*time.Millisecond))))
		lock, err := client.AcquireContext(ctx, fmt.Sprintf("k%d", i%20), 30*time.Second, Options{WaitTimeout: time.Second})
		cancel()
		if err == nil {
			granted++
			all.Add(1)
			go func() {
				defer all.Done()
				if err := lock.Release(); err != nil {
					t.Error(err)
				}
			}()
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	all.Wait()
	t.Logf("%d of 100 were granted", granted)
	eventually(t, 4*time.Second, "nothing is held", func() bool {
		stats := s.stats()
		return stats.ActiveLocks == 0 && stats.WaitingRequests == 0
	})
	// Nothing that was on its way comes later.
	s.check(client.Close())
	if stats := s.stats(); stats.ActiveLocks != 0 || stats.WaitingRequests != 0 {
		t.Fatal(stats)
	}
}

func Test18LimitIsKept(t *testing.T) {
	heavy(t)
	s := startServer(t)
	var mu sync.Mutex
	inside, most := 0, 0
	step := func(by int) {
		mu.Lock()
		defer mu.Unlock()
		inside += by
		if inside > most {
			most = inside
		}
	}
	var all sync.WaitGroup
	for i := 0; i < 10; i++ {
		client := s.client()
		all.Add(1)
		go func() {
			defer all.Done()
			for round := 0; round < 5; round++ {
				err := client.Do(context.Background(), "pool", 30*time.Second, func(context.Context, *Lock) error {
					step(1)
					defer step(-1)
					time.Sleep(10 * time.Millisecond)
					return nil
				}, Options{Limit: 3, WaitTimeout: 30 * time.Second})
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	if most != 3 {
		t.Fatal(most)
	}
	client := s.client()
	s.acquire(client, "pool", 30*time.Second, Options{Limit: 3})
	if _, err := client.Acquire("pool", 30*time.Second, Options{Limit: 4}); !errors.Is(err, ErrLockLimitMismatch) {
		t.Fatal(err)
	}
	if holders := s.status("pool", OfSemaphore()).Holders; len(holders) != 1 {
		t.Fatal(holders)
	}
	// A lock of that name is another thing.
	s.acquire(client, "pool", 30*time.Second)
}

func Test20DeadlockOfTwoActors(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := s.client()
	one, two := client.Actor("one"), client.Actor("two")
	s.acquire(one, "x", 30*time.Second)
	y := s.acquire(two, "y", 30*time.Second)
	served := make(chan error)
	go func() {
		_, err := one.Acquire("y", 30*time.Second, Options{WaitTimeout: 20 * time.Second})
		served <- err
	}()
	eventually(t, 30*time.Second, "it waits", func() bool { return s.status("y").Waiters == 1 })
	_, err := two.Acquire("x", 30*time.Second, Options{WaitTimeout: 20 * time.Second})
	var detail *LockError
	if !errors.Is(err, ErrLockDeadlock) || !errors.As(err, &detail) || len(detail.Cycle) != 2 || detail.Code != "deadlock" {
		t.Fatalf("%v %+v", err, detail)
	}
	for _, edge := range detail.Cycle {
		if edge != (Edge{"one", "y"}) && edge != (Edge{"two", "x"}) {
			t.Fatal(detail.Cycle)
		}
	}
	s.check(y.Release())
	s.check(<-served)
}

func Test20ActorDoesNotWaitForWhatItGivesBack(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	actor := s.client().Actor("one")
	s.order(object{"do": "hold", "seconds": 0.5, "match": "/release"})
	wait := Options{WaitTimeout: 20 * time.Second}
	// The answer comes too late for a context that ends, so the server has a hold of which nobody knows.
	s.order(object{"do": "delay", "seconds": 5, "match": "/acquire"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	given := make(chan error)
	go func() {
		_, err := actor.AcquireContext(ctx, "k", 30*time.Second, wait)
		given <- err
	}()
	eventually(t, 30*time.Second, "it is held", func() bool { return s.status("k").Locked })
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	lock, err := actor.Acquire("k", 5*time.Second, wait)
	s.check(err)
	// A lock that is lost for its holder may still be held at the server.
	lossOf(t, lock, 20*time.Second)
	s.order(object{"do": "hold", "seconds": 0.5, "match": "/release"})
	_ = lock.Release()
	lock, err = actor.Acquire("k", 30*time.Second, wait)
	s.check(err)
	s.check(lock.Release())
}

func Test30FileJudgesTwentyFiveClients(t *testing.T) {
	heavy(t)
	s := startServer(t)
	file := filepath.Join(t.TempDir(), "held")
	var all sync.WaitGroup
	for i := 0; i < 25; i++ {
		client := s.client()
		all.Add(1)
		go func() {
			defer all.Done()
			for round := 0; round < 4; round++ {
				err := client.Do(context.Background(), "judged", 30*time.Second, func(context.Context, *Lock) error {
					held, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL, 0o600)
					if err != nil {
						return err
					}
					held.Close()
					return os.Remove(file)
				}, Options{WaitTimeout: 60 * time.Second})
				if err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
}

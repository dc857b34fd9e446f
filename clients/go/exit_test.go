package distlock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	. "distlock"
)

// With this variable, the test's program is one that exits with a renewed lock.
const exitTestURL = "DISTLOCK_EXIT_TEST_URL"

func exitWithLock(url string) {
	lock, err := NewDistributedLockClient(url).Acquire("k", 6*time.Second, Options{AutoRenew: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	time.Sleep(3 * time.Second)
	fmt.Println(lock.ID, lock.Err())
}

func Test29ExitWithARenewedLock(t *testing.T) {
	t.Parallel()
	t.Run("exit", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		program := exec.Command(os.Args[0])
		program.Env = append(os.Environ(), exitTestURL+"="+s.URL)
		output, err := program.StdoutPipe()
		s.check(err)
		s.check(program.Start())
		line, err := bufio.NewReader(output).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "lock-") || !strings.HasSuffix(line, " <nil>\n") {
			t.Fatal(line, err)
		}
		said := Now()
		s.check(program.Wait())
		if took := Now() - said; took > 10*time.Second {
			t.Fatal(took)
		}
		// Nothing is released, since other threads may still have worked. The lease ends it.
		if count := len(s.requests("/release")); count != 0 {
			t.Fatal(count)
		}
		eventually(t, 60*time.Second, "the lease ends", func() bool { return !s.status("k").Locked })
	})
	// Go has no fork without exec. A program that is started has no connection of its parent, so none stays open by it.
	t.Run("fork", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS != "linux" {
			return
		}
		s := startServer(t)
		s.acquire(s.client(), "k", 30*time.Second, Options{AutoRenew: true})
		child := exec.Command("sleep", "60")
		s.check(child.Start())
		defer child.Wait()
		defer child.Process.Kill()
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", child.Process.Pid))
		s.check(err)
		for _, file := range files {
			if target, _ := os.Readlink(file); strings.HasPrefix(target, "socket:") {
				t.Fatal(target)
			}
		}
	})
	t.Run("close without answers", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		client := s.client()
		for i := 0; i < 70; i++ {
			s.acquire(client, fmt.Sprint(i), 12*time.Second, Options{AutoRenew: true})
		}
		s.order(object{"do": "swallow", "match": "/release", "times": nil})
		began := Now()
		if err := client.Close(); !errors.Is(err, ErrLockUnavailable) || codeOf(err) != "no-answer" {
			t.Fatal(err)
		}
		if took := Now() - began; took > 8*time.Second {
			t.Fatal(took)
		}
		for _, renewal := range s.requests("/renew") {
			if late := renewal.at() - began; late > 2*time.Second {
				t.Fatal(late)
			}
		}
		s.forgetOrders()
	})
	t.Run("close", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		client := s.client()
		lock := s.acquire(client, "a", 30*time.Second, Options{AutoRenew: true})
		s.acquire(client.Actor("x"), "b", 30*time.Second)
		waited := make(chan error)
		go func() {
			_, err := client.Acquire("b", 30*time.Second, Options{WaitTimeout: Forever})
			waited <- err
		}()
		eventually(t, 30*time.Second, "it waits", func() bool { return s.status("b").Waiters == 1 })
		s.check(client.Close())
		if stats := s.stats(); stats.ActiveLocks != 0 || stats.WaitingRequests != 0 {
			t.Fatal(stats)
		}
		if err := <-waited; codeOf(err) != "closed" || codeOf(lock.Err()) != "" || !errors.Is(lock.Err(), ErrLockNotHeld) {
			t.Fatal(err, lock.Err())
		}
		ctx := context.Background()
		_, ofStats := client.Stats(ctx)
		_, ofStatus := client.Actor("x").Status(ctx, "a")
		for _, err := range []error{client.Do(ctx, "a", time.Second, nil), ofStats, ofStatus} {
			if !errors.Is(err, ErrLockUnavailable) || codeOf(err) != "closed" {
				t.Fatal(err)
			}
		}
	})
	t.Run("close an actor", func(t *testing.T) {
		t.Parallel()
		s := startServer(t)
		client := s.client()
		actor, other := client.Actor("x"), client.Actor("y")
		kept, ended := s.acquire(client, "a", 30*time.Second), s.acquire(actor, "b", 30*time.Second)
		served := make(chan error)
		go func() {
			_, err := other.Acquire("a", 30*time.Second, Options{WaitTimeout: Forever})
			served <- err
		}()
		eventually(t, 30*time.Second, "it waits", func() bool { return s.status("a").Waiters == 1 })
		s.check(actor.Close())
		if s.status("b").Locked || !errors.Is(ended.Err(), ErrLockNotHeld) || kept.Err() != nil {
			t.Fatal(ended.Err(), kept.Err())
		}
		if _, err := actor.Acquire("c", time.Second); codeOf(err) != "closed" {
			t.Fatal(err)
		}
		s.check(kept.Release())
		s.check(<-served)
		s.acquire(client, "c", 30*time.Second)
	})
}

func TestWrongArgumentsSendNothing(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := s.client()
	acquire := func(client *DistributedLockClient, name string, timeout time.Duration, options ...Options) error {
		_, err := client.Acquire(name, timeout, options...)
		return err
	}
	for i, err := range []error{
		acquire(client, "", time.Second),
		acquire(client, ".", time.Second),
		acquire(client, "..", time.Second),
		acquire(client, "a b", time.Second),
		acquire(client, "a\nb", time.Second),
		acquire(client, "\xff", time.Second),
		acquire(client, strings.Repeat("x", 257), time.Second),
		acquire(client, "k", 0),
		acquire(client, "k", -time.Second),
		acquire(client, "k", time.Millisecond),
		acquire(client, "k", Forever),
		acquire(client, "k", time.Second, Options{WaitTimeout: -1}),
		acquire(client, "k", time.Second, Options{MaxHold: -1}),
		acquire(client, "k", time.Second, Options{Limit: -1}),
		acquire(client, "k", time.Second, Options{Limit: 1<<20 + 1}),
		acquire(client, "k", time.Second, Options{Metadata: object{"f": func() {}}}),
		acquire(client, "k", time.Second, Options{}, Options{}),
		acquire(client.Actor(""), "k", time.Second),
		acquire(s.client(ClientOptions{ClientID: strings.Repeat("x", 129)}), "k", time.Second),
		acquire(s.client(ClientOptions{Token: "a b"}), "k", time.Second),
		acquire(s.client(ClientOptions{}, ClientOptions{}), "k", time.Second),
		acquire(NewDistributedLockClient("localhost:5000"), "k", time.Second),
		acquire(NewDistributedLockClient("http://user:secret@localhost"), "k", time.Second),
		acquire(NewDistributedLockClient(""), "k", time.Second),
	} {
		if !errors.Is(err, ErrLockRequest) || strings.Contains(err.Error(), "secret") {
			t.Error(i, err)
		}
	}
	if _, err := NewDistributedLockClient("").Stats(context.Background()); !errors.Is(err, ErrLockRequest) {
		t.Error(err)
	}
	if requests := s.requests(""); len(requests) != 0 {
		t.Fatal(requests)
	}
	// What only the server can know is its error.
	if err := acquire(client, "k", 10000*time.Hour); !errors.Is(err, ErrLockRequest) {
		t.Fatal(err)
	}
}

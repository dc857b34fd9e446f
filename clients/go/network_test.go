package distlock_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
	"time"

	. "distlock"
)

func quoted(text string) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	_ = encoder.Encode(text)
	return strings.TrimSpace(out.String())
}

func Test12AnswerCutAtEachByte(t *testing.T) {
	heavy(t)
	s := startServer(t)
	// How long an answer is says one that nobody cuts.
	body := `{"clientId":"a-client-of-some-length-as-ours-have-it","timeout":0.1}`
	response, err := http.Post(s.Direct+"/locks/k000/acquire", "application/json", strings.NewReader(body))
	s.check(err)
	dump, err := httputil.DumpResponse(response, true)
	s.check(err)
	response.Body.Close()
	before := s.stats().TotalAcquired
	cuts := len(dump)
	work := make(chan int)
	var all sync.WaitGroup
	for i := 0; i < 4; i++ {
		client := s.client(ClientOptions{ClientID: "a-client-of-some-length-as-ours-have-it"})
		all.Add(1)
		go func() {
			defer all.Done()
			for at := range work {
				name := fmt.Sprintf("k%03d", at+1)
				s.order(object{"do": "cut", "at": at, "match": "/" + name + "/acquire"})
				lock, err := client.Acquire(name, 30*time.Second, Options{WaitTimeout: 20 * time.Second})
				if err != nil {
					t.Errorf("cut at %d: %v", at, err)
				} else if err := lock.Release(); err != nil {
					t.Errorf("cut at %d: %v", at, err)
				}
			}
		}()
	}
	for at := 0; at < cuts && !t.Failed(); at++ {
		work <- at
	}
	close(work)
	all.Wait()
	asked := len(s.requests("/acquire"))
	if stats := s.stats(); stats.TotalAcquired-before != uint64(cuts) || stats.ActiveLocks != 0 || asked < 2*cuts-20 {
		t.Fatalf("%d cuts, %d requests, %d grants, %d held", cuts, asked, stats.TotalAcquired-before, stats.ActiveLocks)
	}
}

func Test21WrongTokenIsDeniedAtOnce(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--auth-token", "right-and-secret")
	wrong := s.client(ClientOptions{Token: "wrong-and-secret"})
	_, err := wrong.Acquire("k", 30*time.Second, Options{WaitTimeout: 10 * time.Second})
	if !errors.Is(err, ErrLockDenied) || len(s.requests("")) != 1 {
		t.Fatal(err, s.requests(""))
	}
	if !strings.HasSuffix(err.Error(), "the server does not accept this token (401 unauthorized)") {
		t.Fatal(err)
	}
	shown := []interface{}{err, wrong}
	_, err = s.client().Acquire("k", 30*time.Second)
	if !errors.Is(err, ErrLockDenied) ||
		!strings.HasSuffix(err.Error(), "this server needs a token: ClientOptions{Token: ...} (401 unauthorized)") {
		t.Fatal(err)
	}
	right := s.client(ClientOptions{Token: "right-and-secret"})
	// An answer that shows the token again.
	problem := `{"code":"bad-request","detail":"you sent Bearer right-and-secret"}`
	s.order(object{"do": "say", "match": "/acquire", "answer": fmt.Sprintf("HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%s", len(problem), problem)})
	_, err = right.Acquire("k", 30*time.Second)
	shown = append(shown, err)
	s.order(object{"do": "cut", "at": 0, "match": "/acquire"})
	lock := s.acquire(right, "k", 30*time.Second, Options{AutoRenew: true})
	shown = append(shown, lock, *lock, right, right.Actor("x"))
	s.check(lock.Renew(20 * time.Second))
	_, err = right.Acquire("k", time.Millisecond)
	shown = append(shown, err)
	s.check(lock.Release())
	// A line that is no answer is in the error of net/http.
	s.order(object{"do": "say", "match": "/acquire", "answer": "Bearer right-and-secret\n"})
	_, err = right.Acquire("k", 30*time.Second)
	shown = append(shown, err, errors.Unwrap(err))
	secrets := []string{"right-and-secret", "wrong-and-secret"}
	for _, request := range s.requests("") {
		for _, name := range []string{"requestId", "renewalToken"} {
			if secret, isThere := request.Body[name].(string); isThere {
				secrets = append(secrets, secret)
			}
		}
	}
	if len(secrets) < 6 {
		t.Fatal(secrets)
	}
	for _, each := range shown {
		data, _ := json.Marshal(each)
		text := fmt.Sprintf("%v %+v %#v %s %d %q %s", each, each, each, each, each, each, data)
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Fatalf("%T shows a secret: %s", each, text)
			}
		}
	}
}

func Test21SecretsAreTakenOutOfWhatWasRead(t *testing.T) {
	t.Parallel()
	body := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		var acquire struct{ RequestID string }
		_ = json.Unmarshal(asked, &acquire)
		w.WriteHeader(409)
		fmt.Fprint(w, strings.ReplaceAll(body, "REQUEST", acquire.RequestID))
	}))
	defer server.Close()
	ask := func(token string) (detail *LockError) {
		_, err := closing(t, NewDistributedLockClient(server.URL, ClientOptions{Token: token})).Acquire("k", time.Second)
		if !errors.As(err, &detail) || !strings.HasPrefix(err.Error(), `distlock: acquire of "k": `) {
			t.Fatal(err)
		}
		return detail
	}
	body = `{"code":"deadlock","detail":"a lock","cycle":[{"clientId":"lock-1","waitsFor":"k"}]}`
	err := ask("lock")
	if !errors.Is(err, ErrLockDeadlock) || err.Code != "deadlock" || err.Detail != "a ***" ||
		err.Cycle[0].ClientID != "***-1" {
		t.Fatalf("%v %+v", err, err.Cycle)
	}
	body = `{"code":"bad-request","detail":"Bearer a\"quote"}`
	if err = ask(`a"quote`); err.Detail != "Bearer ***" {
		t.Fatal(err)
	}
	body = `{"code":"REQUEST","detail":"x","instance":"REQUEST"}`
	if err = ask(""); err.Code != "***" || err.RequestID != "***" {
		t.Fatal(err.Code, err.RequestID)
	}
}

func TestTriesAndQueriesOutliveABadGateway(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := s.client()
	bad := object{"do": "say", "times": 3, "answer": "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"}
	s.order(bad)
	lock, ok, err := client.TryAcquire("k", 30*time.Second)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	s.check(lock.Release())
	s.order(bad)
	_, err = client.Stats(context.Background())
	s.check(err)
	s.signal("KILL")
	atBest(t, time.Second, func() time.Duration {
		began := Now()
		if _, err := s.directly().Stats(context.Background()); codeOf(err) != "no-connection" {
			t.Fatal(err)
		}
		return Now() - began
	})
}

func Test22DrainingServer(t *testing.T) {
	t.Parallel()
	s := startServerWith(t, object{"keeps": true, "options": []string{}})
	holder, waiter := s.client(), s.client()
	lock := s.acquire(holder, "k", 30*time.Second)
	other := s.acquire(holder, "other", 20*time.Second)
	served := make(chan error)
	go func() {
		lock, err := waiter.Acquire("k", 30*time.Second, Options{WaitTimeout: 60 * time.Second})
		if err == nil {
			err = lock.Release()
		}
		served <- err
	}()
	eventually(t, 30*time.Second, "it waits", func() bool { return s.status("k").Waiters == 1 })
	drained := s.drain()
	if _, err := s.directly().Acquire("new", time.Second); !errors.Is(err, ErrLockDraining) || !errors.Is(err, ErrLockUnavailable) {
		t.Fatal(err)
	}
	s.check(other.Renew(30 * time.Second))
	s.check(other.Release())
	drained()
	s.restart()
	s.check(lock.Renew(30 * time.Second))
	s.check(lock.Release())
	s.check(<-served)
}

func Test23NoServer(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	client := s.directly()
	// A connection from before must not matter.
	s.check(s.acquire(client, "k", 30*time.Second).Release())
	s.signal("KILL")
	atBest(t, time.Second, func() time.Duration {
		began := Now()
		_, _, err := client.TryAcquire("k", 30*time.Second)
		if !errors.Is(err, ErrLockUnavailable) || codeOf(err) != "no-connection" {
			t.Fatal(err, codeOf(err))
		}
		return Now() - began
	})
	served := make(chan error)
	go func() {
		_, err := client.Acquire("k", 30*time.Second, Options{WaitTimeout: 30 * time.Second})
		served <- err
	}()
	select {
	case err := <-served:
		t.Fatal(err)
	case <-time.After(time.Second):
	}
	s.restart()
	s.check(<-served)
}

func Test24BrokenAnswersAreErrors(t *testing.T) {
	heavy(t)
	s := startServer(t)
	client := s.client(ClientOptions{ClientID: "a"})
	say := func(status, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	}
	grant := `{"lockName":"k","clientId":"a","acquired":true,"waitTime":0,"ttl":30,"lockId":"lock-1","renewalToken":"x","fencingToken":"0123456789abcdef"`
	for _, each := range []struct {
		answer string
		kind   error
		code   string
	}{
		{say("200 OK", `{"acquired":tr`), ErrLockServer, "nonsense"},
		{say("200 OK", "<html>Welcome</html>"), ErrLockServer, "nonsense"},
		{say("200 OK", ""), ErrLockServer, "nonsense"},
		{say("200 OK", "{}"), ErrLockServer, "nonsense"},
		{say("200 OK", `{"lockName":"k","clientId":"a"}`), ErrLockServer, "nonsense"},
		{say("200 OK", "[]"), ErrLockServer, "nonsense"},
		{say("200 OK", "null"), ErrLockServer, "nonsense"},
		{say("200 OK", grant), ErrLockServer, "nonsense"},
		{say("200 OK", grant+"}}"), ErrLockServer, "nonsense"},
		{say("200 OK", strings.Replace(grant, `"x"`, `null`, 1)+"}"), ErrLockServer, "nonsense"},
		{say("200 OK", strings.Replace(grant, `:30`, `:-1`, 1)+"}"), ErrLockServer, "nonsense"},
		{say("200 OK", strings.Replace(grant, `:30`, `:"30"`, 1)+"}"), ErrLockServer, "nonsense"},
		{say("200 OK", strings.Replace(grant, `0123456789abcdef`, `123`, 1)+"}"), ErrLockServer, "nonsense"},
		{say("200 OK", strings.Replace(grant, `:"k"`, `:"q"`, 1)+"}"), ErrLockServer, "nonsense"},
		{say("204 No Content", ""), ErrLockServer, "nonsense"},
		{say("301 Moved", ""), ErrLockServer, "nonsense"},
		{say("400 Bad", "<html>"), ErrLockServer, "nonsense"},
		{say("404 Not Found", "<html>nginx</html>"), ErrLockServer, "nonsense"},
		{say("404 Not Found", `{"code":"not-found"}`), ErrLockRequest, "not-found"},
		{say("401 Who", ""), ErrLockDenied, ""},
		{say("403 No", "<html>"), ErrLockDenied, ""},
		{say("422 No", "{}"), ErrLockRequest, ""},
		{say("429 Slow", "{}"), ErrLockCapacity, ""},
		{say("503 No", `{"code":"max-waiters"}`), ErrLockCapacity, "max-waiters"},
		{say("500 Sorry", "<html>"), ErrLockServer, "nonsense"},
		{say("500 Sorry", `{"code":"internal"}`), ErrLockServer, "internal"},
		{say("503 Sorry", "<html>"), ErrLockUnavailable, ""},
		{"error\n", ErrLockServer, "nonsense"},
		{say("502 Sorry", "<html>"), nil, ""},
		{"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + grant + "}", nil, ""},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"acq\r\n", nil, ""},
		{"HTTP/1.1 200", nil, ""},
		{"HTT", nil, ""},
		{"", nil, ""},
	} {
		s.order(object{"do": "say", "match": "/acquire", "answer": each.answer})
		lock, err := client.Acquire("k", 30*time.Second)
		if each.kind == nil {
			s.check(err)
			s.check(lock.Release())
		} else if !errors.Is(err, each.kind) || codeOf(err) != each.code {
			t.Errorf("%q: %v, code %q", each.answer, err, codeOf(err))
		}
	}
	s.order(object{"do": "chunk", "times": nil})
	lock := s.acquire(client, "k", 30*time.Second)
	s.check(lock.Renew(20 * time.Second))
	s.check(lock.Release())
	eventually(t, 30*time.Second, "nothing is held", func() bool { return s.stats().ActiveLocks == 0 })
}

func Test25ClosedIdleConnectionIsNoError(t *testing.T) {
	heavy(t)
	s := startServer(t)
	client := s.client()
	for i := 0; i < 40; i++ {
		lock := s.acquire(client, "k", 30*time.Second)
		var closed struct{ Closed int }
		if i%2 == 0 {
			s.tell("POST", "close-idle", nil, &closed)
		}
		s.check(lock.Release())
		if i%4 == 1 {
			s.tell("POST", "close-idle", nil, &closed)
		}
	}
	if stats := s.stats(); stats.TotalAcquired != 40 || stats.ActiveLocks != 0 {
		t.Fatal(stats)
	}
	// If one connection is cut, others that are open may be dead, too: the repeat has a new one.
	s.order(object{"do": "hold", "seconds": 0.3, "match": "/acquire", "times": 3})
	var all sync.WaitGroup
	for i := 0; i < 3; i++ {
		all.Add(1)
		go func(i int) {
			defer all.Done()
			if _, err := client.Acquire(fmt.Sprint(i), 30*time.Second); err != nil {
				t.Error(err)
			}
		}(i)
	}
	all.Wait()
	before := s.requests("")
	s.order(object{"do": "cut", "at": 0, "match": "/cut/acquire"})
	s.acquire(client, "cut", 30*time.Second)
	repeat := s.requests("/cut/acquire")[1]
	for _, request := range before {
		if request.Connection == repeat.Connection {
			t.Fatal("the repeat came over a connection from before")
		}
	}
}

func Test26StatusListStatsHealth(t *testing.T) {
	heavy(t)
	s := startServer(t)
	client := s.client()
	for i := 0; i < 250; i++ {
		s.acquire(client, fmt.Sprintf("list/%d", i), 30*time.Second)
	}
	s.acquire(client, "else", 30*time.Second)
	ctx := context.Background()
	locks, err := client.Locks(ctx, "list/")
	s.check(err)
	names := map[string]bool{}
	for _, lock := range locks {
		names[lock.LockName] = true
	}
	if len(locks) != 250 || len(names) != 250 || len(s.requests("/locks")) < 3 {
		t.Fatal(len(locks), len(names))
	}
	locks, err = client.Locks(ctx, "")
	s.check(err)
	stats, err := client.Stats(ctx)
	s.check(err)
	if len(locks) != 251 || len(stats) != 1 || stats[0].ActiveLocks != 251 || stats[0].TotalAcquired != 251 {
		t.Fatal(len(locks), stats)
	}
	health, err := client.Health(ctx)
	s.check(err)
	if health[0].Status != "ok" || health[0].Version != stats[0].Version {
		t.Fatal(health)
	}
	status, err := client.Status(ctx, "else")
	s.check(err)
	holder := status.Holders[0]
	if !status.Locked || holder.ClientID == "" || holder.TTL <= 0 || !holder.AcquiredAt.Before(holder.ExpiresAt) {
		t.Fatal(status)
	}
	if status, err = client.Status(ctx, "free"); err != nil || status.Locked {
		t.Fatal(status, err)
	}
}

func Test27ThreeShards(t *testing.T) {
	heavy(t)
	if crc32.ChecksumIEEE([]byte("my-key")) != 0xd6e33ac1 {
		t.Fatal("this is another CRC-32")
	}
	servers := []*server{startServer(t), startServer(t), startServer(t)}
	client := closing(t, NewDistributedLockClient(servers[0].Direct+", "+servers[1].Direct+"/,"+servers[2].Direct))
	owner := map[string]int{"my-key": 0xd6e33ac1 % 3}
	for i := 0; i < 20; i++ {
		name := fmt.Sprintf("ü%d", i)
		owner[name] = int(crc32.ChecksumIEEE([]byte(name)) % 3)
	}
	for name, shard := range owner {
		lock := client.Actor("a")
		servers[0].acquire(lock, name, 30*time.Second)
		if !servers[shard].status(name).Locked {
			t.Fatalf("%s is not at server %d", name, shard)
		}
	}
	if locks, err := client.Locks(context.Background(), ""); err != nil || len(locks) != 21 {
		t.Fatal(len(locks), err)
	}
	servers[1].signal("KILL")
	for name, shard := range owner {
		_, err := client.Status(context.Background(), name)
		if isDown := shard == 1; isDown != errors.Is(err, ErrLockUnavailable) || !isDown && err != nil {
			t.Fatal(name, shard, err)
		}
		if shard == 1 {
			break
		}
	}
	for name, shard := range owner {
		_, _, err := client.TryAcquire(name, 30*time.Second)
		if isDown := shard == 1; isDown != errors.Is(err, ErrLockUnavailable) || !isDown && err != nil {
			t.Fatal(name, shard, err)
		}
	}
	last := closing(t, NewDistributedLockClient(servers[0].Direct+","+servers[2].Direct,
		ClientOptions{Shard: func(name string, servers int) int { return servers - 1 }}))
	servers[2].acquire(last, "elsewhere", 30*time.Second)
	if !servers[2].status("elsewhere").Locked {
		t.Fatal("the shard was not the one that was named")
	}
	bad := closing(t, NewDistributedLockClient(servers[0].Direct+","+servers[2].Direct,
		ClientOptions{Shard: func(name string, servers int) int { return servers }}))
	if _, err := bad.Acquire("k", time.Second); !errors.Is(err, ErrLockRequest) {
		t.Fatal(err)
	}
}

func Test28TLS(t *testing.T) {
	t.Parallel()
	var files struct {
		CA    string `json:"ca"`
		Other string `json:"other_ca"`
	}
	tell(t, "GET", "/certificates", nil, &files)
	here := startServerWith(t, object{"options": []string{}, "certificate": "localhost"})
	elsewhere := startServerWith(t, object{"options": []string{}, "certificate": "elsewhere"})
	client := here.client(ClientOptions{CA: files.CA})
	lock := here.acquire(client, "k", 30*time.Second)
	here.check(lock.Renew(20 * time.Second))
	here.check(lock.Release())
	for what, client := range map[string]*DistributedLockClient{
		"another authority": here.client(ClientOptions{CA: files.Other}),
		"no authority":      here.client(),
		"another host":      elsewhere.client(ClientOptions{CA: files.CA}),
	} {
		began := Now()
		_, err := client.Acquire("k", 30*time.Second, Options{WaitTimeout: 20 * time.Second})
		isTold := strings.Contains(err.Error(), "x509") && codeOf(err) == "tls"
		if !errors.Is(err, ErrLockUnavailable) || !isTold || Now()-began > 15*time.Second {
			t.Fatal(what, err)
		}
	}
	plain := closing(t, NewDistributedLockClient(strings.Replace(here.URL, "https", "http", 1)))
	if _, err := plain.Acquire("k", time.Second); err == nil {
		t.Fatal("there was no TLS")
	}
	missing := here.client(ClientOptions{CA: files.CA + ".missing"})
	if _, err := missing.Acquire("k", time.Second); !errors.Is(err, ErrLockRequest) {
		t.Fatal(err)
	}
}

package distlock_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	. "distlock"
)

// The address of the stage, which clients/tests/stage.py describes.
var stage string

func TestMain(m *testing.M) {
	if url := os.Getenv(exitTestURL); url != "" {
		exitWithLock(url)
		return
	}
	os.Exit(onStage(m))
}

func onStage(m *testing.M) int {
	flag.Parse()
	// As many tests ask the stage at once.
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	// The tests wait more than they work.
	if err := flag.Set("test.parallel", "64"); err != nil {
		panic(err)
	}
	dflockd := os.Getenv("DFLOCKD")
	if dflockd == "" {
		fmt.Println("FAIL: set DFLOCKD to the server's binary")
		return 1
	}
	process := exec.Command("python3", "../tests/stage.py", dflockd)
	process.Stderr = os.Stderr
	// The stage ends with its standard input.
	input, _ := process.StdinPipe()
	output, _ := process.StdoutPipe()
	if err := process.Start(); err != nil {
		panic(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		panic(err)
	}
	stage = strings.TrimSpace(line)
	code := m.Run()
	input.Close()
	process.Wait()
	return code
}

// server is a real server on the stage.
type server struct {
	t           *testing.T
	Name        string
	URL, Direct string
	Port        int // of the line protocol
	observer    *DistributedLockClient
}

type object = map[string]interface{}

// logged is a request that came to the proxy.
type logged struct {
	At           float64
	Method, Path string
	Body         object
	Status       *int
	Connection   int
}

func (l logged) at() time.Duration { return time.Duration(l.At * float64(time.Second)) }

func tell(t testing.TB, method, path string, order interface{}, answer interface{}) {
	t.Helper()
	var body []byte
	if order != nil {
		body, _ = json.Marshal(order)
	}
	message, _ := http.NewRequest(method, stage+path, bytes.NewReader(body))
	response, err := http.DefaultClient.Do(message)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		t.Fatalf("the stage says %d to %s %s", response.StatusCode, method, path)
	}
	if answer == nil {
		answer = &object{}
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		t.Fatal(err)
	}
}

func startServer(t *testing.T, options ...string) *server {
	t.Helper()
	return startServerWith(t, object{"options": append([]string{}, options...)})
}

func startServerWith(t *testing.T, order object) *server {
	t.Helper()
	s := &server{t: t}
	tell(t, "POST", "/servers", order, s)
	t.Cleanup(func() { tell(t, "DELETE", "/servers/"+s.Name, nil, nil) })
	s.observer = s.directly()
	return s
}

func (s *server) tell(method, path string, order interface{}, answer interface{}) {
	s.t.Helper()
	tell(s.t, method, "/servers/"+s.Name+"/"+path, order, answer)
}

func (s *server) order(order object) { s.t.Helper(); s.tell("POST", "orders", order, nil) }
func (s *server) forgetOrders()      { s.t.Helper(); s.tell("DELETE", "orders", nil, nil) }
func (s *server) forgetRequests()    { s.t.Helper(); s.tell("DELETE", "requests", nil, nil) }
func (s *server) signal(name string) {
	s.t.Helper()
	s.tell("POST", "signal", object{"signal": name}, nil)
}
func (s *server) restart()               { s.t.Helper(); s.tell("POST", "restart", nil, nil) }
func (s *server) refuse(seconds float64) { s.tell("POST", "refuse", object{"seconds": seconds}, nil) }

// drain begins to stop the server, which lasts until the function that comes back is called.
func (s *server) drain() (end func()) {
	s.t.Helper()
	// It waits for a connection of the line protocol that holds a lock.
	anchor, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	s.check(err)
	fmt.Fprint(anchor, "l\nanchor\n10\n")
	if line, err := bufio.NewReader(anchor).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ok") {
		s.t.Fatal(line, err)
	}
	s.signal("TERM")
	eventually(s.t, 30*time.Second, "it drains", func() bool {
		response, err := http.Get(s.Direct + "/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == 503
	})
	return func() {
		anchor.Close()
		eventually(s.t, 30*time.Second, "the server has ended", func() bool {
			_, err := s.directly().Health(context.Background())
			return err != nil
		})
	}
}

// requests are those whose path ends so.
func (s *server) requests(suffix string) (found []logged) {
	s.t.Helper()
	var all []logged
	s.tell("GET", "requests", nil, &all)
	for _, each := range all {
		if strings.HasSuffix(strings.Split(each.Path, "?")[0], suffix) {
			found = append(found, each)
		}
	}
	return found
}

// client is one of this server, through the proxy.
func (s *server) client(options ...ClientOptions) *DistributedLockClient {
	return closing(s.t, NewDistributedLockClient(s.URL, options...))
}

// directly is a client that leaves the log of the proxy alone.
func (s *server) directly(options ...ClientOptions) *DistributedLockClient {
	return closing(s.t, NewDistributedLockClient(s.Direct, options...))
}

func closing(t *testing.T, client *DistributedLockClient) *DistributedLockClient {
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func (s *server) status(name string, options ...QueryOption) Status {
	s.t.Helper()
	status, err := s.observer.Status(context.Background(), name, options...)
	s.check(err)
	return status
}

func (s *server) stats() Stats {
	s.t.Helper()
	stats, err := s.observer.Stats(context.Background())
	s.check(err)
	return stats[0]
}

func (s *server) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// acquire gets a lock that is free. On a busy machine a short lease may be over before its grant comes, so it waits.
func (s *server) acquire(client *DistributedLockClient, name string, timeout time.Duration, options ...Options) *Lock {
	s.t.Helper()
	all := append([]Options{}, options...)
	if len(all) == 0 {
		all = []Options{{}}
	}
	if all[0].WaitTimeout == 0 {
		all[0].WaitTimeout = 20 * time.Second
	}
	lock, err := client.Acquire(name, timeout, all...)
	s.check(err)
	return lock
}

// codeOf is the code of an error of the library.
func codeOf(err error) string {
	var detail *LockError
	if !errors.As(err, &detail) {
		return fmt.Sprint("none of the library: ", err)
	}
	return detail.Code
}

// eventually waits until something is so, and fails the test if that takes longer.
func eventually(t *testing.T, within time.Duration, claim string, isSo func() bool) {
	t.Helper()
	for end := Now() + within; !isSo(); time.Sleep(20 * time.Millisecond) {
		if Now() > end {
			t.Fatalf("not within %v: %s", within, claim)
		}
	}
}

var heavyTests = make(chan struct{}, 2)

// heavy is a parallel test that works instead of waiting: few of these run at a time, since others measure time.
func heavy(t *testing.T) {
	t.Parallel()
	heavyTests <- struct{}{}
	t.Cleanup(func() { <-heavyTests })
}

// atBest fails the test if something takes longer each time, five times and for half a minute. A busy machine only
// makes it longer.
func atBest(t *testing.T, most time.Duration, do func() (took time.Duration)) {
	t.Helper()
	var all []time.Duration
	for end := Now() + 30*time.Second; len(all) < 5 || Now() < end; {
		took := do()
		if took <= most {
			return
		}
		all = append(all, took)
	}
	t.Fatalf("at best %v was asked for, this took %v", most, all)
}

// lossOf waits for the loss of a lock and returns its moment.
func lossOf(t *testing.T, lock *Lock, within time.Duration) time.Duration {
	t.Helper()
	select {
	case <-lock.Context().Done():
		return Now()
	case <-time.After(within):
		t.Fatalf("the lock is not lost after %v", within)
		return 0
	}
}

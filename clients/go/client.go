// Package distlock is a client of the lock server dflockd, over its REST face.
//
// A lock has a lease. The client counts the lease from before the request was sent, on a clock that goes on in suspend,
// and tells its holder before it ends: [Lock.Context] is cancelled, [Lock.Err] says ErrLockLost. A request whose answer
// was lost is repeated under the same secret name, so an unseen grant blocks nobody.
package distlock

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Forever is a wait without an end.
const Forever = never

// DistributedLockClient is one program's way to the locks of one or several servers. Use one for the whole program; all
// methods may be called by many goroutines.
type DistributedLockClient struct {
	core  *core
	owner *owner
	err   *LockError // a wrong argument of its making
}

// owner is who has locks: a client or one of its actors. The mutex of the core guards it.
type owner struct {
	id       string // the clientId of all its requests, or "" if each acquire has one of its own
	parent   *owner // the client, if this is an actor
	busy     int    // acquires, and requests that nobody but Close waits for; of a client, with those of its actors
	isClosed bool
}

func (o *owner) isEnded() bool { return o != nil && (o.isClosed || o.parent.isEnded()) }

func (o *owner) count(more int) {
	for ; o != nil; o = o.parent {
		o.busy += more
	}
}

// String is the addresses.
func (c DistributedLockClient) String() string {
	return "client of " + strings.Join(c.core.servers, ",")
}

// ClientOptions are what a client has besides its address.
type ClientOptions struct {
	// Token is that of the server's --auth-token, or --admin-token for ForceRelease.
	Token string
	// CA is a file of PEM certificates: only servers whose certificates are signed by one of these are trusted.
	CA string
	// ClientID makes the whole client one actor, see [DistributedLockClient.Actor].
	ClientID string
	// Shard says which of several servers has a name, as a number from 0. The default is the CRC-32 (IEEE) of the name
	// modulo the number of servers, as in the tool dflock.
	Shard func(name string, servers int) int
}

// core is what a client shares with its actors.
type core struct {
	*wire
	servers []string
	shard   func(name string, servers int) int
	prefix  string // of clientIds
	pollMax time.Duration

	mu      sync.Mutex
	idle    *sync.Cond
	count   int // acquires so far
	waits   map[*attempt]func()
	holds   map[*hold]bool
	returns map[errand]chan struct{}
}

// NewDistributedLockClient makes a client of "http://host:port", or of several servers with commas between them, which
// share the names among them. It connects only when it has to. A wrong argument is the error of each later call.
func NewDistributedLockClient(servers string, options ...ClientOptions) *DistributedLockClient {
	o, err := first(options)
	host, _ := os.Hostname()
	host = regexp.MustCompile("[^A-Za-z0-9._-]").ReplaceAllString(host, "_")
	prefix := fmt.Sprintf("%.64s-%d-%x", host, os.Getpid(), random(4))
	core := &core{shard: o.Shard, prefix: prefix, pollMax: pollMax, waits: map[*attempt]func(){},
		holds: map[*hold]bool{}, returns: map[errand]chan struct{}{}}
	core.idle = sync.NewCond(&core.mu)
	client := &DistributedLockClient{core: core, owner: &owner{id: o.ClientID}, err: err}
	if o.Shard == nil {
		core.shard = func(name string, n int) int { return int(crc32.ChecksumIEEE([]byte(name)) % uint32(n)) }
	}
	if o.ClientID != "" && client.err == nil {
		client.err = checkID(o.ClientID)
	}
	for i, text := range strings.Split(servers, ",") {
		address, err := url.Parse(strings.TrimSpace(text))
		if err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "" ||
			address.User != nil || address.RawQuery != "" || address.Fragment != "" {
			client.err = wrong("address %d of the servers: want http://host:port or https://host:port", i+1)
			break
		}
		core.servers = append(core.servers, strings.TrimRight(address.String(), "/"))
	}
	if strings.IndexFunc(o.Token, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0 {
		client.err = wrong("Token: want ASCII without blanks and control characters")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		config.RootCAs = x509.NewCertPool()
		if pem, err := os.ReadFile(o.CA); err != nil || !config.RootCAs.AppendCertsFromPEM(pem) {
			client.err = wrong("CA: %q is no readable file with PEM certificates", o.CA)
		}
	}
	core.wire = newWire(o.Token, config)
	return client
}

// Actor is the same client under one clientId, 1 to 128 bytes: the server then sees deadlocks among actors. You promise
// that an actor does one thing at a time: while it waits for a lock, it does nothing else with those that it holds. It
// releases a lock that it lost before it asks for it again, since the server may have it for the rest of the lease.
func (c *DistributedLockClient) Actor(id string) *DistributedLockClient {
	actor := &DistributedLockClient{core: c.core, owner: &owner{id: id, parent: c.owner}, err: c.err}
	if c.owner.parent != nil {
		actor.owner.parent = c.owner.parent
	}
	if actor.err == nil {
		actor.err = checkID(id)
	}
	return actor
}

func checkID(id string) *LockError {
	if !isText(id, 128) {
		return wrong("the id of an actor: want 1 to 128 bytes of UTF-8 without control characters")
	}
	return nil
}

// Close ends all waits of the client and of its actors and releases their locks, none of which is renewed from then on;
// that of an actor ends what is its own. It returns when the servers confirmed that, after 5 s at most, with nil or the
// first error; what was not confirmed by then ends with its lease. Later calls fail with the code "closed". A program
// that exits without Close keeps its locks until their leases end.
func (c *DistributedLockClient) Close() (first error) {
	core := c.core
	core.mu.Lock()
	defer core.mu.Unlock()
	c.owner.isClosed = true
	for a, cancel := range core.waits {
		if a.owner.isEnded() {
			cancel()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerPatience)
	defer cancel()
	// Those whose turn comes last would be renewed meanwhile.
	var ended []*hold
	for h := range core.holds {
		if h.owner.isEnded() {
			h.quit()
			ended = append(ended, h)
		}
	}
	slots := make(chan struct{}, 32) // More at a time would be many connections.
	for _, h := range ended {
		h := h
		core.start(h.owner, func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			err := h.release(ctx)
			core.mu.Lock()
			defer core.mu.Unlock()
			if first == nil {
				first = err
			}
		})
	}
	for c.owner.busy > 0 {
		core.idle.Wait()
	}
	if c.owner.parent == nil {
		core.pooled.CloseIdleConnections()
	}
	return first
}

// refused is why the client takes no calls: a wrong argument of its making, or its end.
func (c *DistributedLockClient) refused() *LockError {
	c.core.mu.Lock()
	defer c.core.mu.Unlock()
	if c.err == nil && c.owner.isEnded() {
		return closed()
	}
	return c.err
}

// errand says who is after which name, and where that is.
type errand struct{ name, address, clientID string }

func (e errand) what(act string) string { return fmt.Sprintf("%s of %q", act, e.name) }

// giveBack ends an attempt or a hold in the background. Close waits for that, and so does the next acquire of the same
// actor and name: to the server, it would wait for itself.
func (core *core) giveBack(owner *owner, e errand, body object) {
	core.mu.Lock()
	defer core.mu.Unlock()
	done := make(chan struct{})
	core.returns[e] = done
	core.start(owner, func() {
		core.end(e.address, body)
		close(done)
		core.mu.Lock()
		defer core.mu.Unlock()
		if core.returns[e] == done {
			delete(core.returns, e)
		}
	})
}

// awaitReturn waits until a give-back has ended, or ctx.
func (core *core) awaitReturn(ctx context.Context, e errand) {
	core.mu.Lock()
	done := core.returns[e]
	core.mu.Unlock()
	if done != nil {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

func (core *core) start(owner *owner, do func()) {
	owner.count(1)
	go func() {
		do()
		core.mu.Lock()
		defer core.mu.Unlock()
		core.rest(owner)
	}()
}

func (core *core) rest(owner *owner) {
	owner.count(-1)
	core.idle.Broadcast()
}

// segment writes with % signs what is reserved in a URL (RFC 3986, 2.3), but for the colon.
var segment = strings.NewReplacer("+", "%20", "%3A", ":")

// address is the URL of a name at its server.
func (c *DistributedLockClient) address(name string) (string, *LockError) {
	if err := c.refused(); err != nil {
		return "", err
	}
	if !isText(name, 256) || strings.Contains(name, " ") || name == "." || name == ".." {
		return "", wrong("a name: want 1 to 256 bytes of UTF-8 without blanks and control characters, and not . or ..")
	}
	shard := 0
	if len(c.core.servers) > 1 {
		shard = c.core.shard(name, len(c.core.servers))
	}
	if shard < 0 || shard >= len(c.core.servers) {
		return "", wrong("Shard: %d is none of the servers 0 to %d", shard, len(c.core.servers)-1)
	}
	return c.core.servers[shard] + "/locks/" + segment.Replace(url.QueryEscape(name)), nil
}

func isText(text string, most int) bool {
	return text != "" && len(text) <= most && utf8.ValidString(text) && strings.IndexFunc(text, unicode.IsControl) < 0
}

// random has so many bytes that nobody can guess.
func random(size int) []byte {
	bytes := make([]byte, size)
	if _, err := rand.Read(bytes); err != nil {
		panic("distlock: the system has no randomness: " + err.Error())
	}
	return bytes
}

// first is the options, of which a call may have one.
func first[T any](options []T) (o T, err *LockError) {
	if len(options) > 1 {
		return o, wrong("more than one %T", o)
	}
	if len(options) == 1 {
		o = options[0]
	}
	return o, nil
}

package distlock

import (
	"context"
	"encoding/json"
	"net/url"
	"time"
)

// Status is what a server shows of a name. Times are by the server's clock, lengths in seconds.
type Status struct {
	LockName string
	Locked   bool
	Limit    int
	Space    string // "lock" or "semaphore", only in lists
	Waiters  int
	Holders  []Holder
	Queue    []Queued // the first 1,000 waiters, not in lists
}

// Holder is one hold of a lock.
type Holder struct {
	LockID, ClientID      string
	AcquiredAt, ExpiresAt time.Time
	TTL                   float64 // the rest of the lease
	Metadata              json.RawMessage
}

// Queued is a client that waits for a lock.
type Queued struct {
	ClientID string
	Waited   float64
}

// Stats are the counters of a server since its start. Lengths are in seconds.
type Stats struct {
	ActiveLocks, ActiveKeys, WaitingRequests, Connections                uint64
	TotalAcquired, TotalReleased, TotalExpired, TotalClosed, TotalForced uint64
	TotalAdopted, TotalWaitTimeouts, TotalCancelled                      uint64
	Renewals, RenewalFailures, DeadlocksDetected                         uint64
	AverageWaitTime, MaxWaitTime, Uptime                                 float64
	Version                                                              string
}

// Health is the sign of life of a server. Its Status is "ok", its Uptime in seconds.
type Health struct {
	Status, Version string
	Uptime          float64
}

// QueryOption narrows what Status and ForceRelease speak of.
type QueryOption func(url.Values)

// OfSemaphore means the semaphore of that name, which Limit made, and not the lock.
func OfSemaphore() QueryOption { return func(query url.Values) { query.Set("space", "semaphore") } }

// OnlyLock means only the hold with this ID.
func OnlyLock(id string) QueryOption { return func(query url.Values) { query.Set("lockId", id) } }

// Status shows who holds a name and who waits for it. A free name is no error.
func (c *DistributedLockClient) Status(ctx context.Context, name string,
	options ...QueryOption) (status Status, err error) {
	err = c.queryName(ctx, "GET", name, "/status", options, &status, func() bool { return status.LockName == name })
	return status, err
}

// ForceRelease takes a lock from all who hold it, and says from whom. They hear of it at their next renewal, so they may
// work on for a third of their lease. The error is ErrLockNotHeld if nobody holds it. A request without an answer is not
// repeated: it could take the lock from the next holder.
func (c *DistributedLockClient) ForceRelease(ctx context.Context, name string,
	options ...QueryOption) ([]Holder, error) {
	var answer struct{ Locks []Holder }
	err := c.queryName(ctx, "DELETE", name, "", options, &answer, func() bool { return answer.Locks != nil })
	return answer.Locks, err
}

// Locks lists what is held on all servers under names that begin with prefix, page by page. It is no snapshot.
func (c *DistributedLockClient) Locks(ctx context.Context, prefix string) (all []Status, err error) {
	err = c.queryAll(func(server string) *LockError {
		for query := (url.Values{"limit": {"100"}, "prefix": {prefix}}); ; {
			var page struct {
				Locks []Status
				Next  string
			}
			err := c.query(ctx, "GET", server+"/locks?"+query.Encode(), &page, func() bool {
				return page.Locks != nil && (page.Next == "" || page.Next != query.Get("after"))
			})
			all = append(all, page.Locks...)
			if err != nil || page.Next == "" {
				return err
			}
			query.Set("after", page.Next)
		}
	})
	return all, err
}

// Stats are the counters of each server, in the order of their addresses.
func (c *DistributedLockClient) Stats(ctx context.Context) ([]Stats, error) {
	return ofEach(ctx, c, "/locks/stats", func(stats Stats) bool { return stats.Version != "" })
}

// Health is a sign of life of each server, in the order of their addresses. It needs no token.
func (c *DistributedLockClient) Health(ctx context.Context) ([]Health, error) {
	return ofEach(ctx, c, "/health", func(health Health) bool { return health.Status != "" })
}

func ofEach[T any](ctx context.Context, c *DistributedLockClient, path string,
	isWhole func(T) bool) (all []T, err error) {
	err = c.queryAll(func(server string) *LockError {
		var answer T
		err := c.query(ctx, "GET", server+path, &answer, func() bool { return isWhole(answer) })
		all = append(all, answer)
		return err
	})
	return all, err
}

func (c *DistributedLockClient) queryAll(ask func(server string) *LockError) error {
	err := c.refused()
	for i := 0; i < len(c.core.servers) && err == nil; i++ {
		err = ask(c.core.servers[i])
	}
	return orNil(err)
}

func (c *DistributedLockClient) queryName(ctx context.Context, method, name, path string,
	options []QueryOption, into interface{}, isWhole func() bool) error {
	address, err := c.address(name)
	if err != nil {
		return err
	}
	query := url.Values{}
	for _, option := range options {
		option(query)
	}
	return orNil(c.query(ctx, method, address+path+"?"+query.Encode(), into, isWhole))
}

func (c *DistributedLockClient) query(ctx context.Context, method, address string,
	into interface{}, isWhole func() bool) (err *LockError) {
	r := request{what: method + " " + address, method: method, url: address, isTry: true, patience: answerPatience, until: now() + answerPatience}
	if method == "DELETE" {
		err = c.core.once(ctx, r, into)
	} else {
		_, _, err = c.core.repeat(ctx, r, into)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return contextError(ctx.Err(), address)
	case err == nil && !isWhole():
		return nonsense(r.what, "it lacks what was asked for")
	}
	return err
}

// orNil is an error that is nil, not a nil pointer in an error.
func orNil(err *LockError) error {
	if err == nil {
		return nil
	}
	return err
}

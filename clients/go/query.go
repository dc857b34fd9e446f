package distlock

import (
	"context"
	"encoding/json"
	"fmt"
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
	r := request{what: fmt.Sprintf("status of %q", name), method: "GET"}
	err = orNil(c.queryName(ctx, r, name, "/status", valuesOf(options), &status,
		func() bool { return status.LockName == name }))
	return status, err
}

// ForceRelease takes a lock from all who hold it, and says from whom. They hear of it at their next renewal, so they may
// work on for a third of their lease. The error is ErrLockNotHeld if nobody holds it. A request without an answer is
// repeated only with OnlyLock: without, it could take the lock from the next holder. If the answer of one that was
// repeated was lost, the Holder has its LockID only.
func (c *DistributedLockClient) ForceRelease(ctx context.Context, name string,
	options ...QueryOption) ([]Holder, error) {
	var answer struct{ Locks []Holder }
	query := valuesOf(options)
	what := fmt.Sprintf("forced release of %q", name)
	err := c.queryName(ctx, request{what: what, method: "DELETE", isFresh: !query.Has("lockId")}, name, "", query,
		&answer, func() bool { return answer.Locks != nil })
	if err != nil && err.Kind == ErrLockNotHeld && err.isUncertain {
		return []Holder{{LockID: query.Get("lockId")}}, nil
	}
	return answer.Locks, orNil(err)
}

// Locks lists what is held on all servers under names that begin with prefix, page by page. It is no snapshot.
func (c *DistributedLockClient) Locks(ctx context.Context, prefix string) (all []Status, err error) {
	err = c.queryAll(func(server string) *LockError {
		for query := (url.Values{"limit": {"100"}, "prefix": {prefix}}); ; {
			var page struct {
				Locks []Status
				Next  string
			}
			r := request{what: "list of locks", method: "GET", url: server + "/locks?" + query.Encode()}
			err := c.query(ctx, r, &page, func() bool {
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
		r := request{what: "GET " + path, method: "GET", url: server + path}
		err := c.query(ctx, r, &answer, func() bool { return isWhole(answer) })
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

func valuesOf(options []QueryOption) url.Values {
	query := url.Values{}
	for _, option := range options {
		option(query)
	}
	return query
}

func (c *DistributedLockClient) queryName(ctx context.Context, r request, name, path string, query url.Values,
	into interface{}, isWhole func() bool) *LockError {
	address, err := c.address(name)
	if err != nil {
		return err
	}
	r.url = address + path + "?" + query.Encode()
	return c.query(ctx, r, into, isWhole)
}

// query asks as a try does: without a server it fails at once. A request on a fresh connection is one that must not be
// repeated: the end of a kept one would say nothing.
func (c *DistributedLockClient) query(ctx context.Context, r request,
	into interface{}, isWhole func() bool) (err *LockError) {
	r.isTry, r.patience, r.until = true, answerPatience, now()+answerPatience
	if r.isFresh {
		err = c.core.once(ctx, r, into)
	} else {
		var isUncertain bool
		if _, isUncertain, err = c.core.repeat(ctx, r, into); err != nil {
			err.isUncertain = isUncertain
		}
	}
	switch {
	case err != nil && ctx.Err() != nil && err.Kind == ErrLockUnavailable:
		err.cause = ctx.Err()
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

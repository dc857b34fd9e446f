package distlock

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What can go wrong, for errors.Is. Each error of this package is a *LockError and one of these, but for a wait that its
// context cancelled: that is context.Canceled. A wait whose context expired is context.DeadlineExceeded and also
// ErrLockTimeout, or ErrLockUnavailable if no server could be asked.
var (
	// ErrLockTimeout: others held the lock for as long as the call was to wait. The Reason is "timeout"; "quarantine"
	// while a server that came back without its locks lets old leases end; or "late" if the grant came too late to be used.
	ErrLockTimeout = errors.New("the lock was not free in time, wait longer or try later")
	// ErrLockDeadlock: the wait would never end, since all who hold the lock wait for this actor. The Cycle says how.
	// Release what this actor holds and begin again.
	ErrLockDeadlock = errors.New("this wait would never end")
	// ErrLockLost: the lease ended, or an administrator or a restart of the server took the lock.
	ErrLockLost = errors.New("the lock is lost, stop the work that it protects")
	// ErrLockNotHeld: the lock was released before, or nobody holds it.
	ErrLockNotHeld = errors.New("the lock is not held")
	// ErrLockLimitMismatch: others use this name with another limit.
	ErrLockLimitMismatch = errors.New("others use this name with another limit, give all the same")
	// ErrLockDenied: the token is missing or wrong, or does not allow this.
	ErrLockDenied = errors.New("the server denies this")
	// ErrLockUnavailable: no server was reached, or its certificate is not to be trusted; or the client is closed.
	ErrLockUnavailable = errors.New("the server cannot be reached, check its address or try again later")
	// ErrLockDraining: the server is about to stop. It is also ErrLockUnavailable.
	ErrLockDraining = errors.New("the server is about to stop, try again later")
	// ErrLockCapacity: the server has as many locks, waiters or requests as it may have.
	ErrLockCapacity = errors.New("the server is full, try again later or raise its limits")
	// ErrLockRequest: an argument is wrong.
	ErrLockRequest = errors.New("this request is wrong")
	// ErrLockServer: the answer is an error of the server, or none that dflockd gives.
	ErrLockServer = errors.New("this is no answer of a working dflockd, check the address and the server's log")
)

// Edge says that a client waits for a lock.
type Edge struct {
	ClientID string `json:"clientId"`
	WaitsFor string `json:"waitsFor"`
}

// LockError is the type of all errors of this package.
type LockError struct {
	Kind      error  // one of the errors above, or context.Canceled
	Code      string // the server's word for it, as "not-held"; what the client found, as "no-answer"; or ""
	Status    int    // of the answer, 0 without one
	Detail    string // what happened, in English
	RequestID string // the request in the server's log; this is no secret
	Reason    string // of an ErrLockTimeout
	Cycle     []Edge // of an ErrLockDeadlock
	cause     error
	what      string // that was asked for, as `acquire of "k"`

	isRepeatable bool // Sending the request again can help.
	isUncertain  bool // The server may have carried the request out.
}

func (e *LockError) Error() string {
	text := "distlock: "
	if e.what != "" {
		text += e.what + ": "
	}
	if e.Code == "closed" && e.Status == 0 {
		return text + e.Detail
	}
	text += e.Kind.Error()
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Code != "" && e.Status != 0 {
		text += fmt.Sprintf(" (%d %s)", e.Status, e.Code)
	}
	return text
}

// Is makes errors.Is know the errors above.
func (e *LockError) Is(target error) bool {
	return target == e.Kind || e.Kind == ErrLockDraining && target == ErrLockUnavailable
}

// Unwrap is the error of the network, the context or the scoped function behind this one, or nil.
func (e *LockError) Unwrap() error { return e.cause }

func wrong(format string, values ...interface{}) *LockError {
	return &LockError{Kind: ErrLockRequest, Detail: fmt.Sprintf(format, values...)}
}

func closed() *LockError {
	return &LockError{Kind: ErrLockUnavailable, Code: "closed", Detail: "the client is closed, make another one"}
}

func nonsense(what, detail string) *LockError {
	return &LockError{Kind: ErrLockServer, Code: "nonsense", Status: 200, Detail: detail, what: what, isUncertain: true}
}

// kinds are the errors by the server's code for them, or else by the status.
var kinds = map[string]error{
	"draining": ErrLockDraining, "not-held": ErrLockNotHeld, "limit-mismatch": ErrLockLimitMismatch,
	"deadlock": ErrLockDeadlock, "max-locks": ErrLockCapacity, "max-waiters": ErrLockCapacity, "429": ErrLockCapacity,
	"401": ErrLockDenied, "403": ErrLockDenied, "422": ErrLockRequest,
	"502": ErrLockUnavailable, "503": ErrLockUnavailable, "504": ErrLockUnavailable,
}

func kindOf(status int, code string) error {
	for _, key := range []string{code, strconv.Itoa(status)} {
		if kind := kinds[key]; kind != nil {
			return kind
		}
	}
	if status/100 == 4 && code != "" {
		return ErrLockRequest
	}
	return ErrLockServer
}

// hide takes secrets out of what a server, or one in between, says. A word that dflockd is known to say stays, though a
// token may be a part of it.
func hide(text string, secrets []string) string {
	switch text {
	case "draining", "not-held", "limit-mismatch", "deadlock", "max-locks", "max-waiters",
		"timeout", "quarantine", "superseded", "cancelled":
		return text
	}
	for _, secret := range secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return text
}

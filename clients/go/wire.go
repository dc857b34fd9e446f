package distlock

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	connectPatience = 5 * time.Second
	answerPatience  = 5 * time.Second
	// One answer may be so long: a page of 1,000 locks with 4 KiB of metadata each fits.
	answerMax = 32 << 20
)

// wire sends requests. It knows what an answer means for a repeat, but nothing of locks.
type wire struct {
	token func() string // A function, since no print calls it.
	// Requests share connections, but a repeat has one of its own: what ended the last one may have ended all.
	pooled, fresh *http.Transport
}

// request is one thing to ask, which may be sent several times.
type request struct {
	method, url string
	body        interface{}
	secrets     []string // No error shows these.
	isFresh     bool
	isTry       bool          // Without a server it fails at once.
	pauseMax    time.Duration // the longest pause between repeats, 0 for 2 s
	patience    time.Duration // how long one sending waits for its answer
}

func newWire(token string, config *tls.Config) *wire {
	// Without Proxy, the proxies of the environment are ignored. With an empty TLSNextProto, there is no HTTP/2.
	pooled := &http.Transport{DialContext: (&net.Dialer{Timeout: connectPatience}).DialContext, TLSClientConfig: config,
		TLSHandshakeTimeout: connectPatience, MaxIdleConnsPerHost: 256, IdleConnTimeout: 60 * time.Second,
		DisableCompression: true, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	fresh := pooled.Clone()
	fresh.DisableKeepAlives = true
	return &wire{func() string { return token }, pooled, fresh}
}

// repeat sends a request until an answer says more than that there is none, or until ctx ends. It says when the last one
// was sent, and whether any of them may have been carried out without an answer.
func (w *wire) repeat(ctx context.Context, r request, into interface{}) (sent time.Duration, isUncertain bool, err *LockError) {
	for pace := (pace{limit: r.pauseMax}); ; r.isFresh = true {
		sent = now()
		err = w.once(ctx, r, into)
		isUncertain = isUncertain || err != nil && err.isUncertain
		if err == nil || !err.isRepeatable || r.isTry && !err.isUncertain || !sleep(ctx, pace.next()) {
			return sent, isUncertain, err
		}
	}
}

// once sends a request once and reads its answer into `into`.
func (w *wire) once(ctx context.Context, r request, into interface{}) *LockError {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	var body []byte
	if r.body != nil {
		body, _ = json.Marshal(r.body) // Text and numbers; metadata was checked before.
	}
	message, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(body))
	if err != nil {
		return wrong("the address of the server: want http://host:port")
	}
	message.Header.Set("Content-Type", "application/json")
	if token := w.token(); token != "" {
		message.Header.Set("Authorization", "Bearer "+token)
	}
	transport := w.pooled
	if r.isFresh {
		transport = w.fresh
	}
	response, err := transport.RoundTrip(message)
	if err != nil {
		return unanswered(message, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	if err != nil {
		return unanswered(message, err)
	}
	if response.StatusCode != http.StatusOK {
		return refusal(response, data, append(r.secrets, w.token()))
	}
	if json.Unmarshal(data, into) != nil {
		return nonsense("it is not the JSON that was expected")
	}
	return nil
}

func unanswered(message *http.Request, err error) *LockError {
	result := &LockError{Kind: ErrLockUnavailable, cause: err, isRepeatable: true, isUncertain: true}
	var network *net.OpError
	isRefused := errors.As(err, &network) && network.Op == "dial"
	isTLS := errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) ||
		errors.As(err, new(x509.CertificateInvalidError)) || errors.As(err, new(tls.RecordHeaderError))
	switch {
	case isRefused || isTLS:
		result.Detail = fmt.Sprintf("no connection to %s: %v", message.URL.Host, err)
		result.isRepeatable, result.isUncertain = isRefused, false
	case message.Context().Err() != nil:
		result.Detail = message.URL.Host + " gave no answer in time"
	default:
		result.Detail = "the connection to " + message.URL.Host + " ended without a whole answer"
	}
	return result
}

// refusal is the error that an answer stands for whose status is not 200 (RFC 9457).
func refusal(response *http.Response, data []byte, secrets []string) *LockError {
	// A server in between may show what it was sent.
	for _, secret := range secrets {
		if secret != "" {
			data = bytes.ReplaceAll(data, []byte(secret), []byte("***"))
		}
	}
	var problem struct {
		Code, Detail, Instance string
		Cycle                  []Edge
	}
	if json.Unmarshal(data, &problem) != nil || problem.Code == "" {
		problem.Detail = fmt.Sprintf("%s says %d and gives no reason", response.Request.URL.Host, response.StatusCode)
	}
	// The server's own words are for those who write the header themselves.
	if problem.Code == "unauthorized" {
		problem.Detail = "the server does not accept this token"
		if response.Request.Header.Get("Authorization") == "" {
			problem.Detail = "this server needs a token: ClientOptions{Token: ...}"
		}
	}
	kind := kindOf(response.StatusCode, problem.Code)
	isAway := kind == ErrLockUnavailable
	return &LockError{Kind: kind, Code: problem.Code, Status: response.StatusCode, Detail: problem.Detail,
		RequestID: problem.Instance, Cycle: problem.Cycle,
		isRepeatable: isAway || kind == ErrLockDraining, isUncertain: isAway || kind == ErrLockServer}
}

// pace says when to repeat: at once, then after 50 ms, then after ever longer, up to 2 s.
type pace struct{ most, limit time.Duration }

func (p *pace) next() time.Duration {
	pause := p.most
	p.most = clamp(2*p.most, 50*time.Millisecond, 2*time.Second)
	if p.limit > 0 {
		p.most = shorter(p.most, p.limit)
	}
	return pause - pause/4*time.Duration(random(1)[0])/256
}

func sleep(ctx context.Context, d time.Duration) (isDone bool) {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

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
	"net/http/httptrace"
	"strings"
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
	token string
	// Requests share connections, but a repeat has one of its own: what ended the last one may have ended all.
	pooled, fresh *http.Transport
}

// request is one thing to ask, which may be sent several times.
type request struct {
	what        string // it is, for errors
	method, url string
	body        object
	isFresh     bool
	isTry       bool          // Without a server it fails at once.
	pauseMax    time.Duration // the longest pause between repeats, 0 for 2 s
	patience    time.Duration // how long one sending waits for its answer
	until       time.Duration // No repeat is sent from then on.
}

// object is one of JSON.
type object map[string]interface{}

func newWire(token string, config *tls.Config) *wire {
	// Without Proxy, the proxies of the environment are ignored. With an empty TLSNextProto, there is no HTTP/2.
	pooled := &http.Transport{DialContext: (&net.Dialer{Timeout: connectPatience}).DialContext, TLSClientConfig: config,
		TLSHandshakeTimeout: connectPatience, MaxIdleConnsPerHost: 256, IdleConnTimeout: 60 * time.Second,
		DisableCompression: true, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	fresh := pooled.Clone()
	fresh.DisableKeepAlives = true
	return &wire{token, pooled, fresh}
}

// repeat sends a request until an answer says more than that there is none, or until ctx ends. It says when the last one
// was sent, and whether any of them may have been carried out without an answer.
func (w *wire) repeat(ctx context.Context, r request,
	into interface{}) (sent time.Duration, isUncertain bool, err *LockError) {
	ctx, cancel := context.WithTimeout(ctx, r.until-now())
	defer cancel()
	for pace := (pace{limit: r.pauseMax}); ; r.isFresh = true {
		sent = now()
		err = w.once(ctx, r, into)
		isUncertain = isUncertain || err != nil && err.isUncertain
		if err == nil || !err.isRepeatable || r.isTry && !err.isUncertain || !sleep(ctx, pace.next()) ||
			now() >= r.until { // The timer of ctx stands still in suspend.
			return sent, isUncertain, err
		}
	}
}

// secrets are what no error may show of a request.
func (w *wire) secrets(r request) (all []string) {
	for _, each := range []interface{}{r.body["requestId"], r.body["renewalToken"], w.token} {
		if text, _ := each.(string); text != "" {
			all = append(all, text)
		}
	}
	return all
}

// once sends a request once and reads its answer into `into`.
func (w *wire) once(ctx context.Context, r request, into interface{}) *LockError {
	err := w.send(ctx, r, into)
	if err != nil {
		err.what = r.what
	}
	return err
}

func (w *wire) send(ctx context.Context, r request, into interface{}) *LockError {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	isSent := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { isSent = true }})
	var body []byte
	if r.body != nil {
		body, _ = json.Marshal(r.body) // Text and numbers; metadata was checked before.
	}
	message, err := http.NewRequestWithContext(ctx, r.method, r.url, bytes.NewReader(body))
	if err != nil {
		return wrong("the address of the server: want http://host:port")
	}
	message.Header.Set("Content-Type", "application/json")
	if w.token != "" {
		message.Header.Set("Authorization", "Bearer "+w.token)
	}
	transport := w.pooled
	if r.isFresh {
		transport = w.fresh
	}
	response, err := transport.RoundTrip(message)
	var data []byte
	if err == nil {
		defer response.Body.Close()
		data, err = io.ReadAll(io.LimitReader(response.Body, answerMax))
	}
	if err != nil {
		return unanswered(message, isSent, err, w.secrets(r))
	}
	if response.StatusCode != http.StatusOK {
		return refusal(response, data, w.secrets(r))
	}
	if json.Unmarshal(data, into) != nil {
		return nonsense(r.what, "it is not the JSON that was expected")
	}
	return nil
}

func unanswered(message *http.Request, isSent bool, err error, secrets []string) *LockError {
	host := message.URL.Host
	result := &LockError{Kind: ErrLockUnavailable, Code: "no-answer", cause: err,
		isRepeatable: true, isUncertain: isSent}
	isTLS := errors.As(err, new(x509.UnknownAuthorityError)) || errors.As(err, new(x509.HostnameError)) ||
		errors.As(err, new(x509.CertificateInvalidError)) || errors.As(err, new(tls.RecordHeaderError))
	// For an answer that is not HTTP, net/http has no type. One that was cut amid "HTTP/1.1" is none of these.
	_, line, isOther := strings.Cut(err.Error(), `malformed HTTP response "`)
	told := hide(err.Error(), secrets)
	if told != err.Error() { // It has the first line of what is no answer.
		err, result.cause = nil, nil
	}
	switch {
	case isOther && !strings.HasPrefix(line, "H"):
		return &LockError{Kind: ErrLockServer, Code: "nonsense", cause: err, isUncertain: true,
			Detail: host + " does not speak HTTP, want the port of --http-port"}
	case !isSent:
		result.Code, result.Detail = "no-connection", fmt.Sprintf("no connection to %s: %s", host, told)
		if isTLS {
			result.Code, result.isRepeatable = "tls", false
		}
	case message.Context().Err() != nil:
		result.Detail = host + " gave no answer in time"
	default:
		result.Detail = "the connection to " + host + " ended without a whole answer"
	}
	return result
}

// refusal is the error that an answer stands for whose status is not 200 (RFC 9457).
func refusal(response *http.Response, data []byte, secrets []string) *LockError {
	var problem struct {
		Code, Detail, Instance string
		Cycle                  []Edge
	}
	_ = json.Unmarshal(data, &problem) // A page of a proxy has no code.
	// A server in between may show what it was sent.
	for _, text := range []*string{&problem.Code, &problem.Detail, &problem.Instance} {
		*text = hide(*text, secrets)
	}
	for i, edge := range problem.Cycle {
		problem.Cycle[i] = Edge{hide(edge.ClientID, secrets), hide(edge.WaitsFor, secrets)}
	}
	status := response.StatusCode
	kind := kindOf(status, problem.Code)
	if problem.Code == "" {
		problem.Detail = fmt.Sprintf("%s says %d and gives no reason", response.Request.URL.Host, status)
		if kind == ErrLockServer {
			problem.Code = "nonsense"
		}
	}
	// The server's own words are for those who write the header themselves.
	if problem.Code == "unauthorized" {
		problem.Detail = "the server does not accept this token"
		if response.Request.Header.Get("Authorization") == "" {
			problem.Detail = "this server needs a token: ClientOptions{Token: ...}"
		}
	}
	isAway := status == http.StatusBadGateway || status == http.StatusGatewayTimeout
	return &LockError{Kind: kind, Code: problem.Code, Status: status, Detail: problem.Detail,
		RequestID: problem.Instance, Cycle: problem.Cycle,
		isRepeatable: isAway || kind == ErrLockDraining,
		isUncertain:  kind == ErrLockUnavailable || kind == ErrLockServer}
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

package mediawiki

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"
)

const (
	// maxURL is the length of a URL, in bytes, that every server on the way takes.
	maxURL = 8000

	// Without any progress for so long, a request ends. Wikimedia gives a GET
	// request one minute and a POST request 200 seconds.
	patienceGet  = 75 * time.Second
	patiencePost = 4 * time.Minute
)

var defaults = Params{"format": "json", "formatversion": 2, "errorformat": "plaintext"}

// merge returns the parameters of all, of which the last say what counts.
func merge(all ...Params) Params {
	merged := make(Params)
	for _, params := range all {
		maps.Copy(merged, params)
	}
	return merged
}

// call makes an api.php request, again if the wiki is busy, and decodes the
// answer.
func (c *Client) call(ctx context.Context, method string, params Params, result any) (*envelope, error) {
	v, err := encode(merge(defaults, c.config.Params, params))
	if err != nil {
		return nil, err
	}
	target := *c.api
	if method == http.MethodGet {
		target.RawQuery = v.texts.Encode()
		switch {
		case len(v.files) > 0:
			return nil, errors.New("mediawiki: a file cannot be sent with GET: use Post")
		case len(target.String()) > maxURL:
			return nil, fmt.Errorf("mediawiki: the URL would have more than %d bytes: use Post", maxURL)
		}
		resp, answer, err := c.send(ctx, method, &target, "application/json", nil)
		if err != nil {
			return nil, err
		}
		return c.decode(resp, answer, result)
	}
	// The action stays where a wiki's operators see it.
	action := v.texts.Get("action")
	target.RawQuery = url.Values{"action": {action}}.Encode()
	v.texts.Del("action")
	body, err := v.body()
	if err != nil {
		return nil, err
	}
	resp, answer, err := c.send(ctx, method, &target, "application/json", body)
	if err != nil {
		return nil, err
	}
	e, err := c.decode(resp, answer, result)
	switch _, busy := busyFor(resp); {
	case err == nil && slices.Contains([]string{"login", "clientlogin", "logout"}, action):
		c.tokens.clear()
	case err != nil && !body.replayable() && (busy || HasCode(err, "badtoken")):
		return nil, fmt.Errorf("%w; %w", err, errStream)
	}
	return e, err
}

// errStream tells why a request is not made again.
var errStream = errors.New("the file is a stream, which cannot be sent a second time: make the request anew")

// send sends a request until the wiki is not busy, and reads the answer.
func (c *Client) send(ctx context.Context, method string, target *url.URL, accept string, body *payload) (*http.Response, []byte, error) {
	budget := c.config.RetryBudget
	for {
		resp, answer, err := c.attempt(ctx, method, target, accept, body)
		if err != nil {
			return nil, nil, err
		}
		wait, busy := busyFor(resp)
		if !busy || wait > budget || body != nil && !body.replayable() {
			return resp, answer, nil
		}
		budget -= wait
		if c.config.OnWait != nil {
			c.config.OnWait(fmt.Errorf("mediawiki: the wiki is busy (%d %s)", resp.StatusCode, resp.Header.Get("MediaWiki-API-Error")), wait)
		}
		if err := pause(ctx, wait); err != nil {
			return nil, nil, fmt.Errorf("mediawiki: wait for a busy wiki: %w", err)
		}
	}
}

// errStalled is the end of a request that makes no progress.
var errStalled = fmt.Errorf("no progress for some minutes: %w", os.ErrDeadlineExceeded)

// attempt sends a request once, and reads the answer.
func (c *Client) attempt(ctx context.Context, method string, target *url.URL, accept string, body *payload) (*http.Response, []byte, error) {
	patience := patiencePost
	if method == http.MethodGet {
		patience = patienceGet
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(patience, func() { cancel(errStalled) })
	defer timer.Stop()
	watch := func(r io.Reader) io.ReadCloser {
		return &progress{r, func() { timer.Reset(patience) }}
	}

	req, err := http.NewRequestWithContext(ctx, method, target.String(), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("mediawiki: %w", bare(err))
	}
	if body != nil {
		req.Body = watch(body.open())
		req.ContentLength = body.length()
		if body.replayable() {
			req.GetBody = func() (io.ReadCloser, error) { return watch(body.open()), nil }
		}
		req.Header.Set("Content-Type", body.contentType)
	}
	req.Header.Set("User-Agent", c.config.UserAgent)
	req.Header.Set("Accept", accept)
	resp, err := c.Do(req)
	if err == nil {
		defer resp.Body.Close()
		var answer []byte
		answer, err = readAll(watch(resp.Body), resp.ContentLength, c.config.MaxAnswer)
		if err == nil {
			return resp, answer, nil
		}
	}
	if context.Cause(ctx) == errStalled {
		err = errStalled
	}
	return nil, nil, fmt.Errorf("mediawiki: %s %s: %w", method, target.Path, bare(err))
}

// readAll reads a body of at most limit bytes, of which length are announced, or
// -1.
func readAll(r io.Reader, length, limit int64) ([]byte, error) {
	var answer bytes.Buffer
	if 0 < length && length <= limit {
		answer.Grow(int(length) + bytes.MinRead)
	}
	if _, err := answer.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(answer.Len()) > limit {
		return nil, fmt.Errorf("the answer has more than %d bytes", limit)
	}
	return answer.Bytes(), nil
}

// A progress tells that bytes have passed.
type progress struct {
	io.Reader
	made func()
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if n > 0 {
		p.made()
	}
	return n, err
}

// Close leaves a caller's file open: it is the caller's.
func (p *progress) Close() error { return nil }

// bare takes the URL, whose query may be private, out of an error.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// busyFor tells whether a wiki, or what stands before it, wants a request
// later, and how much later.
func busyFor(resp *http.Response) (time.Duration, bool) {
	code := resp.Header.Get("MediaWiki-API-Error")
	if code == "" && resp.StatusCode < 400 {
		return 0, false // carried out
	}
	if wait, given := retryAfter(resp.Header.Get("Retry-After")); given {
		return max(time.Second, wait), true
	}
	switch {
	case code == "readonly":
		return 30 * time.Second, true
	case code == "maxlag", resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusServiceUnavailable:
		return 5 * time.Second, true
	}
	return 0, false
}

// retryAfter reads a Retry-After header (RFC 9110 section 10.2.3).
func retryAfter(value string) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date)), true
	}
	return 0, false
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// unmarshal decodes an answer's JSON into result, unless that is nil. JSON it
// has to be in any case.
func unmarshal(resp *http.Response, body []byte, result any) error {
	if result == nil {
		if !json.Valid(body) {
			return newHTTPError(resp, body)
		}
		return nil
	}
	if raw, ok := result.(*json.RawMessage); ok && raw != nil && json.Valid(body) {
		*raw = body
		return nil
	}
	err := json.Unmarshal(body, result)
	var syntax *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax) && !json.Valid(body):
		return newHTTPError(resp, body)
	}
	return fmt.Errorf("mediawiki: the answer does not fit the result: %w", err)
}

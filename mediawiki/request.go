package mediawiki

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxURL is the length of a URL, in bytes, that every server on the way takes.
const maxURL = 8000

// call makes an api.php request, again if the wiki is busy.
func (c *Client) call(ctx context.Context, method string, params Params, result any) (*envelope, error) {
	values, err := encode(merge(defaults, c.config.Params, params))
	if err != nil {
		return nil, err
	}
	target, body := *c.api, ""
	if method == http.MethodPost {
		// The action stays where a wiki's operators see it.
		target.RawQuery = url.Values{"action": values["action"]}.Encode()
		values.Del("action")
		body = values.Encode()
	} else {
		target.RawQuery = values.Encode()
		if len(target.String()) > maxURL {
			return nil, fmt.Errorf("mediawiki: the URL would have more than %d bytes: use Post", maxURL)
		}
	}
	answer, resp, err := c.send(ctx, method, &target, "application/x-www-form-urlencoded", body)
	if err != nil {
		return nil, err
	}
	return c.decode(resp, answer, result)
}

var defaults = Params{"format": "json", "formatversion": 2, "errorformat": "plaintext"}

// merge returns the parameters of all, of which the last say what counts.
func merge(all ...Params) Params {
	merged := make(Params)
	for _, params := range all {
		maps.Copy(merged, params)
	}
	return merged
}

// send sends a request until the wiki is not busy, and reads the answer.
func (c *Client) send(ctx context.Context, method string, target *url.URL, contentType, body string) ([]byte, *http.Response, error) {
	budget := c.config.RetryBudget
	for {
		req, err := http.NewRequestWithContext(ctx, method, target.String(), strings.NewReader(body))
		if err != nil {
			return nil, nil, fmt.Errorf("mediawiki: %w", bare(err))
		}
		if body == "" {
			req.Body, req.GetBody = nil, nil
		} else {
			req.Header.Set("Content-Type", contentType)
		}
		req.Header.Set("User-Agent", c.config.UserAgent)
		req.Header.Set("Accept", "application/json")
		resp, err := c.Do(req)
		if err != nil {
			return nil, nil, fmt.Errorf("mediawiki: %s %s: %w", method, target.Path, bare(err))
		}
		answer, err := io.ReadAll(io.LimitReader(resp.Body, c.config.MaxAnswer+1))
		resp.Body.Close()
		if err != nil {
			return nil, nil, fmt.Errorf("mediawiki: read the answer: %w", err)
		}
		if int64(len(answer)) > c.config.MaxAnswer {
			return nil, nil, fmt.Errorf("mediawiki: the answer has more than %d bytes", c.config.MaxAnswer)
		}
		wait, busy := busyFor(resp)
		if !busy || wait > budget {
			return answer, resp, nil
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

// bare takes the URL, whose query may be private, out of an error.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// busyFor tells whether a wiki wants a request later, and how much later.
func busyFor(resp *http.Response) (time.Duration, bool) {
	code := resp.Header.Get("MediaWiki-API-Error")
	wait, given := retryAfter(resp.Header.Get("Retry-After"))
	switch {
	case given:
		return wait, code != "" || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable
	case code == "maxlag", resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusServiceUnavailable:
		return 5 * time.Second, true
	case code == "readonly":
		return 30 * time.Second, true
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

// decode reads an answer of api.php.
func (c *Client) decode(resp *http.Response, body []byte, result any) (*envelope, error) {
	failure := &APIError{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	e := new(envelope)
	if !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{")) || json.Unmarshal(body, e) != nil {
		failure.advice = notJSON(resp, body)
		return nil, failure
	}
	for _, w := range e.warnings() {
		c.warn(w)
	}
	if failure.Errors = e.details(); len(failure.Errors) == 0 && resp.Header.Get("MediaWiki-API-Error") != "" {
		failure.Errors = []ErrorDetail{{Code: resp.Header.Get("MediaWiki-API-Error")}}
	}
	if len(failure.Errors) > 0 || resp.StatusCode != http.StatusOK {
		if c.session != nil && HasCode(failure, "assertuserfailed") {
			failure.advice = "if the session is logged in, its Authorization header was lost on the way to the wiki"
		}
		return nil, failure
	}
	if result != nil {
		if err := json.Unmarshal(body, result); err != nil {
			return nil, fmt.Errorf("mediawiki: the answer does not fit the result: %w", err)
		}
	}
	return e, nil
}

func (c *Client) warn(w Warning) {
	if c.config.OnWarning != nil {
		c.config.OnWarning(w)
		return
	}
	if _, seen := c.warned.LoadOrStore(w, true); !seen {
		slog.Warn("mediawiki: "+w.Text, "code", w.Code, "module", w.Module)
	}
}

// PostWithToken makes a POST request with a token of a type, such as "csrf". The
// token is fetched when it is needed, kept, and replaced once if the wiki calls
// it bad.
func (c *Client) PostWithToken(ctx context.Context, tokenType string, params Params, result any) error {
	stale := ""
	for {
		token, err := c.token(ctx, tokenType, stale)
		if err != nil {
			return err
		}
		_, err = c.call(ctx, http.MethodPost, merge(params, Params{"token": token}), result)
		if stale != "" || !HasCode(err, "badtoken") {
			return err
		}
		stale = token
	}
}

// token returns a token of a type other than stale.
func (c *Client) token(ctx context.Context, tokenType, stale string) (string, error) {
	select {
	case c.fetch <- struct{}{}:
		defer func() { <-c.fetch }()
	case <-ctx.Done():
		return "", fmt.Errorf("mediawiki: wait for a token: %w", context.Cause(ctx))
	}
	c.mu.Lock()
	token := c.tokens[tokenType]
	c.mu.Unlock()
	if token != "" && token != stale {
		return token, nil
	}
	var result struct {
		Query struct {
			Tokens map[string]string `json:"tokens"`
		} `json:"query"`
	}
	err := c.Get(ctx, Params{"action": "query", "meta": "tokens", "type": tokenType, "format": "json", "formatversion": 2}, &result)
	if err != nil {
		return "", err
	}
	token = result.Query.Tokens[tokenType+"token"]
	if token == "" {
		return "", fmt.Errorf("mediawiki: the wiki has no token of type %q", tokenType)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tokens == nil {
		c.tokens = make(map[string]string)
	}
	c.tokens[tokenType] = token
	return token, nil
}

// Query makes GET requests, the first with params and each further one with what
// the one before said to continue with, and yields each answer. An error ends
// it (https://www.mediawiki.org/wiki/API:Continue).
func (c *Client) Query(ctx context.Context, params Params) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		next := params
		for {
			var answer json.RawMessage
			e, err := c.call(ctx, http.MethodGet, next, &answer)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(answer, nil) || len(e.Continue) == 0 {
				return
			}
			next = merge(params, e.Continue)
		}
	}
}

// REST makes a request to a path below rest.php, such as "/v1/page/Earth", whose
// parts are escaped with [url.PathEscape], with body as JSON unless that is nil,
// and decodes the answer's JSON into result, unless that is nil.
func (c *Client) REST(ctx context.Context, method, path string, body, result any) error {
	target, err := url.Parse(strings.TrimSuffix(c.api.String(), c.api.Path[strings.LastIndexByte(c.api.Path, '/')+1:]) + "rest.php/" + strings.TrimPrefix(path, "/"))
	if err != nil {
		return fmt.Errorf("mediawiki: REST path: %w", bare(err))
	}
	payload := ""
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("mediawiki: REST body: %w", err)
		}
		payload = string(data)
	}
	answer, resp, err := c.send(ctx, method, target, "application/json", payload)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return newRESTError(resp, answer)
	}
	if result == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("mediawiki: the answer does not fit the result: %w", err)
	}
	return nil
}

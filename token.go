package oauth2

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What a program asks of an error, with [errors.Is].
var (
	// ErrReauthorize means that the user must log in (again): send them to
	// AuthorizeURL, or call Login.
	ErrReauthorize = errors.New("the user must log in again")

	// ErrDenied means that the user said no. The login stays pending.
	ErrDenied = errors.New("the user denied the request")

	// ErrState means that a callback does not belong to the pending login. The
	// login stays pending.
	ErrState = errors.New("the callback does not belong to a pending login")

	// ErrTemporary means that the wiki could not be asked, or not now. The
	// session is as it was: try later.
	ErrTemporary = errors.New("temporary failure")
)

// A TokenError is what the wiki answered instead of a token (RFC 6749 sections
// 4.1.2.1 and 5.2). Its errors.Is tells [ErrReauthorize] and [ErrTemporary]
// apart.
type TokenError struct {
	Status      int    // HTTP status; 0 if it came with a callback
	Code        string // such as "invalid_client"; "" if the answer was no OAuth error, but for instance a proxy's page
	Description string // a sentence of the wiki's, cleaned and at most 300 characters
	Hint        string // a detail that MediaWiki adds, likewise

	is     error  // ErrReauthorize, ErrTemporary or nil
	advice string // what to do, where that is known
	after  time.Duration
}

func (e *TokenError) Error() string {
	var b strings.Builder
	b.WriteString("oauth2: the wiki answered")
	if e.Status != 0 {
		fmt.Fprintf(&b, " %d", e.Status)
	}
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	if e.advice != "" {
		b.WriteString("; " + e.advice)
	}
	if e.is != nil {
		b.WriteString("; " + e.is.Error())
	}
	return b.String()
}

// Unwrap returns ErrReauthorize, ErrTemporary or nil.
func (e *TokenError) Unwrap() error { return e.is }

// The limits of a token request, and of what is read of any answer.
const (
	tokenTimeout  = 30 * time.Second
	maxAnswer     = 1 << 20  // bytes
	maxErrorBody  = 64 << 10 // bytes
	maxLifetime   = 100 * 365 * 24 * time.Hour
	maxHold       = 5 * time.Minute
	refreshAhead  = 60 * time.Second // at most a quarter of the lifetime
	retryInterval = time.Second      // between refreshes that fail
)

// A token is an access token with what belongs to it. It is not changed once
// it is current.
type token struct {
	access, refresh string
	expiry          time.Time // zero if unknown
	lifetime        time.Duration
	obtained        time.Time
	scope           string
	login           string // identifies the callback that it came from
	machine         bool   // by client credentials
	anonymous       bool   // without a user

	authorization []string // the header's value
}

func (t *token) renewable() bool { return t.refresh != "" || t.machine }

func (t *token) alive(now time.Time) bool { return t.expiry.IsZero() || now.Before(t.expiry) }

// due reports whether a token should be refreshed before it is used. The margin
// is less than the lifetime, or a short-lived token would always be due.
func (t *token) due(now time.Time) bool {
	return !t.expiry.IsZero() && t.renewable() && now.Add(min(refreshAhead, t.lifetime/4)).After(t.expiry)
}

// withLifetime sets when a token expires, counted from now.
func (t *token) withLifetime(d time.Duration) {
	if d > 0 {
		t.lifetime, t.expiry = d, t.obtained.Add(d)
	}
}

// seal makes what is computed of a token.
func (t *token) seal() *token {
	t.authorization = []string{"Bearer " + t.access}
	return t
}

// Refresh gets new tokens now. It is rarely needed, since Do refreshes by
// itself. The error is [ErrReauthorize] if the user must log in again,
// [ErrTemporary] if nothing has changed, a [*TokenError] with "invalid_client"
// if the client is not what the wiki has registered, and a [*SaveError] if the
// tokens are new but not saved. The refresh goes on when ctx ends; only the
// waiting does not.
func (s *Session) Refresh(ctx context.Context) error {
	t := s.core.current.Load().token
	if t == nil {
		return errNoLogin
	}
	s.core.dead.CompareAndSwap(t, nil)
	return s.core.renew(ctx, t)
}

var errNoLogin = fmt.Errorf("oauth2: nobody is logged in: %w", ErrReauthorize)

// ClientCredentials logs the client itself in, with the client credentials
// grant (RFC 6749 section 4.4), which the client must be registered for. The
// requests of a client that is not owner-only are anonymous then, so none of
// them asserts a user. The tokens are renewed like a user's.
func (s *Session) ClientCredentials(ctx context.Context) error {
	c := s.core
	return c.detach(ctx, func(ctx context.Context) error {
		t, err := c.request(ctx, url.Values{"grant_type": {"client_credentials"}})
		if err != nil {
			return err
		}
		t.machine, t.anonymous = true, true
		return c.put(ctx, &state{token: t})
	})
}

// usable returns the token to send, refreshed if it is about to expire.
func (c *core) usable(ctx context.Context) (*token, error) {
	t := c.current.Load().token
	if t == nil {
		return c.await(ctx)
	}
	if c.dirty.Load() {
		c.flush(ctx)
	}
	now := time.Now()
	dead := c.dead.Load() == t
	if !dead && !t.due(now) {
		return t, nil
	}
	if held := c.held.Load(); held != nil && now.Before(held.until) {
		if t.alive(now) {
			return t, nil
		}
		return nil, held.err
	}
	err := c.renew(ctx, t)
	if err == nil {
		return c.current.Load().token, nil
	}
	if !dead && t.alive(time.Now()) && errors.Is(err, ErrTemporary) && ctx.Err() == nil {
		return t, nil // the old token is good until the wiki says otherwise
	}
	return nil, err
}

// await looks whether another process has logged the user in.
func (c *core) await(ctx context.Context) (*token, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.unlock()
	if _, err := c.reload(ctx); err != nil {
		return nil, err
	}
	if t := c.current.Load().token; t != nil {
		return t, nil
	}
	return nil, errNoLogin
}

// A flight is a refresh under way.
type flight struct {
	done chan struct{}
	err  error
}

// renew makes the current token another than old: once for all callers, and
// for longer than any of them waits.
func (c *core) renew(ctx context.Context, old *token) error {
	c.mu.Lock()
	if c.current.Load().token != old {
		c.mu.Unlock()
		return nil
	}
	f := c.flight
	if f == nil {
		f = &flight{done: make(chan struct{})}
		c.flight = f
		go func() {
			f.err = c.refresh(context.WithoutCancel(ctx), old)
			c.mu.Lock()
			c.flight = nil
			c.mu.Unlock()
			close(f.done)
		}()
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return fmt.Errorf("oauth2: wait for a refresh: %w", context.Cause(ctx))
	}
}

// refresh does the work of renew. Its context has no end of its own.
func (c *core) refresh(ctx context.Context, old *token) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	if c.current.Load().token != old {
		return nil
	}
	// Another process may have been faster.
	if adopted, err := c.reload(ctx); err != nil {
		c.warn(ctx, "cannot read the store before a refresh", err)
	} else if adopted && !c.current.Load().token.due(time.Now()) {
		return nil
	}
	current := c.current.Load()
	old = current.token
	if c.dead.Load() == old || !old.renewable() {
		c.dead.Store(old)
		return fmt.Errorf("oauth2: the wiki has refused the access token, and there is no refresh token that it takes: %w", ErrReauthorize)
	}
	start := time.Now()
	next, err := c.refreshed(ctx, old)
	if errors.Is(err, ErrReauthorize) {
		return c.lost(ctx, old, err)
	}
	if err != nil {
		c.hold(err)
		return err
	}
	next.login = old.login
	c.held.Store(nil)
	c.info(ctx, "tokens refreshed", slog.Duration("duration", time.Since(start)))
	return c.put(ctx, &state{token: next, pending: current.pending})
}

// refreshed asks the wiki for the token after old.
func (c *core) refreshed(ctx context.Context, old *token) (*token, error) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {old.refresh}}
	if old.machine {
		form = url.Values{"grant_type": {"client_credentials"}}
	}
	next, err := c.request(ctx, form)
	if errors.Is(err, errAnswerLost) {
		// The wiki may have acted, and then still takes the same token for a
		// while, or it may not have.
		c.warn(ctx, "the answer to a refresh was lost, trying once more", err)
		next, err = c.request(ctx, form)
	}
	if err != nil {
		return nil, err
	}
	if next.refresh == "" {
		next.refresh = old.refresh // RFC 6749 section 6
	}
	next.machine, next.anonymous = old.machine, old.anonymous
	if next.scope == "" {
		next.scope = old.scope
	}
	return next, nil
}

// lost decides what to make of a refresh token that the wiki refused: if
// another process used it, what that process got will be in the store soon.
func (c *core) lost(ctx context.Context, old *token, refused error) error {
	const wait = 5 * time.Second
	for start, pause := time.Now(), 20*time.Millisecond; c.store != nil; pause *= 2 {
		adopted, err := c.reload(ctx)
		if err != nil {
			return fmt.Errorf("%w: the wiki refused the refresh token, and the store cannot tell whether another process has a newer one: %w", ErrTemporary, err)
		}
		if adopted {
			return nil
		}
		if time.Since(start) >= wait {
			break
		}
		pauseFor(ctx, pause)
	}
	c.dead.Store(old)
	c.warn(ctx, "login ended", refused)
	return refused
}

// hold keeps refreshes that would fail from following each other too closely.
func (c *core) hold(err error) {
	wait := retryInterval
	if e, ok := errorAs[*TokenError](err); ok {
		wait = max(wait, min(e.after, maxHold))
	}
	c.held.Store(&held{time.Now().Add(wait), err})
}

// errAnswerLost is a failure after which the wiki may or may not have acted.
var errAnswerLost = fmt.Errorf("%w: no answer", ErrTemporary)

// request sends a token request (RFC 6749 sections 3.2, 4.1.3 and 6), once.
func (c *core) request(ctx context.Context, form url.Values) (*token, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	form.Set("client_id", c.client.ID)
	if secret := c.client.Secret.reveal(); secret != "" {
		form.Set("client_secret", secret) // the one method of authentication, section 2.3.1
	}
	endpoint := c.home.script("rest.php/oauth2/access_token")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // what is sent once cannot follow a redirect
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	asked := time.Now()
	resp, err := exchange(c.wiki, req)
	if err != nil {
		return nil, c.failure(err, form)
	}
	defer resp.Body.Close()
	if resp.Request != nil && resp.Request.URL.String() != endpoint {
		return nil, errors.New("oauth2: a token request was redirected, and the answer not used: give the wiki's own URL")
	}
	body, err := readAnswer(resp.Body)
	if err != nil && (errors.Is(err, errTooLong) || !json.Valid(body)) {
		return nil, c.failure(err, form)
	}
	return c.parse(resp, body, form, asked) // also if what was cut off is only the connection's end
}

// failure is a token request without an answer. The text of the cause comes
// from the transport, which has seen the form.
func (c *core) failure(cause error, form url.Values) error {
	if u, ok := errorAs[*url.Error](cause); ok {
		cause = u.Err
	}
	if errors.Is(cause, errTooLong) {
		return fmt.Errorf("oauth2: token request: %w: %w", ErrTemporary, cause)
	}
	return fmt.Errorf("oauth2: token request: %w: %w", errAnswerLost, sanitize(cause, form))
}

// parse makes a token of an answer, or an error.
func (c *core) parse(resp *http.Response, body []byte, form url.Values, asked time.Time) (*token, error) {
	var answer map[string]json.RawMessage // whose names are case-sensitive, section 5.1
	err := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))).Decode(&answer)
	if _, isError := answer["error"]; isError || err != nil || resp.StatusCode != http.StatusOK {
		e := newTokenError(resp, body, form)
		e.classify(form.Get("grant_type"), form.Has("client_secret"))
		if cut(err) && resp.StatusCode == http.StatusOK {
			return nil, fmt.Errorf("oauth2: token request: %w: %w", errAnswerLost, e)
		}
		return nil, e
	}
	t := &token{
		access:   text(answer["access_token"]),
		refresh:  text(answer["refresh_token"]),
		scope:    text(answer["scope"]),
		obtained: asked,
	}
	if kind := text(answer["token_type"]); !strings.EqualFold(kind, "bearer") { // section 7.1
		return nil, fmt.Errorf("oauth2: the wiki's answer has a token of type %q, want Bearer", clean(kind, form))
	}
	if t.access == "" || !visible(t.access) {
		return nil, errors.New("oauth2: the wiki's answer has no usable access_token")
	}
	t.withLifetime(parseLifetime(answer["expires_in"]))
	if want := form.Get("scope"); t.scope != "" && want != "" && t.scope != want {
		c.warn(context.Background(), "the wiki granted other scopes than asked for", nil)
	}
	return t.seal(), nil
}

// cut reports whether JSON ended before its end.
func cut(err error) bool {
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// text returns a JSON string's value, or "".
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// parseLifetime reads an expires_in (RFC 6749 section 5.1) of any form. An
// unknown lifetime, which is legal, is 0.
func parseLifetime(raw json.RawMessage) time.Duration {
	s := strings.TrimSpace(string(raw))
	if q := text(raw); q != "" {
		s = strings.TrimSpace(q)
	}
	seconds, err := strconv.ParseFloat(s, 64)
	switch {
	case math.IsNaN(seconds) || err != nil && !math.IsInf(seconds, 0) || seconds == 0:
		return 0
	case seconds < 0:
		return time.Minute // over already, says the wiki: soon, but no loop
	}
	seconds = max(1, math.Floor(min(seconds, maxLifetime.Seconds())))
	return time.Duration(seconds) * time.Second
}

var errTooLong = errors.New("an answer of more than 1 MiB")

// readAnswer reads a body within the limit.
func readAnswer(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = errTooLong
	}
	return body, err
}

// newTokenError describes an answer that is no token. secrets are what must
// not come back in its text.
func newTokenError(resp *http.Response, body []byte, secrets url.Values) *TokenError {
	var answer struct {
		Error       any    `json:"error"`
		Description string `json:"error_description"`
		Hint        string `json:"hint"`
		ErrorKey    string `json:"errorKey"`
		HTTPReason  string `json:"httpReason"`
	}
	e := &TokenError{Status: resp.StatusCode, after: retryAfter(resp.Header)}
	if err := json.Unmarshal(body, &answer); err != nil {
		e.Description = fmt.Sprintf("an answer that is not JSON but %s of %d bytes", contentType(resp), len(body))
	} else {
		code, _ := answer.Error.(string)
		e.Code = clean(code, secrets)
		e.Description = clean(answer.Description, secrets)
		e.Hint = clean(answer.Hint, secrets)
		if e.Code == "" {
			e.Description = clean(cmp.Or(answer.ErrorKey, answer.HTTPReason), secrets)
		}
	}
	switch {
	case e.Status >= 500 || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout:
		e.is = ErrTemporary
	case e.Status/100 == 3:
		e.advice = "a token request follows no redirect: give the wiki's own URL, with https"
	case e.Code == "" && answer.HTTPReason != "": // of MediaWiki's rest.php, but not of its OAuth
		e.advice = "is the wiki's URL right, and does it have Extension:OAuth?"
	case e.Code == "":
		e.is = ErrTemporary // a proxy's, or of a wiki in pieces
	}
	return e
}

// classify decides what an OAuth error means for the login. See the table of
// errors in the README for what the versions of MediaWiki answer.
func (e *TokenError) classify(grant string, hasSecret bool) {
	if e.is != nil {
		return
	}
	switch {
	case e.Code == "invalid_client" && grant == "refresh_token" && !hasSecret:
		e.advice = "MediaWiki 1.45 and earlier want the secret of a non-confidential client too when it refreshes (T323855): set Client.Secret to the one shown at registration"
	case e.Code == "invalid_client" || e.Code == "unauthorized_client":
		e.advice = "check the client's ID, secret, redirect URL and grants against its registration"
	case grant == "authorization_code" && (e.Code == "invalid_grant" || e.Code == "invalid_request"):
		e.is = ErrReauthorize
	case grant == "refresh_token" && (e.Code == "invalid_grant" || e.Code == "invalid_request" && e.deadRefresh()):
		e.is = ErrReauthorize
	case e.Code == "server_error" || e.Code == "temporarily_unavailable":
		e.is = ErrTemporary
	}
}

// deadRefresh recognises how MediaWiki before 1.46 calls a refresh token dead.
func (e *TokenError) deadRefresh() bool {
	switch e.Hint {
	case "Token has been revoked", "Token has expired", "Cannot decrypt the refresh token", "Token is not linked to client":
		return true
	}
	return e.Description == "The refresh token is invalid."
}

// clean makes text of a server's fit for an error: one line, not too long, and
// without a secret that the server may have echoed.
func clean(s string, secrets url.Values) string {
	for _, name := range []string{"client_secret", "code", "code_verifier", "refresh_token"} {
		if secret := secrets.Get(name); len(secret) >= 8 { // less is no secret, and would leave no text
			s = strings.ReplaceAll(s, secret, redacted)
			s = strings.ReplaceAll(s, url.QueryEscape(secret), redacted)
		}
	}
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\ufffd' }), " ")
	if runes := []rune(s); len(runes) > 300 {
		s = string(runes[:300]) + "…"
	}
	return s
}

// sanitize returns err, or its text without secrets if it has any.
func sanitize(err error, secrets url.Values) error {
	if s := err.Error(); strings.Contains(clean(s, secrets), redacted) {
		return errors.New(clean(s, secrets))
	}
	return err
}

func contentType(resp *http.Response) string {
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil {
		return kind
	}
	return "of unknown type"
}

// retryAfter reads a Retry-After header (RFC 9110 section 10.2.3).
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(date))
	}
	return 0
}

// pauseFor waits.
func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// errorAs is errors.As for a type.
func errorAs[E error](err error) (E, bool) {
	var e E
	ok := errors.As(err, &e)
	return e, ok
}

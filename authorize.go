package oauth2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// AuthorizeURL returns the URL to send the user to. It is the same until the
// login completes, so that several tabs, and other processes with the same
// store, share one pending login. A session that is complete stays so until
// another login completes.
func (s *Session) AuthorizeURL(ctx context.Context) (string, error) {
	c := s.core
	if c.client.ID == "" {
		return "", errors.New("oauth2: a login needs Client.ID")
	}
	if err := c.lock(ctx); err != nil {
		return "", err
	}
	defer c.unlock()
	if !c.current.Load().pending.fits(&c.client) {
		if _, err := c.reload(ctx); err != nil {
			return "", err
		}
	}
	current := c.current.Load()
	if p := current.pending; !p.fits(&c.client) {
		p = &pending{State: newState(), Verifier: newVerifier(), RedirectURL: c.client.RedirectURL, Scope: strings.Join(c.client.Scopes, " ")}
		current = &state{pending: p, token: current.token}
		c.dirty.Store(true)
		c.current.Store(current)
	}
	if c.dirty.Load() {
		// A callback may come to another process: a pending login that is not
		// saved is of no use.
		if err := c.put(context.WithoutCancel(ctx), current); err != nil {
			return "", err
		}
	}
	return c.authorizeURL(current.pending), nil
}

// fits reports whether a pending login is there and what the client would ask.
func (p *pending) fits(c *Client) bool {
	return p != nil && p.RedirectURL == c.RedirectURL && p.Scope == strings.Join(c.Scopes, " ")
}

// authorizeURL builds the authorization request (RFC 6749 section 4.1.1).
func (c *core) authorizeURL(p *pending) string {
	query := url.Values{
		"response_type":         {"code"},
		"client_id":             {c.client.ID},
		"state":                 {p.State},
		"code_challenge":        {challenge(p.Verifier)},
		"code_challenge_method": {challengeMethod},
	}
	if p.RedirectURL != "" {
		query.Set("redirect_uri", p.RedirectURL)
	}
	if p.Scope != "" {
		query.Set("scope", p.Scope)
	}
	return c.home.script("rest.php/oauth2/authorize") + "?" + query.Encode()
}

// Complete completes the login with the callback URL that the wiki sent the
// user to, absolute or relative: in a web application r.URL.String(). Calling
// it again with the same URL, as a reloaded page does, changes nothing.
//
// The error is [ErrDenied] if the user said no, and [ErrState] if the callback
// is not of the pending login: both leave the login pending. It is
// [ErrReauthorize] if the wiki did not take the code, and [ErrTemporary] if it
// could not be asked; a code is never sent twice, so the user goes to
// AuthorizeURL again. A [*SaveError] means that the user is logged in, but the
// store does not know yet. The login goes on when ctx ends; only the waiting
// does not.
func (s *Session) Complete(ctx context.Context, callbackURL string) error {
	c := s.core
	back, err := parseCallback(callbackURL)
	if err != nil {
		return err
	}
	if err := c.checkIssuer(back); err != nil {
		return err
	}
	return c.detach(ctx, func(ctx context.Context) error { return c.complete(ctx, back) })
}

// A callback is what a callback URL says (RFC 6749 sections 4.1.2 and 4.1.2.1).
type callback struct {
	code, state, iss         string
	err, description         string
	hasState, hasErr, hasIss bool
}

func parseCallback(callbackURL string) (*callback, error) {
	// The errors of package url quote what they cannot parse.
	u, err := url.Parse(strings.TrimSpace(callbackURL))
	if err != nil {
		return nil, errors.New("oauth2: the callback URL cannot be parsed: want the whole address that the wiki sent the user to")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errors.New("oauth2: the callback URL's query cannot be parsed: want the whole address that the wiki sent the user to")
	}
	for _, name := range []string{"code", "state", "error", "iss"} {
		if len(query[name]) > 1 { // RFC 6749 section 3.1
			return nil, fmt.Errorf("oauth2: the callback URL has %q more than once", name)
		}
	}
	back := &callback{
		code: query.Get("code"), state: query.Get("state"), iss: query.Get("iss"),
		err: query.Get("error"), description: query.Get("error_description"),
		hasState: query.Has("state"), hasErr: query.Has("error"), hasIss: query.Has("iss"),
	}
	if !back.hasErr && back.code == "" {
		return nil, errors.New("oauth2: the callback URL has neither a code nor an error: want the whole address that the wiki sent the user to")
	}
	return back, nil
}

// checkIssuer tells whether a callback is of the wiki that was asked (RFC 9207
// section 2.4).
func (c *core) checkIssuer(back *callback) error {
	want := c.client.Issuer
	if want == "" {
		want = c.home.origin
	}
	if !back.hasIss && c.client.Issuer == "" || back.iss == want {
		return nil
	}
	return fmt.Errorf("oauth2: the callback's issuer is not %q: %w", want, ErrState)
}

// complete does the work of Complete.
func (c *core) complete(ctx context.Context, back *callback) error {
	// Another process may have got the same callback, or begun this login.
	if _, err := c.reload(ctx); err != nil {
		return err
	}
	if c.isDone(back) {
		return nil
	}
	current := c.current.Load()
	if !c.expects(back) {
		return fmt.Errorf("oauth2: %w: it may be forged, of an older login, or of another user's session", ErrState)
	}
	if back.hasErr { // before the code, which then is not looked at
		return back.denial()
	}
	login := loginOf(back.state, back.code)
	if slices.Contains(current.pending.Sent, login) {
		return c.awaitLogin(ctx, back)
	}
	p := current.pending.sentWith(login)
	if err := c.put(ctx, &state{pending: p, token: current.token}); err != nil {
		// Not sent: when the program died now, it would be sent twice.
		c.current.Store(current)
		return err
	}
	return c.exchangeCode(ctx, p, back.code, login)
}

// expects reports whether a callback is of the pending login. A denial has no
// state, as MediaWiki sends it.
func (c *core) expects(back *callback) bool {
	p := c.current.Load().pending
	if p == nil {
		return false
	}
	if back.hasErr && !back.hasState {
		return true
	}
	return equalState(back.state, p.State)
}

// isDone reports whether a callback is the one that completed the login.
func (c *core) isDone(back *callback) bool {
	t := c.current.Load().token
	return t != nil && !back.hasErr && t.login != "" && equalState(t.login, loginOf(back.state, back.code))
}

// denial is what an error in a callback means.
func (b *callback) denial() error {
	e := &TokenError{Code: clean(b.err, nil), Description: clean(b.description, nil)}
	switch b.err {
	case "access_denied", "unauthorized_client": // the latter is MediaWiki's
		e.is = ErrDenied
	case "server_error", "temporarily_unavailable":
		e.is = ErrTemporary
	}
	return e
}

// awaitLogin waits for the process that has sent this callback's code already.
func (c *core) awaitLogin(ctx context.Context, back *callback) error {
	for range 10 {
		if c.store == nil {
			break
		}
		if _, err := c.reload(ctx); err != nil {
			return err
		}
		if c.isDone(back) {
			return nil
		}
		pauseFor(ctx, 200*time.Millisecond)
	}
	return fmt.Errorf("oauth2: this callback's code has been sent to the wiki before, and no answer came: %w", ErrReauthorize)
}

// exchangeCode makes tokens of a code (RFC 6749 section 4.1.3).
func (c *core) exchangeCode(ctx context.Context, p *pending, code, login string) error {
	start := time.Now()
	form := url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"code_verifier": {p.Verifier},
	}
	if p.RedirectURL != "" {
		form.Set("redirect_uri", p.RedirectURL)
	}
	t, err := c.request(ctx, form)
	if e, ok := errorAs[*TokenError](err); ok && e.Code != "" && !errors.Is(err, ErrTemporary) {
		// The wiki has answered: this login is over, the one before is not.
		return errors.Join(err, c.put(ctx, &state{token: c.current.Load().token}))
	}
	if err != nil {
		return err
	}
	t.login = login
	if t.scope == "" {
		t.scope = p.Scope
	} else if p.Scope != "" && t.scope != p.Scope {
		c.warn(ctx, "the wiki granted other scopes than were asked for", nil) // RFC 6749 section 3.3
	}
	c.dead.Store(nil)
	c.held.Store(nil)
	c.info(ctx, "logged in", slog.Duration("duration", time.Since(start)))
	return c.put(ctx, &state{token: t})
}

// Login logs in the user of a command-line program. It listens on the client's
// RedirectURL, which must be http on a loopback address with a port, such as
// "http://127.0.0.1:8765/callback", then calls show with the URL that the user
// is to open, and returns when the wiki has sent the user's browser back, when
// the user said no, or when ctx ends.
//
// Where it cannot listen, it calls paste instead, after show, which returns the
// address that the user was sent to, copied from the browser's address bar. If
// paste is nil that is an error. A program on a remote machine, where listening
// succeeds but no browser comes, has AuthorizeURL and Complete to do the same.
//
// The errors are those of Complete.
func (s *Session) Login(ctx context.Context, show func(authorizeURL string) error, paste func(context.Context) (callbackURL string, err error)) error {
	listeners, path, err := listen(ctx, s.core.client.RedirectURL)
	if err != nil && paste == nil {
		return err
	}
	defer closeAll(listeners)
	authorizeURL, err := s.AuthorizeURL(ctx)
	if err != nil {
		return err
	}
	if len(listeners) == 0 {
		if err := show(authorizeURL); err != nil {
			return err
		}
		callbackURL, err := paste(ctx)
		if err != nil {
			return err
		}
		return s.Complete(ctx, callbackURL)
	}
	return s.serve(ctx, listeners, path, func() error { return show(authorizeURL) })
}

// listen listens where a redirect URL leads (RFC 8252 sections 7.3 and 8.3).
func listen(ctx context.Context, redirectURL string) (listeners []net.Listener, path string, err error) {
	u, err := url.Parse(redirectURL)
	if err != nil || u.Scheme != "http" || !loopback(u.Hostname()) || u.Port() == "" || u.Port() == "0" {
		return nil, "", errors.New("oauth2: to listen for the callback, Client.RedirectURL must be http on a loopback address with a port, such as http://127.0.0.1:8765/callback, and registered so")
	}
	hosts := []string{u.Hostname()}
	if strings.EqualFold(u.Hostname(), "localhost") {
		hosts = []string{"127.0.0.1", "::1"} // a browser may try either
	}
	var config net.ListenConfig
	for _, host := range hosts {
		l, failure := config.Listen(ctx, "tcp", net.JoinHostPort(host, u.Port()))
		if failure != nil {
			err = fmt.Errorf("oauth2: listen for the callback: %w", failure)
			continue
		}
		listeners = append(listeners, l)
	}
	if len(listeners) > 0 {
		err = nil
	}
	path = u.EscapedPath()
	if path == "" {
		path = "/"
	}
	return listeners, path, err
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// serve waits for the callback that ends the login.
func (s *Session) serve(ctx context.Context, listeners []net.Listener, path string, show func() error) error {
	ended := make(chan error, 1)
	server := &http.Server{
		Handler:           &callbackHandler{session: s, ctx: ctx, path: path, ended: ended},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
	}
	closed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { closed <- server.Serve(l) }()
	}
	err := show()
	if err == nil {
		select {
		case err = <-ended:
		case <-ctx.Done():
			err = fmt.Errorf("oauth2: wait for the callback: %w", context.Cause(ctx))
		}
	}
	// The page must reach the browser before the program goes on.
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if server.Shutdown(stop) != nil {
		server.Close()
	}
	for range listeners {
		<-closed
	}
	return err
}

// A callbackHandler answers a browser that comes back from the wiki.
type callbackHandler struct {
	session *Session
	ctx     context.Context
	path    string
	ended   chan error
}

func (h *callbackHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if r.URL.EscapedPath() != h.path || !loopback(host) { // another site's name may lead here, too
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	err = h.session.Complete(h.ctx, r.URL.RequestURI())
	_, saved := errorAs[*SaveError](err)
	switch {
	case err == nil || saved && h.session.IsComplete():
		page(w, http.StatusOK, "You are logged in", "You can close this page and go back to the program.")
	case errors.Is(err, ErrDenied):
		page(w, http.StatusOK, "You are not logged in", "You said no, or the wiki did. You can close this page and go back to the program.")
	case errors.Is(err, ErrState) || !answered(err):
		page(w, http.StatusBadRequest, "This is not the login's callback", "The program still waits. Open the address that it shows.")
		return
	default:
		page(w, http.StatusBadGateway, "The login failed", "Go back to the program: it says why.")
	}
	select {
	case h.ended <- err:
	default:
	}
}

// answered reports whether an error of Complete is one that ends a login, and
// not a request that nobody but a stray visitor sent.
func answered(err error) bool {
	_, token := errorAs[*TokenError](err)
	_, save := errorAs[*SaveError](err)
	return token || save || errors.Is(err, ErrTemporary) || errors.Is(err, ErrReauthorize) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// page writes what the user sees at the end. It has nothing of the request in
// it, loads nothing, and tells nobody where it was (RFC 9700 section 4.2.4).
func page(w http.ResponseWriter, status int, title, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Connection", "close")
	w.WriteHeader(status)
	io.WriteString(w, `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>`+title+`</title>
<style>
	:root { color-scheme: light dark }
	body { font: 1.1em/1.5 system-ui, sans-serif; max-width: 32em; margin: 18vh auto; padding: 0 1em }
</style>
<h1>`+title+`</h1>
<p>`+text+`</p>
</html>
`)
}

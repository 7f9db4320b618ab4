// Package oauth2 logs users in to MediaWiki wikis with OAuth 2.0.
//
// It turns a [mediawiki.Session], which makes requests to a wiki, into a
// [Session] whose requests are made as a user: with the authorization code
// grant and PKCE (RFC 6749, RFC 7636), for confidential and non-confidential
// clients, with tokens that renew themselves.
//
//	wiki, err := mediawiki.NewClient("en.wikipedia.org", mediawiki.Config{UserAgent: "…"})
//	session, err := oauth2.NewSession(ctx, wiki, oauth2.Client{ID: "…"}, nil)
//	url, err := session.AuthorizeURL(ctx)      // send the user there
//	err = session.Complete(ctx, callbackURL)   // where the wiki sent the user
//	err = wiki.As(session).Get(ctx, mediawiki.Params{"action": "query", "meta": "userinfo"}, &result)
//
// A command-line program has [Session.Login] for the two steps in the middle.
//
// # Keeping a login
//
// The access tokens of a wiki live for four hours, and each refresh replaces
// them and kills the old ones. A Session refreshes by itself, once for however
// many goroutines. With a [Store] it also saves each new pair of tokens before
// using it, and adopts what another process with the same store saved. Without
// one, keep what [Session.Serialize] returns where only your program can read
// it. Never put it in a cookie: who has it is the user, and the client too.
//
// # Errors
//
// Ask with [errors.Is]: [ErrReauthorize] (the user must log in again),
// [ErrDenied] (the user said no), [ErrState] (the callback is not of this
// login), [ErrTemporary] (nothing is lost, try later). A [*TokenError] is what
// the wiki answered to a token request: its Code "invalid_client" says that the
// client's registration and the [Client] disagree. A [*SaveError] is what a
// Store answered: the session goes on with tokens that are not saved yet.
//
// What wikis do is told on https://www.mediawiki.org/wiki/OAuth/For_Developers.
package oauth2

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"

	"mediawiki.example/oauth2/mediawiki"
)

// A Client is a client as registered on a wiki's
// Special:OAuthConsumerRegistration, for Wikimedia's wikis that of
// meta.wikimedia.org.
type Client struct {
	// ID is the client ID (client key). It is required, unless AccessToken
	// is set.
	ID string

	// Secret is the client secret. It is optional for a non-confidential
	// client, and wanted by MediaWiki 1.45 and earlier even from those,
	// to refresh (https://phabricator.wikimedia.org/T323855).
	Secret Secret

	// AccessToken is what the wiki shows at the registration of an owner-only
	// client. A session with it is complete from the start, never refreshes
	// and needs no store.
	AccessToken Secret

	// RedirectURL is the callback URL as registered, to the letter. When it is
	// empty the wiki uses the registered one, but then a user who says no is
	// not sent back.
	RedirectURL string

	// Scopes are the grants to ask for, when they are to be fewer than those
	// that were registered, such as "basic" and "editpage".
	Scopes []string

	// Issuer is the wiki's issuer identifier, which a callback then must carry
	// (RFC 9207). MediaWiki has none yet, so leave it empty: then a callback
	// that does carry one is held against the origin of the wiki's URL.
	Issuer string
}

// validate reports what would be refused by any wiki.
func (c *Client) validate() error {
	if c.ID == "" && c.AccessToken.reveal() == "" {
		return errors.New("oauth2: the client has no ID: set Client.ID to what the wiki showed at its registration")
	}
	for name, value := range map[string]string{"ID": c.ID, "Secret": c.Secret.reveal(), "AccessToken": c.AccessToken.reveal()} {
		if !visible(value) {
			return fmt.Errorf("oauth2: Client.%s has a space, a line end or another character that no wiki issues", name)
		}
	}
	if c.RedirectURL != "" {
		u, err := url.Parse(c.RedirectURL)
		if err != nil || u.Scheme == "" || strings.Contains(c.RedirectURL, "#") {
			return errors.New("oauth2: Client.RedirectURL is not an absolute URL without a fragment") // RFC 6749 section 3.1.2
		}
	}
	for _, scope := range c.Scopes {
		if scope == "" || !visible(scope) {
			return fmt.Errorf("oauth2: Client.Scopes has %q: want one grant an element, such as \"basic\"", scope)
		}
	}
	return nil
}

// visible reports whether s has nothing but visible ASCII characters.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// A Secret is a string that does not print: not with package fmt, log/slog or
// encoding/json, also inside of other values. The zero Secret is empty.
type Secret struct {
	value *string // a pointer, since fmt prints unexported fields without asking
}

// NewSecret returns a Secret that holds value.
func NewSecret(value string) Secret {
	return Secret{&value}
}

func (s Secret) reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// String returns "[redacted]", or "" if the Secret is empty.
func (s Secret) String() string {
	if s.reveal() == "" {
		return ""
	}
	return redacted
}

const redacted = "[redacted]"

// Format writes what String returns, for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue returns what String returns.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns what String returns.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets the Secret to text, so that a Client can be read from a
// configuration file.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// Options are the options of a [Session]. The zero Options are useful.
type Options struct {
	// Store keeps the session's state between runs and among processes. When
	// it is nil, the state lives and dies with the Session, unless the program
	// keeps what Serialize returns.
	Store Store

	// Logger is told of logins, refreshes, adoptions, retries and failures to
	// save, without secrets. When it is nil, nobody is.
	Logger *slog.Logger

	// NoAssert leaves out the parameter assert=user, which otherwise goes into
	// every api.php request of a logged-in user that has no assert of its own,
	// so that a lost login is an error and not an anonymous edit
	// (https://www.mediawiki.org/wiki/API:Assert).
	NoAssert bool
}

// A Session makes requests to a wiki as a user. It is a [mediawiki.Session]
// that wraps another.
//
// All methods may be called from many goroutines at once.
type Session struct {
	core *core // the login, shared by the sessions that On returns
	wiki mediawiki.Session
	home home
	http *http.Client
}

// NewSession returns a session with the wiki that wiki speaks to. The wiki's
// URL must be https, or http on a loopback address. options may be nil.
//
// With a store, NewSession loads the state saved there, so that a user who has
// logged in before is still logged in. If the store cannot be read, or holds
// the state of another client or wiki, that is the error; nothing is
// overwritten.
func NewSession(ctx context.Context, wiki mediawiki.Session, client Client, options *Options) (*Session, error) {
	if err := client.validate(); err != nil {
		return nil, err
	}
	client.Scopes = slices.Clone(client.Scopes)
	core, err := newCore(wiki, client, cmp.Or(options, new(Options)))
	if err != nil {
		return nil, err
	}
	if err := core.load(ctx); err != nil {
		return nil, err
	}
	return newSession(core, wiki)
}

func newSession(core *core, wiki mediawiki.Session) (*Session, error) {
	home, err := newHome(wiki.APIURL())
	if err != nil {
		return nil, err
	}
	s := &Session{core: core, wiki: wiki, home: home}
	s.http = &http.Client{Transport: transport{s}, Jar: core.jar, CheckRedirect: s.checkRedirect}
	return s, nil
}

// On returns a session of the same user at another wiki of the same farm, for
// instance at a second Wikipedia. The sessions share one login: it completes,
// refreshes and is lost for all of them, always at the wiki of the session that
// [NewSession] returned. The bearer token is sent to wiki too, so it must be
// of the same farm.
func (s *Session) On(wiki mediawiki.Session) (*Session, error) {
	return newSession(s.core, wiki)
}

// APIURL returns the URL of the wiki's api.php. It must not be modified.
func (s *Session) APIURL() *url.URL { return s.wiki.APIURL() }

// IsComplete reports whether the session has an access token that has not been
// found dead, so whether requests can be made.
func (s *Session) IsComplete() bool {
	t := s.core.current.Load().token
	return t != nil && s.core.dead.Load() != t
}

// Do sends a request as [http.Client.Do] does, as the user.
//
// A request to the wiki, which is to say to the origin and the folder of its
// api.php, is sent with the bearer token in place of any other Authorization.
// Every other request, also one that follows a redirect elsewhere, is sent
// without. The request itself is not changed.
//
// If the token is about to expire it is refreshed first. If the wiki refuses
// the token it is refreshed and the request is sent once more, with a body from
// GetBody. Where a request has a body but no GetBody, the error is [ErrResend]
// instead. Waiting for a refresh ends with the request's context; the refresh
// itself does not.
//
// The error is a [*url.Error] around [ErrReauthorize] when the user must log in
// (again), around [ErrTemporary] when a refresh was needed and not to be had,
// and around a [*SaveError] when new tokens could not be saved: in these cases
// the request has not been carried out.
func (s *Session) Do(req *http.Request) (*http.Response, error) {
	return s.http.Do(req)
}

// HTTPClient returns a client that sends what it sends as Do does, for
// libraries that take an [http.Client]. It keeps the cookies of this session's
// user apart from all others, and may be modified.
func (s *Session) HTTPClient() *http.Client {
	client := *s.http
	return &client
}

// A Profile tells who the user is and what the session may do.
// See https://www.mediawiki.org/wiki/OAuth/For_Developers#Identifying_the_user.
type Profile struct {
	Sub            string   `json:"sub"` // the user's ID, across the farm where there is one
	Username       string   `json:"username"`
	EditCount      int      `json:"editcount"`
	ConfirmedEmail bool     `json:"confirmed_email"`
	Blocked        bool     `json:"blocked"`
	Registered     string   `json:"registered"` // YYYYMMDDHHMMSS, in UTC; may be empty
	Groups         []string `json:"groups"`
	Rights         []string `json:"rights"`
	Grants         []string `json:"grants"`
	RealName       string   `json:"realname,omitzero"` // with the grants that tell it
	Email          string   `json:"email,omitzero"`    // likewise
}

// Profile asks the wiki who the user is.
func (s *Session) Profile(ctx context.Context) (*Profile, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.home.script("rest.php/oauth2/resource/profile"), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := readAnswer(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("oauth2: read the profile: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, newTokenError(resp, body, nil)
	}
	profile := new(Profile)
	if err := json.Unmarshal(body, profile); err != nil || profile.Username == "" {
		return nil, fmt.Errorf("oauth2: the wiki's answer (%s) is not a profile", contentType(resp))
	}
	return profile, nil
}

// String returns the wiki's URL and whether the session is complete.
func (s *Session) String() string {
	status := "not logged in"
	if s.IsComplete() {
		status = "logged in"
	}
	return fmt.Sprintf("oauth2.Session(%s, %s)", s.APIURL().Redacted(), status)
}

// Format writes what String returns, for every verb.
func (s *Session) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// LogValue returns what String returns.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText returns what String returns: for the session's state there is
// Serialize.
func (s *Session) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A home is where a session's bearer token may go: the origin and the folder
// of a wiki's scripts.
type home struct {
	scheme, host string // in lower case, without the scheme's own port
	origin       string // as written, for building URLs
	dir          string // the script path with a slash at the end
	api          string // the path of api.php
}

func newHome(api *url.URL) (home, error) {
	slash := strings.LastIndexByte(api.Path, '/')
	switch {
	case api.Host == "" || slash < 0 || slash == len(api.Path)-1 || api.RawPath != "":
		return home{}, fmt.Errorf("oauth2: %q is not the URL of an api.php", api.Redacted())
	case api.User != nil || api.RawQuery != "" || api.ForceQuery || api.Fragment != "":
		return home{}, fmt.Errorf("oauth2: the URL of api.php must have no user, query or fragment, but %q has", api.Redacted())
	case api.Scheme != "https" && (api.Scheme != "http" || !loopback(api.Hostname())): // RFC 6749 section 3.2
		return home{}, fmt.Errorf("oauth2: %q is not https: tokens are not sent in the clear, but to a loopback address", api.Redacted())
	}
	return home{
		scheme: api.Scheme,
		host:   plainHost(api.Scheme, api.Host),
		origin: api.Scheme + "://" + api.Host,
		dir:    api.Path[:slash+1],
		api:    api.Path,
	}, nil
}

// script returns the URL of another script of the wiki.
func (h *home) script(path string) string { return h.origin + h.dir + path }

// holds reports whether a request goes to the wiki, and nowhere near it.
func (h *home) holds(req *http.Request) bool {
	u := req.URL
	return u.Scheme == h.scheme && h.isHost(u.Host) && (req.Host == "" || h.isHost(req.Host)) &&
		u.Opaque == "" && strings.HasPrefix(u.Path, h.dir) && !climbs(u.Path)
}

func (h *home) isHost(host string) bool {
	return host == h.host || plainHost(h.scheme, host) == h.host
}

// climbs reports whether a path has a segment that leads out of its folder.
func climbs(path string) bool {
	return strings.Contains(path, "/.") &&
		(strings.Contains(path, "/../") || strings.Contains(path, "/./") || strings.HasSuffix(path, "/..") || strings.HasSuffix(path, "/.")) ||
		strings.IndexByte(path, '\\') >= 0
}

func plainHost(scheme, host string) string {
	port := ":443"
	if scheme == "http" {
		port = ":80"
	}
	return strings.TrimSuffix(strings.ToLower(host), port)
}

func loopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// checkRedirect lets a redirect out of the wiki take no request body along.
// The bearer token never goes along: the transport sets it, request by request.
func (s *Session) checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("oauth2: stopped after 10 redirects")
	}
	if req.Body != nil && req.Body != http.NoBody && s.home.holds(via[len(via)-1]) && !s.home.holds(req) {
		return http.ErrUseLastResponse
	}
	return nil
}

// newJar returns a jar for the cookies of one user. Some tell the wiki which
// database to read from after a write. One names a user, which the bearer token
// does already: where the two disagree the wiki refuses both, so it is not kept.
func newJar() http.CookieJar {
	jar, _ := cookiejar.New(nil) // never fails
	return userJar{jar}
}

type userJar struct{ http.CookieJar }

func (j userJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	j.CookieJar.SetCookies(u, slices.DeleteFunc(cookies, func(c *http.Cookie) bool {
		return strings.HasSuffix(c.Name, "sessionJwt")
	}))
}

// A transport sends requests as the user of a session, one by one.
type transport struct{ session *Session }

// RoundTrip does what Session.Do documents, but for cookies and redirects.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	s, c := t.session, t.session.core
	if !s.home.holds(req) {
		return exchange(s.wiki, req)
	}
	token, err := c.usable(req.Context())
	if err != nil {
		closeBody(req)
		return nil, err
	}
	resp, verdict, err := s.try(req, req.Body, token)
	if err != nil || verdict == accepted || verdict == doubtful && (c.doubted.Load() == token || !token.renewable()) {
		return resp, err
	}
	drain(resp)
	c.info(req.Context(), "access token refused", slog.Int("status", resp.StatusCode))

	if err := c.renew(req.Context(), token); err != nil {
		return nil, err
	}
	body, err := replay(req)
	if err != nil {
		return nil, err
	}
	token = c.current.Load().token
	resp, again, err := s.try(req, body, token)
	if err == nil && verdict == doubtful && again == doubtful {
		c.doubted.Store(token) // the token was never the reason
	}
	return resp, err
}

// replay returns a second copy of a request's body.
func replay(req *http.Request) (io.ReadCloser, error) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Body, nil
	}
	if req.GetBody == nil {
		return nil, ErrResend
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, fmt.Errorf("%w (GetBody: %w)", ErrResend, err)
	}
	return body, nil
}

// ErrResend means that the wiki refused the access token before carrying out
// the request, that the token has been refreshed since, and that the request's
// body cannot be sent a second time, since the request has no GetBody. Make the
// same request anew.
var ErrResend = errors.New("oauth2: the access token was refused and has been refreshed, but the request's body cannot be sent again: make the request anew")

// An outgoing is a request on its way: a copy with the bearer token, in one
// allocation, and the first bytes of the answer.
type outgoing struct {
	req  http.Request
	url  url.URL
	body peeked
}

// try sends a copy of req with a token and tells what the wiki made of it.
func (s *Session) try(req *http.Request, body io.ReadCloser, t *token) (*http.Response, verdict, error) {
	out := &outgoing{req: *req}
	out.req.Body = body
	out.req.Header = maps.Clone(req.Header)
	if out.req.Header == nil {
		out.req.Header = make(http.Header, 1)
	}
	for name, values := range out.req.Header {
		out.req.Header[name] = slices.Clip(values) // an Add must not write into the caller's array
	}
	out.req.Header["Authorization"] = t.authorization // RFC 6750 section 2.1
	isAPI := req.URL.Path == s.home.api
	if isAPI && !s.core.options.NoAssert && !t.anonymous && !hasParameter(req.URL.RawQuery, "assert") {
		out.url = *req.URL
		// In front: of two parameters with one name the wiki takes the later.
		out.url.RawQuery = "assert=user"
		if req.URL.RawQuery != "" {
			out.url.RawQuery = "assert=user&" + req.URL.RawQuery
		}
		out.req.URL = &out.url
	}
	resp, err := exchange(s.wiki, &out.req)
	if err != nil {
		return nil, accepted, err
	}
	if resp.Request == nil || resp.Request == &out.req {
		resp.Request = req
	} else if err := s.forget(resp.Request); err != nil {
		drain(resp)
		return nil, accepted, err
	}
	return resp, judge(resp, isAPI, out), nil
}

// forget takes the token out of a request that a foreign Session sent after
// following a redirect, and complains if it went elsewhere.
func (s *Session) forget(req *http.Request) error {
	sent := req.Header.Get("Authorization") != ""
	req.Header.Del("Authorization")
	if sent && !s.home.holds(req) {
		return fmt.Errorf("oauth2: %T.Do followed a redirect to %s with the access token, which should be revoked: make it an http.RoundTripper, see mediawiki.Session", s.wiki, req.URL.Host)
	}
	return nil
}

// exchange sends one request through a session, where it can without cookies
// and without following redirects.
func exchange(wiki mediawiki.Session, req *http.Request) (*http.Response, error) {
	if rt, ok := wiki.(http.RoundTripper); ok {
		return rt.RoundTrip(req)
	}
	return wiki.Do(req)
}

func hasParameter(query, name string) bool {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if key, _, _ := strings.Cut(pair, "="); key == name {
			return true
		}
	}
	return false
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// drain reads the rest of a short body, so that the connection can be used
// again, and closes it.
func drain(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxErrorBody)
	resp.Body.Close()
}

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
	"net/http"
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
	s.http = &http.Client{Transport: transport{s}, CheckRedirect: s.checkRedirect}
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
	if req.URL == nil || req.RequestURI != "" || !s.home.holds(req) {
		return s.http.Do(req)
	}
	// Of what http.Client does, this needs little unless the wiki redirects.
	resp, err := transport{s}.RoundTrip(req)
	if err != nil {
		return nil, &url.Error{Op: operation(req.Method), URL: req.URL.Redacted(), Err: err}
	}
	if resp.StatusCode/100 == 3 && resp.Header.Get("Location") != "" {
		client := *s.http
		client.Transport = &resumed{resp, transport{s}}
		return client.Do(req)
	}
	return resp, nil
}

// operation returns what http.Client calls a method in an error.
func operation(method string) string {
	if method == "" {
		return "Get"
	}
	return method[:1] + strings.ToLower(method[1:])
}

// HTTPClient returns a client that sends what it sends as Do does, for
// libraries that take an [http.Client]. It may be modified, but for its
// Transport, which does the work. The cookies that the wiki sets are kept there,
// apart from those of all other users, and sent back.
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

// Package mediawiki is a minimal client of MediaWiki's action API and REST API.
//
// It sends parameters and decodes answers; what the modules of the API do is
// said by https://www.mediawiki.org/wiki/API:Main_page. It has no "get page" or
// "make edit".
//
//	var result struct{ Query struct{ Userinfo struct{ Name string } } }
//	err := client.Get(ctx, mediawiki.Params{"action": "query", "meta": "userinfo"}, &result)
//
// # Etiquette
//
// What wikis ask of every client (https://www.mediawiki.org/wiki/API:Etiquette):
//
//   - A User-Agent that names the tool and how to reach its author. NewClient
//     requires one.
//   - One request at a time. A Client makes none by itself in parallel; to ask
//     for many pages, ask for them with one request, as "titles" with a slice.
//   - POST for what writes; GET for what reads, which can be cached.
//   - From bots a maxlag, such as Config.Params{"maxlag": 5}, so that the wiki
//     can say when it is busy. The Client then waits and tries again, and so it
//     does when a wiki is read-only or limits the rate.
//   - Compression, which the transport of net/http asks for by itself.
package mediawiki

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Config is how a [Client] works. Only UserAgent is required.
type Config struct {
	// UserAgent names the tool and how to reach its author, such as
	// "ExampleTool/1.0 (https://tool.example; mail@tool.example)". Wikimedia's
	// wikis refuse generic ones (https://meta.wikimedia.org/wiki/User-Agent_policy).
	UserAgent string

	// HTTPClient is the client to send with, of which a copy is made. Its
	// Transport, Jar, Timeout and CheckRedirect are kept; a Timeout also ends
	// uploads. When nil, a client with a cookie jar of its own. In either case a
	// request ends when nothing is sent or received for 75 seconds with GET,
	// and for 4 minutes with other methods.
	HTTPClient *http.Client

	// Params are the defaults for every api.php request. Those of a request
	// come first, then these, then format=json, formatversion=2 and
	// errorformat=plaintext.
	Params Params

	// RetryBudget is for how long, in all, a request may wait to be repeated
	// when the wiki says that it is busy. 0 means 65 seconds, a negative
	// value that nothing is repeated.
	RetryBudget time.Duration

	// OnWait, if not nil, is called before each such wait, for a program that
	// shows why nothing happens.
	OnWait func(reason error, wait time.Duration)

	// OnWarning, if not nil, is called with each warning of the wiki. When it is
	// nil, package log/slog is told, once of each distinct warning.
	OnWarning func(Warning)

	// MaxAnswer is the limit of an answer in bytes. 0 means 64 MiB.
	MaxAnswer int64
}

// A Client speaks to one wiki. It is a [Session] and an [http.RoundTripper], and
// safe for concurrent use.
type Client struct {
	api     *url.URL
	config  Config
	http    *http.Client
	session Session // what requests are sent through; nil: the client itself

	tokens tokens
	fetch  chan struct{} // holds an element while a token is fetched
	warned *warned
}

// NewClient returns a client of a wiki, named by a domain ("en.wikipedia.org"
// means https://en.wikipedia.org/w/api.php) or by the URL of its api.php, which
// must be https, or http on a loopback address.
func NewClient(wiki string, config Config) (*Client, error) {
	api, err := parseWiki(wiki)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(config.UserAgent) == "" || strings.ContainsFunc(config.UserAgent, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return nil, errors.New("mediawiki: Config.UserAgent is empty or has a line end: name the tool and how to reach its author, see https://meta.wikimedia.org/wiki/User-Agent_policy")
	}
	if config.RetryBudget == 0 {
		config.RetryBudget = 65 * time.Second
	}
	if config.MaxAnswer <= 0 {
		config.MaxAnswer = 64 << 20
	}
	config.Params = maps.Clone(config.Params)
	if v, err := encode(config.Params); err != nil {
		return nil, err
	} else if len(v.files) > 0 {
		return nil, errors.New("mediawiki: Config.Params has a file: a file is sent once, by one request")
	}
	c := &Client{api: api, config: config, fetch: make(chan struct{}, 1), warned: new(warned)}
	c.http = c.httpClient()
	return c, nil
}

// httpClient returns the client that a Config asks for.
func (c *Client) httpClient() *http.Client {
	if c.config.HTTPClient == nil {
		jar, _ := cookiejar.New(nil) // never fails
		transport := http.DefaultTransport
		if t, ok := transport.(*http.Transport); ok {
			t = t.Clone()
			t.ResponseHeaderTimeout = patiencePost
			transport = t
		}
		return &http.Client{Transport: transport, Jar: jar, CheckRedirect: c.checkRedirect(nil)}
	}
	client := *c.config.HTTPClient
	client.CheckRedirect = c.checkRedirect(client.CheckRedirect)
	return &client
}

func parseWiki(wiki string) (*url.URL, error) {
	wiki = strings.TrimSpace(wiki)
	if !strings.Contains(wiki, "/") {
		wiki = "https://" + wiki + "/w/api.php"
	}
	u, err := url.Parse(wiki)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || !strings.HasSuffix(u.Path, ".php"):
		return nil, errors.New(`mediawiki: the wiki is neither a domain, such as "en.wikipedia.org", nor the URL of an api.php, such as "https://en.wikipedia.org/w/api.php"`)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("mediawiki: the URL of api.php must have no user, query or fragment")
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return nil, fmt.Errorf("mediawiki: %s is not https, which is only for loopback addresses", u)
	}
	return u, nil
}

func loopback(host string) bool {
	return strings.EqualFold(host, "localhost") || net.ParseIP(host).IsLoopback()
}

// As returns a client with the same settings that sends its requests through
// another session, for instance an oauth2.Session that wraps this client, to
// make them as a user.
func (c *Client) As(session Session) *Client {
	return &Client{
		api: session.APIURL(), config: c.config, http: c.http, session: session,
		fetch: make(chan struct{}, 1), warned: c.warned,
	}
}

// APIURL returns the URL of the wiki's api.php. It must not be modified.
func (c *Client) APIURL() *url.URL { return c.api }

// Do sends a request as [http.Client.Do], with the client's User-Agent unless it
// has one, and the cookies of the client's jar. An Authorization header follows
// no redirect to another origin, or out of the folder of api.php.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	if c.session != nil {
		return c.session.Do(c.named(req))
	}
	return c.http.Do(c.named(req))
}

// RoundTrip sends one request with the client's User-Agent unless it has one:
// no cookies, no redirects.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	if rt, ok := c.session.(http.RoundTripper); ok {
		return rt.RoundTrip(c.named(req))
	}
	if c.session != nil {
		return c.session.Do(c.named(req))
	}
	if c.http.Transport != nil {
		return c.http.Transport.RoundTrip(c.named(req))
	}
	return http.DefaultTransport.RoundTrip(c.named(req))
}

// named returns req, or a copy with a User-Agent if it has none.
func (c *Client) named(req *http.Request) *http.Request {
	if len(req.Header["User-Agent"]) > 0 {
		return req
	}
	req = req.Clone(req.Context())
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	req.Header.Set("User-Agent", c.config.UserAgent)
	return req
}

// checkRedirect keeps an Authorization header at home: net/http lets it follow a
// redirect to a subdomain or another port.
func (c *Client) checkRedirect(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		if !c.isHome(req.URL) {
			req.Header.Del("Authorization")
		}
		if next != nil {
			return next(req, via)
		}
		if len(via) >= 10 {
			return errors.New("mediawiki: stopped after 10 redirects")
		}
		return nil
	}
}

func (c *Client) isHome(u *url.URL) bool {
	folder := c.api.Path[:strings.LastIndexByte(c.api.Path, '/')+1]
	return u.Scheme == c.api.Scheme && strings.EqualFold(u.Host, c.api.Host) && strings.HasPrefix(u.Path, folder)
}

// Get makes an api.php request with GET and decodes the answer's JSON into
// result, unless that is nil. The error is an [*APIError] if the wiki answered
// with one, and an [*HTTPError] if what came is no answer of MediaWiki's. If the
// wiki is busy the request is repeated, see [Config].
func (c *Client) Get(ctx context.Context, params Params, result any) error {
	_, err := c.call(ctx, http.MethodGet, params, result)
	return err
}

// Post is Get with POST, for what writes, is long, or has a [File].
func (c *Client) Post(ctx context.Context, params Params, result any) error {
	_, err := c.call(ctx, http.MethodPost, params, result)
	return err
}

// warned is what slog has been told of.
type warned struct {
	mu   sync.Mutex
	seen map[Warning]bool // guarded by mu
}

// first reports whether a warning is new, or was forgotten: a program that runs
// for weeks may meet many.
func (w *warned) first(warning Warning) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[warning] {
		return false
	}
	if w.seen == nil || len(w.seen) == 1000 {
		w.seen = make(map[Warning]bool)
	}
	w.seen[warning] = true
	return true
}

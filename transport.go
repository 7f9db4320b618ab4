package oauth2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
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

// RoundTrip does what Session.Do documents, but for redirects.
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

// A resumed transport is for an http.Client that is to go on from an answer
// which has come already.
type resumed struct {
	first *http.Response // nil once it is taken
	next  transport
}

func (r *resumed) RoundTrip(req *http.Request) (*http.Response, error) {
	if resp := r.first; resp != nil {
		r.first = nil
		return resp, nil
	}
	return r.next.RoundTrip(req)
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
	for _, cookie := range s.core.jar.Cookies(req.URL) {
		out.req.AddCookie(cookie)
	}
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
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	if len(resp.Header["Set-Cookie"]) > 0 {
		s.core.jar.SetCookies(req.URL, resp.Cookies())
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

// A verdict is what an answer says of the access token.
type verdict int

const (
	accepted verdict = iota
	refused
	doubtful // refused, or not allowed to read: the wiki says both alike
)

// invalidAuthorization is what MediaWiki calls a dead access token. Codes that
// only begin so mean something that a refresh cannot help.
const invalidAuthorization = "mwoauth-invalid-authorization"

// judge reads a refusal in any form that a wiki or its edge gives it, and leaves
// the body to be read.
func judge(resp *http.Response, isAPI bool, out *outgoing) verdict {
	if code := resp.Header.Get("Mediawiki-Api-Error"); code != "" {
		if code == invalidAuthorization {
			return refused
		}
		return accepted
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized && invalidToken(resp.Header["Www-Authenticate"]): // RFC 6750 section 3.1
		return refused
	case resp.StatusCode == http.StatusOK && isAPI:
		if !out.body.peek(resp, `{"error`) {
			return accepted
		}
	case resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden:
		return accepted
	}
	return judgeBody(resp.StatusCode, readAhead(resp))
}

// judgeBody judges the body of an error of api.php or of rest.php.
func judgeBody(status int, body []byte) verdict {
	var answer struct {
		Error    json.RawMessage `json:"error"`
		ErrorKey string          `json:"errorKey"`
		Errors   []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return accepted
	}
	var bc struct {
		Code string `json:"code"`
	}
	json.Unmarshal(answer.Error, &bc) // a string in rest.php's errors
	rest := text(answer.Error)
	switch {
	case answer.ErrorKey == invalidAuthorization, bc.Code == invalidAuthorization:
		return refused
	case len(answer.Errors) > 0 && answer.Errors[0].Code == invalidAuthorization:
		return refused
	case status == http.StatusUnauthorized && rest == "access_denied", status == http.StatusForbidden && rest == "rest-read-denied":
		return doubtful
	}
	return accepted
}

// readAhead returns the beginning of a body, and puts it back.
func readAhead(resp *http.Response) []byte {
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failingReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
	return head
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// peeked is a body whose first bytes have been read ahead.
type peeked struct {
	io.ReadCloser
	buf  [8]byte
	n, r int   // bytes in buf, and how many of them have been read
	err  error // met when filling it
}

// peek reports whether a response's body begins with prefix, which is shorter
// than the buffer.
func (p *peeked) peek(resp *http.Response, prefix string) bool {
	p.ReadCloser = resp.Body
	for p.n < len(prefix) && p.err == nil {
		var n int
		n, p.err = p.ReadCloser.Read(p.buf[p.n:len(prefix)])
		p.n += n
	}
	resp.Body = p
	return string(p.buf[:p.n]) == prefix
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.r < p.n {
		n := copy(b, p.buf[p.r:p.n])
		p.r += n
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.ReadCloser.Read(b)
}

// invalidToken reports whether a WWW-Authenticate header has a Bearer challenge
// with the error invalid_token, and no other (RFC 6750 section 3).
func invalidToken(header []string) bool {
	for _, line := range header {
		for scheme, params := range challenges(line) {
			if strings.EqualFold(scheme, "Bearer") && params["error"] == "invalid_token" {
				return true
			}
		}
	}
	return false
}

// challenges returns the challenges of a WWW-Authenticate header's line (RFC
// 9110 section 11.6.1), with the names of parameters in lower case. It ends at
// what it does not understand.
func challenges(line string) iter.Seq2[string, map[string]string] {
	return func(yield func(string, map[string]string) bool) {
		scheme, params := "", map[string]string(nil)
		for {
			line = strings.TrimLeft(line, ", \t")
			word, rest := cutToken(line)
			if word == "" {
				break
			}
			after := strings.TrimLeft(rest, " \t")
			if value, found := strings.CutPrefix(after, "="); found && scheme != "" {
				value, line = cutValue(strings.TrimLeft(value, " \t"))
				params[strings.ToLower(word)] = value
				continue
			}
			if scheme != "" && !yield(scheme, params) {
				return
			}
			scheme, params, line = word, make(map[string]string), skipToken68(after)
		}
		if scheme != "" {
			yield(scheme, params)
		}
	}
}

// cutToken cuts an RFC 9110 token off.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue cuts a token or a quoted string off.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return cutToken(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// skipToken68 skips the credentials form of a challenge, which has no
// parameters: "Negotiate abc==".
func skipToken68(s string) string {
	i := strings.IndexAny(s, ", \t")
	if i < 0 {
		i = len(s)
	}
	if word := strings.TrimRight(s[:i], "="); word != "" && !strings.ContainsAny(word, `="`) && (i < len(s) && s[i] == ',' || i == len(s)) {
		return s[i:]
	}
	return s
}

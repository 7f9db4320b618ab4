package oauth2

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestDoAddsTokenAndAssert(t *testing.T) {
	for _, test := range []struct {
		name, method, url string
		noAssert          bool
		bearer            bool
		query             string
	}{
		{"api", "GET", "https://wiki.test/w/api.php?action=query", false, true, "assert=user&action=query"},
		{"api without query", "POST", "https://wiki.test/w/api.php", false, true, "assert=user"},
		{"own assert", "GET", "https://wiki.test/w/api.php?action=query&assert=anon", false, true, "action=query&assert=anon"},
		{"empty assert", "GET", "https://wiki.test/w/api.php?assert", false, true, "assert"},
		{"assertuser is another", "GET", "https://wiki.test/w/api.php?assertuser=A", false, true, "assert=user&assertuser=A"},
		{"switched off", "GET", "https://wiki.test/w/api.php?action=query", true, true, "action=query"},
		{"rest", "GET", "https://wiki.test/w/rest.php/v1/page/A?b=c", false, true, "b=c"},
		{"a title with dots", "GET", "https://wiki.test/w/rest.php/v1/page/.NET", false, true, ""},
		{"own port", "GET", "https://wiki.test:443/w/api.php?assert=user", false, true, "assert=user"},
		{"upper case host", "GET", "https://WIKI.test/w/api.php?assert=user", false, true, "assert=user"},
		{"other host", "GET", "https://evil.test/w/api.php", false, false, ""},
		{"subdomain", "GET", "https://a.wiki.test/w/api.php", false, false, ""},
		{"other port", "GET", "https://wiki.test:8443/w/api.php", false, false, ""},
		{"other scheme", "GET", "http://wiki.test/w/api.php", false, false, ""},
		{"other path", "GET", "https://wiki.test/tool/api.php", false, false, ""},
		{"out by dots", "GET", "https://wiki.test/w/../tool", false, false, ""},
		{"out by escaped dots", "GET", "https://wiki.test/w/%2e%2e/tool", false, false, ""},
		{"out by backslash", "GET", `https://wiki.test/w/%5c..%5ctool`, false, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			wiki := newFakeWiki()
			s := newTestSession(t, wiki, &Options{NoAssert: test.noAssert})
			login(t, s)
			req := httptest.NewRequestWithContext(t.Context(), test.method, test.url, nil)
			req.RequestURI, req.Host = "", ""
			req.Header = http.Header{"X-Own": {"1"}, "Authorization": {"Basic mine"}}
			before := req.URL.String()
			resp, err := s.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			log := wiki.requests()
			sent := log[len(log)-1]
			if got := sent.Header.Get("Authorization") == "Bearer ACCESSTOKEN-1"; got != test.bearer {
				t.Errorf("bearer token sent: %v, want %v", got, test.bearer)
			}
			if sent.URL.RawQuery != test.query {
				t.Errorf("query %q, want %q", sent.URL.RawQuery, test.query)
			}
			if sent.Header.Get("X-Own") != "1" {
				t.Error("the request's own header is lost")
			}
			if req.URL.String() != before || req.Header.Get("Authorization") != "Basic mine" {
				t.Error("the request has changed")
			}
			if resp.Request != nil && strings.Contains(fmt.Sprint(resp.Request.Header), "ACCESSTOKEN") {
				t.Error("the response's request has the token")
			}
		})
	}
}

func TestHostHeaderOfAnotherGetsNoToken(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	login(t, s)
	req, _ := http.NewRequestWithContext(t.Context(), "GET", wiki.api, nil)
	req.Host = "evil.test"
	send(s, req)
	log := wiki.requests()
	if log[len(log)-1].Header.Get("Authorization") != "" {
		t.Error("the token went to another virtual host")
	}
}

// TestRedirects follows redirects off the wiki and finds no token there.
func TestRedirects(t *testing.T) {
	for _, to := range []string{"https://evil.test/w/api.php", "https://sub.wiki.test/w/", "http://wiki.test/w/api.php", "https://wiki.test:8443/w/", "https://wiki.test/elsewhere", "//evil.test/"} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			for _, client := range []string{"Do", "HTTPClient"} {
				t.Run(fmt.Sprint(to, status, client), func(t *testing.T) {
					wiki := newFakeWiki()
					s := newTestSession(t, wiki, nil)
					login(t, s)
					wiki.serve = func(req *http.Request) (*http.Response, error) {
						if req.URL.Path != "/w/api.php" || req.URL.Host != "wiki.test" || req.URL.Scheme != "https" {
							return answer(200, "{}"), nil
						}
						resp := answer(status, "")
						resp.Header.Set("Location", to)
						return resp, nil
					}
					send := s.Do
					if client == "HTTPClient" {
						send = s.HTTPClient().Do
					}
					req, _ := http.NewRequestWithContext(t.Context(), "POST", wiki.api, strings.NewReader("token=CSRF"))
					resp, err := send(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					log := wiki.requests()
					if len(log) < 3 && status < 307 {
						t.Error("the redirect was not followed")
					}
					for _, r := range log[2:] {
						if r.Header.Get("Authorization") != "" || r.Method == "POST" {
							t.Errorf("%s %s was sent %q", r.Method, r.URL, r.Header["Authorization"])
						}
					}
				})
			}
		}
	}
}

func TestRedirectWithinTheWikiKeepsTheToken(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	login(t, s)
	wiki.serve = func(req *http.Request) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Path, "/A") {
			resp := answer(301, "")
			resp.Header.Set("Location", "B")
			return resp, nil
		}
		return nil, nil
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://wiki.test/w/rest.php/v1/page/A", nil)
	if body, err := send(s, req); err != nil || !strings.Contains(body, "Alice") {
		t.Errorf("%q, %v", body, err)
	}
	wiki.serve = func(req *http.Request) (*http.Response, error) {
		resp := answer(301, "")
		resp.Header.Set("Location", "A")
		return resp, nil
	}
	if _, err := send(s, req); err == nil || !strings.Contains(err.Error(), "10 redirects") {
		t.Errorf("a circle: %v", err)
	}
}

// plainSession is a Session that is no http.RoundTripper.
type plainSession struct {
	api    *url.URL
	client *http.Client
}

func (s plainSession) APIURL() *url.URL                             { return s.api }
func (s plainSession) Do(req *http.Request) (*http.Response, error) { return s.client.Do(req) }

func TestForeignSessionThatFollowsRedirects(t *testing.T) {
	other := newFakeWiki()
	other.serve = func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "sub.wiki.test" {
			resp := answer(200, "{}")
			resp.Request = req
			return resp, nil
		}
		resp := answer(302, "")
		resp.Header.Set("Location", "https://sub.wiki.test/")
		resp.Request = req
		return resp, nil
	}
	s, err := NewSession(t.Context(), plainSession{other.APIURL(), &http.Client{Transport: other}}, testClient, nil)
	if err != nil {
		t.Fatal(err)
	}
	login(t, s)
	if _, err := get(t.Context(), s); err == nil || !strings.Contains(err.Error(), "RoundTripper") || strings.Contains(err.Error(), "ACCESSTOKEN") {
		t.Errorf("error %v, want one that says what to do", err)
	}
	other.token = func(_ url.Values, req *http.Request) (*http.Response, error) {
		resp := answer(307, "")
		resp.Header.Set("Location", "https://sub.wiki.test/")
		resp.Request = req
		return resp, nil
	}
	if err := s.Refresh(t.Context()); err == nil || errors.Is(err, ErrReauthorize) {
		t.Errorf("a redirected refresh: %v", err)
	}
	for _, req := range other.requests() {
		if req.URL.Host == "sub.wiki.test" && req.Method == "POST" {
			t.Error("a token request followed a redirect")
		}
	}
}

func TestRefusalOnEverySurface(t *testing.T) {
	api, rest := "https://wiki.test/w/api.php", "https://wiki.test/w/rest.php/v1/page/A"
	header := func(name, value string, resp *http.Response) *http.Response {
		resp.Header.Set(name, value)
		return resp
	}
	const code = "mwoauth-invalid-authorization"
	for _, test := range []struct {
		name, url string
		answer    func() *http.Response
		refreshes int
	}{
		{"api header", api, func() *http.Response { return header("MediaWiki-API-Error", code, answer(200, "{}")) }, 1},
		{"api bc", api, func() *http.Response { return answer(200, `{"error":{"code":"`+code+`"}}`) }, 1},
		{"api plaintext", api, func() *http.Response { return answer(200, `{"errors":[{"code":"`+code+`"}]}`) }, 1},
		{"api suffix", api, func() *http.Response { return header("MediaWiki-API-Error", code+"-blocked-user", answer(200, "{}")) }, 0},
		{"api assertuserfailed", api, func() *http.Response { return header("MediaWiki-API-Error", "assertuserfailed", answer(200, "{}")) }, 0},
		{"rest denied", rest, func() *http.Response { return answer(403, `{"error":"rest-read-denied"}`) }, 1},
		{"rest newer", rest, func() *http.Response { return answer(403, `{"errorKey":"`+code+`"}`) }, 1},
		{"profile", "https://wiki.test/w/rest.php/oauth2/resource/profile", func() *http.Response { return answer(401, `{"error":"access_denied"}`) }, 1},
		{"edge", api, func() *http.Response {
			return header("WWW-Authenticate", `Bearer realm="a", error="invalid_token"`, answer(401, `{"httpCode":401}`))
		}, 1},
		{"insufficient scope", rest, func() *http.Response {
			return header("WWW-Authenticate", `Bearer error="insufficient_scope"`, answer(403, "{}"))
		}, 0},
		{"server error", api, func() *http.Response { return answer(500, "{}") }, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			wiki := newFakeWiki()
			s := newTestSession(t, wiki, nil)
			login(t, s)
			wiki.serve = func(req *http.Request) (*http.Response, error) {
				if req.Header.Get("Authorization") == "Bearer ACCESSTOKEN-1" {
					return test.answer(), nil
				}
				return answer(200, `{"ok":1}`), nil
			}
			req, _ := http.NewRequestWithContext(t.Context(), "POST", test.url, strings.NewReader("a=b"))
			body, err := send(s, req)
			if err != nil {
				t.Fatal(err)
			}
			if got := len(wiki.tokenRequests()) - 1; got != test.refreshes {
				t.Errorf("%d refreshes, want %d", got, test.refreshes)
			}
			if ok := body == `{"ok":1}`; ok != (test.refreshes > 0) {
				t.Errorf("answer %s", body)
			}
		})
	}
}

func TestRefusedTwiceIsNoLoop(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	login(t, s)
	wiki.serve = func(*http.Request) (*http.Response, error) { return answer(403, `{"error":"rest-read-denied"}`), nil }
	for range 3 {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://wiki.test/w/rest.php/v1/page/Private", nil)
		body, err := send(s, req)
		if err != nil || !strings.Contains(body, "rest-read-denied") {
			t.Errorf("%q, %v", body, err)
		}
	}
	if got := len(wiki.tokenRequests()) - 1; got != 1 {
		t.Errorf("%d refreshes for a page that cannot be read, want 1", got)
	}
}

func TestBodies(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	login(t, s)
	wiki.expire()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", wiki.api, io.NopCloser(strings.NewReader("stream")))
	if _, err := s.Do(req); !errors.Is(err, ErrResend) {
		t.Errorf("a stream: %v, want ErrResend", err)
	}
	req.Body = io.NopCloser(strings.NewReader("stream"))
	if body, err := send(s, req); err != nil || !strings.Contains(body, "Alice") {
		t.Errorf("the same request anew: %q, %v", body, err)
	}
	wiki.expire()
	req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("gone") }
	if _, err := s.Do(req); !errors.Is(err, ErrResend) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("GetBody fails: %v", err)
	}
}

func TestChallenges(t *testing.T) {
	type params = map[string]string
	for _, test := range []struct {
		line    string
		schemes []string
		params  params // of the last
	}{
		{``, nil, nil},
		{`Bearer`, []string{"Bearer"}, params{}},
		{`Bearer realm="a"`, []string{"Bearer"}, params{"realm": "a"}},
		{`Bearer realm="a", error="invalid_token"`, []string{"Bearer"}, params{"realm": "a", "error": "invalid_token"}},
		{`Bearer error=invalid_token`, []string{"Bearer"}, params{"error": "invalid_token"}},
		{`bearer  ERROR = "invalid_token"`, []string{"bearer"}, params{"error": "invalid_token"}},
		{`Basic realm="x, Bearer error=\"invalid_token\""`, []string{"Basic"}, params{"realm": `x, Bearer error="invalid_token"`}},
		{`Basic realm="x", Bearer error="invalid_token"`, []string{"Basic", "Bearer"}, params{"error": "invalid_token"}},
		{`Negotiate abc==, Bearer error="invalid_token"`, []string{"Negotiate", "Bearer"}, params{"error": "invalid_token"}},
		{`Negotiate, Basic realm=a, Bearer error="insufficient_scope"`, []string{"Negotiate", "Basic", "Bearer"}, params{"error": "insufficient_scope"}},
		{`, ,Bearer a="b",,c=d`, []string{"Bearer"}, params{"a": "b", "c": "d"}},
		{`Bearer error="unterminated`, []string{"Bearer"}, params{"error": "unterminated"}},
		{`"quoted"`, nil, nil},
		{`Bearer error="a" @`, []string{"Bearer"}, params{"error": "a"}},
	} {
		var schemes []string
		var last params
		for scheme, params := range challenges(test.line) {
			schemes, last = append(schemes, scheme), params
		}
		if !slices.Equal(schemes, test.schemes) || !maps.Equal(last, test.params) {
			t.Errorf("challenges(%q) = %q, %q; want %q, %q", test.line, schemes, last, test.schemes, test.params)
		}
	}
}

func TestInvalidToken(t *testing.T) {
	for _, test := range []struct {
		header []string
		want   bool
	}{
		{nil, false},
		{[]string{`Bearer`}, false},
		{[]string{`Bearer error="invalid_token"`}, true},
		{[]string{`Bearer error="invalid_token_or_not"`}, false},
		{[]string{`Bearer error="insufficient_scope"`}, false},
		{[]string{`Basic error="invalid_token"`}, false},
		{[]string{`Basic realm="a"`, `BEARER realm="b", error="invalid_token"`}, true},
		{[]string{`Basic realm="Bearer error=invalid_token"`}, false},
		{[]string{`Bearer realm="a"`, `Basic error="invalid_token"`}, false},
	} {
		if got := invalidToken(test.header); got != test.want {
			t.Errorf("invalidToken(%q) = %v, want %v", test.header, got, test.want)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="a", error="invalid_token"`)
	f.Add(`Negotiate abc==, Basic realm="x\"y", Bearer error=invalid_token`)
	f.Fuzz(func(t *testing.T, line string) {
		for scheme, params := range challenges(line) {
			if scheme == "" || params == nil {
				t.Errorf("challenge %q %q", scheme, params)
			}
		}
		// A challenge in front does not hide the one after it.
		if !invalidToken([]string{line, `Bearer error="invalid_token"`}) {
			t.Error("a second line is not read")
		}
	})
}

// TestDoIsLikeHTTPClient holds the short way of Do against http.Client.
func TestDoIsLikeHTTPClient(t *testing.T) {
	wiki := newFakeWiki()
	wiki.serve = func(req *http.Request) (*http.Response, error) {
		switch req.URL.Path {
		case "/w/broken":
			return nil, io.ErrUnexpectedEOF
		case "/w/nothing":
			return &http.Response{StatusCode: 204, Header: http.Header{}}, nil
		case "/w/unchanged":
			resp := answer(304, "")
			resp.Header.Set("Location", "/w/elsewhere")
			return resp, nil
		case "/w/lost":
			return answer(302, ""), nil
		case "/w/first", "/w/second":
			resp := answer(307, "")
			resp.Header.Set("Location", map[string]string{"/w/first": "second", "/w/second": "last"}[req.URL.Path])
			return resp, nil
		}
		return answer(200, req.Method+" "+req.URL.Path), nil
	}
	s := newTestSession(t, wiki, nil)
	login(t, s)
	newRequest := func(method, path string) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), method, "https://wiki.test"+path, strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		return req
	}
	unsendable := newRequest("GET", "/w/")
	unsendable.RequestURI = "/w/"
	for _, test := range []struct {
		name string
		req  func() *http.Request
	}{
		{"fine", func() *http.Request { return newRequest("GET", "/w/rest.php/v1") }},
		{"no method", func() *http.Request { return newRequest("", "/w/rest.php/v1") }},
		{"broken", func() *http.Request { return newRequest("PUT", "/w/broken") }},
		{"broken, no method", func() *http.Request { return newRequest("", "/w/broken") }},
		{"no body", func() *http.Request { return newRequest("GET", "/w/nothing") }},
		{"304 with a Location", func() *http.Request { return newRequest("GET", "/w/unchanged") }},
		{"302 without", func() *http.Request { return newRequest("GET", "/w/lost") }},
		{"two redirects", func() *http.Request { return newRequest("POST", "/w/first") }},
		{"no URL", func() *http.Request { return new(http.Request) }},
		{"RequestURI", func() *http.Request { return unsendable }},
	} {
		t.Run(test.name, func(t *testing.T) {
			tell := func(do func(*http.Request) (*http.Response, error)) string {
				resp, err := do(test.req())
				if err != nil {
					u, ok := errorAs[*url.Error](err)
					return fmt.Sprint(err, ok, u)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				return fmt.Sprint(resp.StatusCode, string(body), err, resp.Request.URL)
			}
			if got, want := tell(s.Do), tell(s.HTTPClient().Do); got != want {
				t.Errorf("Do: %s\nhttp.Client: %s", got, want)
			}
		})
	}
}

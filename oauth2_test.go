package oauth2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
)

func TestNewSessionErrors(t *testing.T) {
	for _, test := range []struct {
		name   string
		api    string
		client Client
		want   string // "" for no error
	}{
		{"fine", "", Client{ID: "a"}, ""},
		{"owner-only", "", Client{AccessToken: NewSecret("a")}, ""},
		{"no ID", "", Client{}, "Client.ID"},
		{"ID with line end", "", Client{ID: "a\n"}, "Client.ID"},
		{"secret with space", "", Client{ID: "a", Secret: NewSecret("HIDDEN ")}, "Client.Secret"},
		{"relative redirect", "", Client{ID: "a", RedirectURL: "/callback"}, "RedirectURL"},
		{"redirect with fragment", "", Client{ID: "a", RedirectURL: "https://a/#b"}, "RedirectURL"},
		{"scopes in one", "", Client{ID: "a", Scopes: []string{"basic editpage"}}, "Scopes"},
		{"empty scope", "", Client{ID: "a", Scopes: []string{""}}, "Scopes"},
		{"plain http", "http://wiki.test/w/api.php", Client{ID: "a"}, "not https"},
		{"http on 127.0.0.1", "http://127.0.0.1:8080/w/api.php", Client{ID: "a"}, ""},
		{"http on ::1", "http://[::1]:8080/w/api.php", Client{ID: "a"}, ""},
		{"http on localhost", "http://localhost/w/api.php", Client{ID: "a"}, ""},
		{"http on a name like it", "http://localhost.evil.test/w/api.php", Client{ID: "a"}, "not https"},
		{"at the root", "https://wiki.test/api.php", Client{ID: "a"}, ""},
		{"no path", "https://wiki.test", Client{ID: "a"}, "not the URL of an api.php"},
		{"a folder", "https://wiki.test/w/", Client{ID: "a"}, "not the URL of an api.php"},
		{"user", "https://a:HIDDEN@wiki.test/w/api.php", Client{ID: "a"}, "no user"},
		{"query", "https://wiki.test/w/api.php?a=b", Client{ID: "a"}, "no user, query"},
		{"fragment", "https://wiki.test/w/api.php#a", Client{ID: "a"}, "no user, query"},
		{"relative", "/w/api.php", Client{ID: "a"}, "not the URL of an api.php"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wiki := newFakeWiki()
			if test.api != "" {
				wiki.api = test.api
			}
			_, err := NewSession(t.Context(), wiki, test.client, nil)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "HIDDEN") {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
		})
	}
	failing := &memory{err: errors.New("out of order")}
	if _, err := NewSession(t.Context(), newFakeWiki(), testClient, &Options{Store: failing}); !errors.Is(err, failing.err) {
		t.Errorf("with a store that fails: %v", err)
	}
}

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

func TestOwnerOnly(t *testing.T) {
	wiki := newFakeWiki()
	wiki.alive = "OWNERTOKEN"
	store := new(memory)
	s, err := NewSession(t.Context(), wiki, Client{AccessToken: NewSecret("OWNERTOKEN")}, &Options{Store: store})
	if err != nil || !s.IsComplete() {
		t.Fatal(err)
	}
	if body, err := get(t.Context(), s); err != nil || !strings.Contains(body, "Alice") {
		t.Errorf("%q, %v", body, err)
	}
	wiki.expire()
	if _, err := get(t.Context(), s); !errors.Is(err, ErrReauthorize) || s.IsComplete() {
		t.Errorf("refused: %v, complete %v", err, s.IsComplete())
	}
	if n := len(wiki.tokenRequests()); n != 0 {
		t.Errorf("%d token requests, want none", n)
	}
	if _, err := s.AuthorizeURL(t.Context()); err == nil {
		t.Error("an authorize URL without an ID")
	}
}

func TestClientCredentials(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	if err := s.ClientCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := get(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		wiki.expire()
	}
	log := wiki.requests()
	for _, req := range log {
		if req.Method == "GET" && strings.Contains(req.URL.RawQuery, "assert") {
			t.Errorf("an anonymous request asserts a user: %s", req.URL.RawQuery)
		}
	}
	forms := wiki.tokenRequests()
	if len(forms) != 2 || forms[1].Get("grant_type") != "client_credentials" {
		t.Errorf("token requests %v", forms)
	}
	wiki.token = func(url.Values, *http.Request) (*http.Response, error) {
		return answer(401, `{"error":"invalid_client"}`), nil
	}
	if err := s.ClientCredentials(t.Context()); !isCode(err, "invalid_client") {
		t.Errorf("a client that may not: %v", err)
	}
}

func isCode(err error, code string) bool {
	e, ok := errorAs[*TokenError](err)
	return ok && e.Code == code
}

func TestProfile(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	if _, err := s.Profile(t.Context()); !errors.Is(err, ErrReauthorize) {
		t.Errorf("before the login: %v", err)
	}
	login(t, s)
	for _, test := range []struct {
		status int
		body   string
		want   string
	}{
		{200, `{"sub":"3","username":"Alice","editcount":5,"groups":["*"],"rights":["read"],"grants":["basic"],"registered":"20261123184745","new":1}`, ""},
		{200, `{}`, "not a profile"},
		{200, `<html>`, "not a profile"},
		{500, `x`, "500"},
		{401, `{"error":"access_denied"}`, "access_denied"},
		{200, strings.Repeat(" ", maxAnswer+1), "1 MiB"},
	} {
		wiki.serve = func(*http.Request) (*http.Response, error) { return answer(test.status, test.body), nil }
		p, err := s.Profile(t.Context())
		if test.want == "" {
			if err != nil || p.Username != "Alice" || p.EditCount != 5 {
				t.Errorf("%+v, %v", p, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%d %.20s: %v, want %q", test.status, test.body, err, test.want)
		}
	}
}

func TestOn(t *testing.T) {
	wiki := newFakeWiki()
	s := newTestSession(t, wiki, nil)
	second := newFakeWiki()
	second.api = "https://second.test/w/api.php"
	other, err := s.On(second)
	if err != nil {
		t.Fatal(err)
	}
	login(t, s)
	second.serve = func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Authorization") != "Bearer ACCESSTOKEN-2" {
			return answer(200, `{"error":{"code":"mwoauth-invalid-authorization"}}`), nil
		}
		return answer(200, `{"ok":1}`), nil
	}
	if body, err := get(t.Context(), other); err != nil || body != `{"ok":1}` {
		t.Errorf("%q, %v", body, err)
	}
	if n := len(second.tokenRequests()); n != 0 {
		t.Error("a token request went to the second wiki")
	}
	if _, err := get(t.Context(), s); err != nil {
		t.Error(err)
	}
	second.api = "http://second.test/w/api.php"
	if _, err := s.On(second); err == nil {
		t.Error("plain http is taken")
	}
}

func TestCookiesOfUsersAreApart(t *testing.T) {
	wiki := newFakeWiki()
	alice, bob := newTestSession(t, wiki, nil), newTestSession(t, wiki, nil)
	login(t, alice)
	wiki.serve = func(req *http.Request) (*http.Response, error) {
		resp := answer(200, "{}")
		resp.Header["Set-Cookie"] = []string{"cpPosIndex=1; path=/", "sessionJwt=HIDDEN; path=/"}
		return resp, nil
	}
	get(t.Context(), alice)
	get(t.Context(), alice)
	login(t, bob)
	get(t.Context(), bob)
	log := wiki.requests()
	if got := log[2].Header.Get("Cookie"); got != "cpPosIndex=1" {
		t.Errorf("Alice's cookies are %q, want cpPosIndex alone", got)
	}
	for _, req := range log[3:] {
		if req.Header.Get("Cookie") != "" {
			t.Errorf("%s carries %q", req.URL.Path, req.Header.Get("Cookie"))
		}
	}
}

// TestSecretsNeverPrint prints everything in every way and looks for what must
// not be there.
func TestSecretsNeverPrint(t *testing.T) { synctest.Test(t, testSecretsNeverPrint) }

func testSecretsNeverPrint(t *testing.T) {
	var log bytes.Buffer
	wiki := newFakeWiki()
	store := new(memory)
	s := newTestSession(t, wiki, &Options{Store: store, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	state, _ := url.Parse(authorizeURL(t, s))
	secrets := []string{"CLIENTSECRET", "ACCESSTOKEN-", "REFRESHTOKEN-", "AUTHORIZATIONCODE", state.Query().Get("state"), s.core.current.Load().pending.Verifier}
	var out bytes.Buffer
	show := func(v any) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		data, _ := json.Marshal(v)
		out.Write(data)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("a", "v", v)
		}
	}
	everything := func() {
		show(s)
		show(testClient)
		show(testClient.Secret)
		show(&testClient)
		show(struct{ client Client }{testClient})
		show(struct {
			Session *Session
			client  *Client
		}{s, &testClient})
		show([]any{s, testClient})
	}
	everything()
	callback := callbackFor(t, s)
	show(s.Complete(t.Context(), callback+"%zz"))
	show(s.Complete(t.Context(), callback+"&code=AUTHORIZATIONCODE"))
	show(s.Complete(t.Context(), callback+"x"))
	show(s.Complete(t.Context(), "http://[::1/"+callback))
	show(s.Complete(t.Context(), callback+"&iss=https://evil.test"))
	echo := func(form url.Values, req *http.Request) (*http.Response, error) {
		return answer(400, `{"error":"invalid_scope","error_description":"`+form.Encode()+`","hint":"`+form.Get("code")+form.Get("refresh_token")+`"}`), nil
	}
	garbage := func(form url.Values, req *http.Request) (*http.Response, error) {
		return answer(200, form.Encode()), nil
	}
	failure := func(form url.Values, req *http.Request) (*http.Response, error) {
		return nil, errors.New("dial with " + form.Encode())
	}
	for i, token := range []func(url.Values, *http.Request) (*http.Response, error){garbage, failure, echo} {
		wiki.token = token
		show(s.Complete(t.Context(), callback+"&x="+fmt.Sprint(i)))
		show(s.Complete(t.Context(), callback))
	}
	wiki.token = nil
	login(t, s)
	everything()
	for _, token := range []func(url.Values, *http.Request) (*http.Response, error){garbage, failure, echo} {
		wiki.token = token
		show(s.Refresh(t.Context()))
		wiki.expire()
		_, err := get(t.Context(), s)
		show(err)
	}
	wiki.token = nil
	s.core.held.Store(nil)
	resp, err := s.HTTPClient().Get(wiki.api)
	show(err)
	show(resp)
	show(resp.Request)
	store.fail(errors.New("disk full"))
	show(s.Refresh(t.Context()))
	out.Write(log.Bytes())
	if !strings.Contains(log.String(), "tokens refreshed") || !strings.Contains(log.String(), "logged in") {
		t.Errorf("the log tells nothing: %s", log.String())
	}
	for _, secret := range secrets {
		for name, form := range map[string]string{"": secret, "hex ": fmt.Sprintf("%x", secret), "HEX ": fmt.Sprintf("%X", secret)} {
			if i := strings.Index(out.String(), form); i >= 0 {
				t.Errorf("%s%q is printed: …%s…", name, secret, out.String()[max(0, i-200):i+30])
			}
		}
	}
}
